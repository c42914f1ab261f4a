// The field that finds concepts by number, name, layer or class, in the view that `current` returns.
function searchIn(current) {
  const field = document.getElementById("search"), found = document.getElementById("found"), count = document.getElementById("found-count");

  function matches(text) {
    const wanted = text.trim().toLowerCase(), view = current(), hits = [];
    if (!wanted) return hits;
    for (const table of view.tables) {
      for (let concept = 0; concept < table.size; concept++) {
        const share = table.share(concept) ?? 0, user = table.users[concept]?.find(name => name.toLowerCase().includes(wanted));
        const named = `${table.layer}/${concept}`.toLowerCase(), called = table.nameOf(concept).toLowerCase();
        const exact = String(concept) === wanted || named === wanted || called === wanted;
        if (exact || String(concept).startsWith(wanted) || named.includes(wanted) || called.includes(wanted) || user) {
          hits.push({ layer: table.layer, concept, table, share, user: exact ? undefined : user, exact });
        }
      }
    }
    return hits.sort((a, b) => b.exact - a.exact || Math.abs(b.share) - Math.abs(a.share));
  }

  function list() {
    const hits = matches(field.value);
    found.replaceChildren(...hits.slice(0, LISTED).map(hit => {
      const button = element("button", { type: "button" }, hit.table.glimpse(hit.concept),
        element("span", {}, element("bdi", {}, hit.layer), ` · ${hit.concept} `, element("bdi", {}, hit.table.nameOf(hit.concept))), element("span", { class: "user" }, hit.user ?? ""), element("strong", {}, signed(hit.share)));
      button.addEventListener("click", () => { reach(hit); });
      return element("li", {}, button);
    }));
    found.hidden = !hits.length;
    count.textContent = field.value.trim() ? `${hits.length} concept${hits.length === 1 ? "" : "s"} found` : "";
  }

  function reach(hit) {
    found.hidden = true;
    current().go(hit.layer, hit.concept);
  }

  field.addEventListener("input", list);
  field.addEventListener("focus", list);
  field.addEventListener("keydown", event => {
    const hits = matches(field.value);
    // Without preventDefault, Enter would go on to press the button that gets the focus.
    if (event.key === "Enter" && hits.length) { event.preventDefault(); reach(hits[0]); }
    else if (event.key === "ArrowDown" && !found.hidden) { event.preventDefault(); found.querySelector("button").focus(); }
    else if (event.key === "Escape") { found.hidden = true; event.stopPropagation(); }
  });
  found.addEventListener("keydown", event => {
    const buttons = all("button", found), at = buttons.indexOf(document.activeElement);
    if (event.key === "Escape") { found.hidden = true; field.focus(); event.stopPropagation(); return; }
    if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
    event.preventDefault();
    (buttons[at + (event.key === "ArrowDown" ? 1 : -1)] ?? field).focus();
  });
  document.addEventListener("pointerdown", event => { if (!event.target.closest(".search")) found.hidden = true; });
}
