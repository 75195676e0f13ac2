/* Loaded by every page: a box that scrolls sideways can be focused, so that the arrow keys scroll it. */
"use strict";

const BOXES = { "article pre": "Code", ".table-wrapper": "Table", "div.math": "Equation", "article figure": "Figure",
  "figure.drawing > div": "Drawing" };

function markScrollable() {
  for (const [selector, name] of Object.entries(BOXES))
    for (const box of document.querySelectorAll(selector)) {
      const scrolls = box.scrollWidth > box.clientWidth + 1;
      if (scrolls === box.hasAttribute("tabindex")) continue;
      if (scrolls) {
        box.tabIndex = 0;
        box.setAttribute("role", "region");
        box.setAttribute("aria-label", `${name}, scrolls sideways`);
      } else for (const attribute of ["tabindex", "role", "aria-label"]) box.removeAttribute(attribute);
    }
}

/* The captions of the side bar are headings for the theme, which gives them no level. */
for (const caption of document.querySelectorAll('.caption[role="heading"]')) caption.setAttribute("aria-level", "2");

window.addEventListener("load", markScrollable);
window.addEventListener("resize", markScrollable);
document.addEventListener("change", markScrollable);            /* another tab of a set */
document.addEventListener("toggle", markScrollable, true);      /* an exercise's answer is opened */
