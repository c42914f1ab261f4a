// What the listed predictions have in common: concepts that have a card in many of them.
const COMMON = 8;

// Those that are more frequent among the listed predictions than among the others; if all are listed, the most frequent.
function inCommon(index, found) {
  const listed = new Set(found.map(({ place }) => place)), others = index.predictions.length - found.length, counted = new Map();
  for (const { place, shares } of index.predictions) shares.forEach((pairs, at) => {
    for (const [concept, share] of pairs) {
      const name = `${at}/${concept}/${side(share)}`;
      if (!counted.has(name)) counted.set(name, { layer: index.layers[at], concept, side: side(share), here: 0, elsewhere: 0 });
      counted.get(name)[listed.has(place) ? "here" : "elsewhere"]++;
    }
  });
  const more = ({ here, elsewhere }) => here / found.length - (others ? elsewhere / others : 0);
  return [...counted.values()].filter(key => key.here > 1 && more(key) > 0)
    .sort((a, b) => more(b) - more(a) || b.here - a.here || a.layer.index - b.layer.index || a.concept - b.concept).slice(0, COMMON);
}

class CommonConcepts {
  // narrowed(concept) is the address of the listed predictions, narrowed to a concept.
  constructor(index, root, narrowed) { Object.assign(this, { index, root, narrowed }); }

  show(found) {
    const { index, root } = this, others = index.predictions.length - found.length, some = found.length > 1 ? inCommon(index, found) : [];
    root.hidden = found.length < 2;
    root.querySelector("h2").textContent = `What ${others ? "these" : "all"} ${found.length} predictions share`;
    root.querySelector("ul").replaceChildren(...some.map(key => element("li", { class: key.side, "data-layer-name": key.layer.name, "data-concept": key.concept },
      element("a", { href: this.narrowed(`${key.layer.name}/${key.concept}`), title: "Only those in which it holds at least 1\u00a0% of the layer" }, index.glimpse(key),
        element("span", {}, element("bdi", {}, index.heading(key)), ` ${key.side === "supports" ? "for" : "against"}`)),
      element("span", { class: "in" }, `in ${key.here}`, others ? `; in ${key.elsewhere} of the others` : ""))));
    for (const part of root.querySelectorAll(".rare")) part.hidden = !others;
    root.querySelector(".none").hidden = some.length > 0;
    root.querySelector(".what").hidden = !some.length;
  }
}
