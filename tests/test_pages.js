// tests/test_pages.py runs this in a page: it returns all that is wrong with it in the present theme and width.
// Text is judged by its colour and what is under it, the answers of exercises and the hidden tabs of a set included.
// Not judged is what no reader sees: text without a box, or transparent until a pointer is over it.
const problems = [];
const root = document.documentElement;
const quote = (node) => `"${node.textContent.trim().replace(/\s+/g, " ").slice(0, 40)}"`;
const name = (element) => `<${element.tagName.toLowerCase()} class="${element.getAttribute("class") ?? ""}">`;

// A colour as [red, green, blue, alpha], each from 0 to 1.
function parse(colour) {
  const numbers = (colour.match(/[\d.]+(?:e-?\d+)?/g) ?? [0, 0, 0, 0]).map(Number);
  const unit = colour.startsWith("color(") ? 1 : 255;
  return [...numbers.slice(0, 3).map((c) => c / unit), numbers[3] ?? 1];
}

const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);

function luminance(colour) {
  const [r, g, b] = colour.map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

function contrast(a, b) {
  const [dark, light] = [luminance(a), luminance(b)].sort((x, y) => x - y);
  return (light + 0.05) / (dark + 0.05);
}

const backgrounds = new Map();
function background(element) {
  if (!element) return [1, 1, 1, 1];
  if (!backgrounds.has(element))
    backgrounds.set(element, over(parse(getComputedStyle(element).backgroundColor), background(element.parentElement)));
  return backgrounds.get(element);
}

// What is under a text of a drawing: the shapes before it that cover its middle.
function drawnBackground(text) {
  const svg = text.ownerSVGElement, box = text.getBoundingClientRect();
  let below = background(svg);
  for (const shape of svg.querySelectorAll("rect, path, circle, ellipse, polygon")) {
    if (shape.closest("defs") || !(shape.compareDocumentPosition(text) & Node.DOCUMENT_POSITION_FOLLOWING)) continue;
    const style = getComputedStyle(shape), [r, g, b, alpha] = parse(style.fill);
    const middle = new DOMPoint(box.x + box.width / 2, box.y + box.height / 2);
    const covers = shape.isPointInFill(middle.matrixTransform(shape.getScreenCTM().inverse()));
    if (style.fill !== "none" && covers) below = over([r, g, b, alpha * style.fillOpacity * style.opacity], below);
  }
  const { paintOrder, stroke, strokeWidth } = getComputedStyle(text);        // a halo is what the letters are on
  return paintOrder.startsWith("stroke") && parseFloat(strokeWidth) >= 2 ? over(parse(stroke), below) : below;
}

const opacities = new Map();
function opacity(element) {
  if (!element) return 1;
  if (!opacities.has(element))
    opacities.set(element, getComputedStyle(element).opacity * opacity(element.parentElement));
  return opacities.get(element);
}

const NOT_SHOWN = "script, style, noscript, template, title, desc";
const judged = new Set();
function judgeText() {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, element = node.parentElement;
    if (!node.data.trim() || judged.has(element) || element.closest(NOT_SHOWN)) continue;
    judged.add(element);
    if (!element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    const style = getComputedStyle(element), drawn = element.closest("text");
    const below = drawn ? drawnBackground(drawn) : background(element);
    const colour = parse(drawn ? style.fill : style.color);
    colour[3] *= opacity(element) * (drawn ? style.fillOpacity : 1);
    const ratio = contrast(over(colour, below), below);
    if (ratio < 6.995) problems.push(`contrast: ${ratio.toFixed(2)} of ${quote(node)} in ${name(element)}`);
  }
}

function judgeLayout() {
  for (let box = document.querySelector("article") ?? document.body; box; box = box.parentElement)
    if (box.scrollWidth > box.clientWidth + 1 && (box === root || getComputedStyle(box).overflowX !== "visible")) {
      const wide = [...document.body.querySelectorAll("*")].filter((e) => e.getBoundingClientRect().right > innerWidth);
      problems.push(`overflow: ${name(box)} by ${box.scrollWidth - box.clientWidth}: ${wide.slice(0, 3).map(name)}`);
      break;
    }
  for (const box of document.querySelectorAll("pre, .table-wrapper, div.math, figure, figure.drawing > div"))
    if (box.scrollWidth > box.clientWidth + 1 && getComputedStyle(box).overflowX !== "visible" && box.tabIndex < 0)
      problems.push(`focus: ${name(box)} scrolls and cannot be focused`);
}

function judgeNames() {
  for (const link of document.querySelectorAll("a[href]")) {
    const text = link.innerText ?? link.textContent, image = link.querySelector("img[alt]:not([alt=''])");
    if (link.checkVisibility({ visibilityProperty: true }) && !text.trim() && !link.ariaLabel && !image)
      problems.push(`link: ${link.getAttribute("href")} has no name`);
  }
  for (const image of document.images) {
    if (!image.hasAttribute("alt")) problems.push(`image: ${image.getAttribute("src")} has no alternative text`);
    if (!image.naturalWidth) problems.push(`image: ${image.getAttribute("src")} is not shown`);
  }
}

const done = arguments[arguments.length - 1];
document.querySelectorAll("details").forEach((details) => (details.open = true));
document.head.appendChild(document.createElement("style")).textContent =
  "* { transition: none !important } .sd-tab-content { display: block !important }";
const images = [...document.images].map((image) => ((image.loading = "eager"), image.decode().catch(() => 0)));
const frame = () => new Promise(requestAnimationFrame);
Promise.all(images).then(frame).then(frame).then(() => {
  judgeText();
  judgeLayout();
  judgeNames();
  done(problems);
}).catch((error) => done([`script: ${error.stack}`]));
