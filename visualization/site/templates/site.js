"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  document.body.classList.add("live");
  for (const patch of all(".patches b")) patch.title = patch.textContent;

  // A prediction's page: those before and after it.
  const turn = document.querySelector("[data-place]");
  if (turn) {
    const at = window.predictions.findIndex(([page]) => page === turn.dataset.place);
    const link = (to, relation, before, after) => {
      if (at < 0 || !window.predictions[to]) return;
      const [page, name] = window.predictions[to], made = document.createElement("a"), text = document.createElement("bdi");
      Object.assign(made, { href: `${page}.html`, rel: relation });
      text.textContent = name;
      made.append(before, text, after);
      turn.append(made);
    };
    link(at - 1, "prev", "← ", "");
    link(at + 1, "next", "", " →");
  }

  // The page of a layer: its concepts, narrowed.
  const list = document.querySelector(".concepts-of"), bar = document.querySelector(".filters");
  if (!list) return;
  const field = bar.querySelector("#filter"), only = bar.querySelector("#only"), count = bar.querySelector("#count");
  const items = all(":scope > li", list), nothing = document.querySelector(".nothing");
  bar.hidden = false;

  // Text that holds what was typed; a number that was typed is not part of a longer one.
  function holds(text, wanted) {
    const digit = at => /\d/.test(text.charAt(at)), whole = /^\d/.test(wanted), ended = /\d$/.test(wanted);
    for (let at = text.indexOf(wanted); at >= 0; at = text.indexOf(wanted, at + 1)) {
      if (!(whole && digit(at - 1)) && !(ended && digit(at + wanted.length))) return true;
    }
    return false;
  }

  function narrow() {
    const wanted = field.value.trim().toLowerCase();
    let shown = 0;
    for (const item of items) {
      item.hidden = !((!wanted || holds(item.dataset.text, wanted)) && (!only.value || item.dataset.class === only.value));
      if (!item.hidden) shown += 1;
    }
    count.textContent = `${shown} of ${items.length} ${list.dataset.unit}`;
    nothing.hidden = shown > 0;
    bar.querySelector("#all").disabled = !wanted && !only.value;
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
