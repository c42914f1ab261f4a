"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  document.body.classList.add("live");
  for (const image of all(".tile img[alt]:not([alt=''])")) image.title = image.alt;

  const bar = document.querySelector(".filters");
  if (!bar) return;
  const field = bar.querySelector("#filter"), only = bar.querySelector("#only"), count = bar.querySelector("#count");
  const list = document.querySelector("[data-unit]"), items = all(":scope > li", list), nothing = document.querySelector(".nothing");
  bar.hidden = false;

  function narrow() {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const item of items) {
      // A number means a concept's number from its beginning, not a digit in the middle of another.
      const terms = item.dataset.text.split(/\s+/);
      const fits = words.every(word => /^\d+$/.test(word) ? terms.some(term => term.startsWith(word) || term.endsWith(`/${word}`)) : item.dataset.text.includes(word));
      item.hidden = !(fits && (!only.value || item.dataset.class === only.value));
      if (!item.hidden) shown += 1;
    }
    count.textContent = `${shown} of ${items.length} ${list.dataset.unit}`;
    nothing.hidden = shown > 0;
    bar.querySelector("#all").disabled = !words.length && !only.value;
  }

  function clear() {
    field.value = only.value = "";
    narrow();
    field.focus();
  }

  field.addEventListener("input", narrow);
  only.addEventListener("change", narrow);
  field.addEventListener("keydown", event => {
    if (event.key === "Escape") { event.preventDefault(); clear(); }
    const first = items.find(item => !item.hidden);
    if (event.key === "Enter" && first && (field.value || only.value)) location.href = first.querySelector("a").href;
  });
  for (const button of [bar.querySelector("#all"), nothing.querySelector("button")]) button.addEventListener("click", clear);
  // A browser that goes back may have kept what was typed.
  narrow();
})();
