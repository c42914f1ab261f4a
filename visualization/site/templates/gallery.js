// One prediction among the others: picture, classes, top concepts.
// Number of top concepts below a picture, all of the first layer.
const TOP = 4;
const NAME_LENGTH = 16;

function predictionItem(index, prediction, { chosen, share, sortedByDeviation, picked, pick }) {
  const { name, target, value, best, label: truth, right, deviation, shares } = prediction;
  const face = element("a", { class: "face", href: index.page(prediction) },
    element("img", { src: index.picture(prediction), alt: "", loading: "lazy" }),
    element("strong", {}, element("bdi", {}, target)), " ", element("span", { class: "sure" }, value));
  const file = element("span", { class: "file" }, element("bdi", {}, name));
  if (best && best !== target) file.append(", predicted as ", element("bdi", {}, best));
  face.append(" ", file);
  if (truth) face.append(" ", element("span", { class: `truth ${right ? "right" : "wrong"}` }, right ? "✓ right" : "✗ wrong", ", labelled ", element("bdi", {}, truth)));
  if (sortedByDeviation) face.append(" ", element("span", { class: "found" }, deviation === null ? "no deviation known" : `deviates by ${percent(deviation)}`));
  if (chosen) face.append(" ", element("span", { class: `found ${side(share)}` }, element("bdi", {}, index.heading(chosen)), " ", element("b", {}, printed(share))));
  const [layer] = index.layers, top = element("ul", { class: "top-concepts", "aria-label": `Its top concepts in ${layer.name}` });
  for (const [concept, part] of shares[0].slice(0, TOP)) {
    const key = { layer, concept }, named = index.nameOf(key);
    const link = element("a", { href: index.conceptPage(key), title: `concept ${concept} of ${layer.name}${named ? `: ${named}` : ""}` }, index.glimpse(key),
      element("span", {}, element("span", { class: "unseen" }, "concept "), element("bdi", {}, label(concept, named, NAME_LENGTH))), " ", element("b", {}, printed(part)));
    top.append(element("li", { class: side(part), "data-layer-name": layer.name, "data-concept": concept }, link));
  }
  const box = element("input", { type: "checkbox" });
  box.checked = picked;
  box.addEventListener("change", () => pick(box.checked));
  return element("li", { class: "prediction", "data-page": prediction.page }, face, top,
    element("label", { class: "to-compare" }, box, " compare", element("span", { class: "unseen" }, " ", element("bdi", {}, name))));
}
