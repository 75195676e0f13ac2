/* The search page.  BOOK, from search_texts.js: [address, title, [[anchor, heading, text], ...]] of every page.
   A section's score is BM25 in which a word of its heading, or of the page's title or address, counts several times.
   A page's score is that of its best section and a little of the others.  It must have every word of the query. */
"use strict";

const LESS = {      /* pages and folders that a reader rarely looks for; others count 1 */
  "changelog.html": 0.3, "release.html": 0.3, "references.html": 0.4, "tree.html": 0.4, "index.html": 0.6,
  "gallery/": 0.7, "api": 0.6, "decisions.html": 0.6, "contributing.html": 0.6, "glossary.html": 0.8, "house.html": 0.8,
};
const HEADING = 6, TITLE = 5, PHRASE = 3;       /* how many occurrences in the text each is worth */
const EXCERPT = 260;                            /* characters */

const escapeRegExp = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
const count = (pattern, text) => (text.match(pattern) ?? []).length;

/* How often a word is in a text: 1 for each whole word, half of it for the beginning of one. */
function makeCounter(word) {
  const start = `(?<![\\p{L}\\p{N}_])${escapeRegExp(word)}`;
  const whole = new RegExp(`${start}(?:s|es)?(?![\\p{L}\\p{N}_])`, "giu"), prefix = new RegExp(start, "giu");
  return (text) => (count(whole, text) + count(prefix, text)) / 2;
}

function weigh(page) {
  return LESS[page] ?? LESS[page.match(/^(?:api|.*\/)/)?.[0]] ?? 1;
}

function rank(book, query) {
  const words = [...new Set(query.toLowerCase().match(/[\p{L}\p{N}_]+/gu) ?? [])];
  const sections = book.flatMap(([page, title, parts]) =>
    parts.map(([anchor, heading, text]) => ({ page, title, anchor, heading, text })));
  const mean = sections.reduce((sum, { text }) => sum + text.length, 0) / sections.length;
  const phrase = words.length > 1 ? makeCounter(query.toLowerCase().trim()) : null;
  const scores = new Map(sections.map((section) => [section, 0]));
  for (const word of words) {
    const counter = makeCounter(word);
    const found = sections.map(({ page, title, heading, text }) =>
      HEADING * counter(heading) + TITLE * counter(`${title} ${page}`) + counter(text));
    const pages = new Set(sections.filter((_, i) => found[i]).map(({ page }) => page));
    const rarity = Math.log(1 + book.length / (1 + pages.size));
    sections.forEach((section, i) => {
      const exact = phrase ? PHRASE * (phrase(section.text) + HEADING * phrase(section.heading)) : 0;
      const n = found[i] + exact, size = 0.4 + (0.6 * section.text.length) / mean;
      const score = scores.get(section) + (rarity * n) / (n + 3 * size);
      scores.set(section, pages.has(section.page) ? score : NaN);       /* a word that the page lacks */
    });
  }
  const results = new Map();
  for (const section of sections) {
    const score = scores.get(section) * weigh(section.page);
    if (!(score > 0)) continue;
    const result = results.get(section.page) ?? { best: 0, sum: 0 };
    if (score > result.best) Object.assign(result, { section, best: score });
    result.sum += score;
    results.set(section.page, result);
  }
  return { words, results: [...results.values()].sort((a, b) => b.best + b.sum / 20 - a.best - a.sum / 20) };
}

/* The part of a text where the words are, with each of them marked. */
function makeExcerpt(text, words) {
  const pattern = new RegExp(`(?<![\\p{L}\\p{N}_])(${words.map(escapeRegExp).join("|")})`, "giu");
  const places = [...text.matchAll(pattern)].map((match) => match.index);
  const near = (from) => places.filter((place) => place >= from && place < from + EXCERPT);
  const covered = (from) => new Set(near(from).map((place) => text.slice(place, place + 4).toLowerCase())).size;
  const best = places.reduce((a, b) => (covered(b) > covered(a) ? b : a), places[0] ?? 0);
  const from = best < 60 ? 0 : text.lastIndexOf(" ", best - 60) + 1;
  const shown = text.slice(from, from + EXCERPT);
  const excerpt = document.createElement("p");
  excerpt.className = "context";
  excerpt.append(from ? "… " : "");
  for (const part of shown.split(pattern)) {
    const mark = words.includes(part.toLowerCase()) ? document.createElement("mark") : null;
    if (mark) mark.textContent = part;
    excerpt.append(mark ?? part);
  }
  excerpt.append(from + EXCERPT < text.length ? " …" : "");
  return excerpt;
}

function show(query) {
  const out = document.getElementById("search-results"), list = document.createElement("ul");
  const { words, results } = rank(BOOK, query), status = document.createElement("p");
  status.textContent = `${results.length || "No"} page${results.length === 1 ? "" : "s"} with ${words.join(" and ")}.`;
  list.className = "search";
  for (const { section } of results) {
    const item = document.createElement("li"), link = document.createElement("a");
    link.href = `${section.page}#${section.anchor}`;
    link.textContent = section.heading === section.title ? section.title : `${section.title}: ${section.heading}`;
    item.append(link, makeExcerpt(section.text, words));
    list.append(item);
  }
  out.replaceChildren(status, list);
}

const query = new URLSearchParams(location.search).get("q") ?? "";
for (const input of document.querySelectorAll('input[name="q"]')) input.value = query;
if (query.trim()) show(query);
