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

// #LAYER/CONCEPT@VIEW&without=LAYER/IDS: the concept that is kept, the view, and the concepts that are switched off;
// &mean=LAYER/IDS if they are at their means.
function address() {
  const { pinned, index } = views[current], { layer, off, mean } = removal;
  const view = index && (pinned || layer) ? `@${index}` : "", kept = pinned ? `${encodeURIComponent(pinned.layer)}/${pinned.concept}` : "";
  const without = layer === null ? "" : `&${mean ? "mean" : "without"}=${encodeURIComponent(layer)}/${off.join()}`;
  const hash = kept + view + without;
  try { history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search); } catch { /* a notebook's frame has no address of its own */ }
}

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
for (const button of scales) {
  button.addEventListener("click", () => {
    document.body.classList.toggle("own-scale", button.dataset.scale === "own");
    for (const other of scales) other.setAttribute("aria-pressed", other === button);
  });
}

function decoded(text) {
  try { return decodeURIComponent(text); } catch { return text; /* a stray percent sign: taken as it is */ }
}

function follow() {
  const [kept, how, without] = location.hash.slice(1).split(/&(without|mean)=/), hash = decoded(kept);
  const off = without && decoded(without).match(/^(.*)\/(\d+(?:,\d+)*)$/s);
  reach(hash);
  if (!off) return;
  if (!views[current].pinned && views[current].layerNamed(off[1]) >= 0) views[current].open(views[current].layerNamed(off[1]));
  removal.set(off[1], [...new Set(off[2].split(",").map(Number))], how === "mean");
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
new Parts(views);
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
