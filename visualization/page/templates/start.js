// The whole page: its views, the choice between them, the scale of heatmaps, addresses.
document.body.classList.add("live");
// What the numbers of cards mean stands once, below.
const means = Object.fromEntries(all("[id^=means-]").map(place => [place.id.slice(6), place.textContent]));
const NAMED = { layer: "share of the layer: ", prediction: "share of the prediction: " };
function prepare(place) {
  closeFolds(place);
  for (const patch of all(".patches b", place)) patch.title = patch.textContent;
  for (const told of all("[data-means]", place)) told.title = told.dataset.means.split(" ").map(name => (NAMED[name] ?? "") + means[name]).join("; ");
}
prepare(document);
document.addEventListener("filled", event => prepare(event.detail.place));

const tables = JSON.parse(document.getElementById("atlas-cells").textContent).map(view => view.map(layer => new Table(layer)));
tables.flat().forEach(table => { if (table.difference) table.others = table.difference.map(view => tables[view].find(other => other.layer === table.layer)); });
const views = [];
for (const [index, root] of all(".view").entries()) views.push(new View(root, tables[index], address));
const switches = all("[data-switch]");
let current = 0;
const removal = new Switch(() => views[current], address);

// #LAYER/CONCEPT@VIEW, the concept that is kept and the view, and what else the page is set to: &without=LAYER/IDS or
// &mean=LAYER/IDS, concepts that are switched off, and &scale=own. Links of parts have &region=LAYER/CELLS, too.
function address() {
  const { pinned, index } = views[current];
  const view = index && (pinned || removal.layer) ? `@${index}` : "", kept = pinned ? `${encodeURIComponent(pinned.layer)}/${pinned.concept}` : "";
  const hash = kept + view + settings();
  try { history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search); } catch { /* a notebook's frame has no address of its own */ }
}

function settings() {
  const { layer, off, mean } = removal, own = document.body.classList.contains("own-scale");
  return (layer === null ? "" : numbered(mean ? "mean" : "without", layer, off)) + (own ? "&scale=own" : "");
}

function numbered(name, layer, numbers) { return `&${name}=${encodeURIComponent(layer)}/${numbers.join()}`; }

function turn(index) {
  const from = views[current], to = views[index];
  views.forEach((view, i) => { view.root.hidden = i !== index; });
  switches.forEach((button, i) => button.setAttribute("aria-pressed", i === index));
  current = index;
  if (from === to) return;
  // What was looked at stays in sight, so that two classes can be compared.
  const { layer, pinned, region: { selected }, stage: { chosen }, zoom } = from;
  to.stage.chosen = chosen;
  to.open(layer);
  to.zoom.like(zoom);
  to.region.select(selected);
  removal.turn();
  to.pin(pinned, true);
}
switches.forEach((button, index) => button.addEventListener("click", () => turn(index)));

const scales = all("[data-scale]");
function scale(chosen) {
  document.body.classList.toggle("own-scale", chosen === "own");
  for (const button of scales) button.setAttribute("aria-pressed", button.dataset.scale === chosen);
}
for (const button of scales) button.addEventListener("click", () => { scale(button.dataset.scale); address(); });

function decoded(text) {
  try { return decodeURIComponent(text); } catch { return text; /* a stray percent sign: taken as it is */ }
}

// A layer and numbers in it, as `numbered` writes them, if the layer is in the current view.
function listed(text) {
  const [, layer, numbers] = decoded(text ?? "").match(/^(.*)\/(\d+(?:,\d+)*)$/s) ?? [];
  return numbers && { layer, index: views[current].layerNamed(layer), numbers: [...new Set(numbers.split(",").map(Number))] };
}

function follow() {
  const [kept, ...rest] = location.hash.slice(1).split(/&(without|mean|region|scale)=/), set = {};
  for (let at = 0; at < rest.length; at += 2) set[rest[at]] = rest[at + 1];
  reach(decoded(kept));
  if (set.scale === "own") scale("own");
  const view = views[current], off = listed(set.without ?? set.mean), region = listed(set.region);
  if (off && !view.pinned && off.index >= 0) view.open(off.index);
  if (region && region.index >= 0) {
    if (region.index !== view.layer) view.open(region.index);
    view.region.select(new Set(region.numbers.filter(cell => cell < view.region.cells.length)));
  }
  if (off) removal.set(off.layer, off.numbers, "mean" in set);
}

// The card with an id, whose layer may still be packed; null if there is none.
function cardAt(id) {
  const [, view, layer] = id.match(/^(?:view-(\d+)-)?layer-(\d+)-concept-\d+$/) ?? [];
  if (layer && Number(layer) < views[view ?? 0]?.panels.length) views[view ?? 0].fill(Number(layer));
  const found = document.getElementById(id);
  return found?.matches(".card") ? found : null;
}

function reach(hash) {
  const card = cardAt(hash);
  if (card) {
    turn(views.findIndex(view => view.root.contains(card)));
    views[current].go(views[current].tables[card.dataset.layer].layer, Number(card.dataset.concept));
    return;
  }
  // A layer or a graph, as its link names it.
  const part = hash && document.getElementById(hash), inside = part && views.findIndex(view => view.root.contains(part));
  if (part && inside >= 0) {
    turn(inside);
    if (part.matches(".panel")) views[inside].open(Number(part.dataset.layer));
    part.scrollIntoView({ block: "start" });
    return;
  }
  const parts = hash.match(/^(?:(.*)\/(\d+))?(?:@(\d+))?$/s);
  if (!parts) return;
  if (parts[3] && Number(parts[3]) < views.length) turn(Number(parts[3]));
  if (parts[2]) views[current].go(parts[1], Number(parts[2]));
}

searchIn(() => views[current]);
new Parts(views, settings);
document.addEventListener("renamed", () => views[current].renamed());
document.addEventListener("keydown", event => {
  if (event.key !== "Escape") return;
  const view = views[current];
  if (view.region.selected.size) view.region.select(new Set());
  else if (view.pinned) view.pin(null, true);
  else removal.set(null, []);
});
window.addEventListener("hashchange", follow);
window.addEventListener("beforeprint", () => views.forEach(view => view.fillAll()));
turn(0);
follow();
