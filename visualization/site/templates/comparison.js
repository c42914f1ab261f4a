// Two predictions, or two concepts, as the address names them: compare.html#prediction=a&prediction=b, or #concept=layer/1&...
const index = new SiteIndex(window.siteIndex), ROWS = 15;
const lead = document.querySelector(".lead"), beside = document.querySelector(".beside");
const difference = document.querySelector(".difference"), choice = difference.querySelector("select"), more = difference.querySelector(".more");
const choose = document.querySelector(".choose"), other = choose.querySelector("input");
let rows = [], pair = [];

function column(title, href, picture) {
  const link = element("a", { href }, ...picture ? [picture] : [], element("bdi", {}, title));
  return element("section", { "aria-label": title }, element("h2", {}, link), element("iframe", { src: href, title }));
}

function show() {
  const given = new URLSearchParams(location.hash.slice(1));
  const predictions = given.getAll("prediction").map(page => index.predictions.find(prediction => prediction.page === page));
  const concepts = given.getAll("concept").map(text => index.find(text));
  const found = [...predictions, ...concepts];
  difference.hidden = true;
  beside.replaceChildren();
  const [kind] = given.keys(), one = found.length === 1 && found[0];
  choose.hidden = !one;
  if (one) {
    lead.replaceChildren(element("bdi", {}, kind === "concept" ? index.heading(one) : one.name), " beside another one:");
    choose.querySelector("span").textContent = kind === "concept" ? "Concept" : "Prediction";
    other.placeholder = kind === "concept" ? "layer/number or name" : "file name";
    return;
  }
  if (found.length !== 2 || found.includes(undefined) || found.includes(null)) {
    const pages = index.layers.flatMap((layer, at) => [at ? ", " : "", element("a", { href: `${layer.place}/index.html` }, element("bdi", {}, layer.name))]);
    lead.replaceChildren(`${found.length ? "This address does not name two predictions or two concepts of the site. " : ""}Choose two predictions on `, element("a", { href: "index.html" }, "the first page"), ", or two concepts on the page of a layer: ", ...pages, ".");
    return;
  }
  if (predictions.length === 2) {
    pair = predictions;
    lead.replaceChildren(...predictions.flatMap(({ name, target, value, label: truth, right }, at) => [at ? " beside " : "", element("bdi", {}, name), " (", element("bdi", {}, target), ` ${value}`, ...truth ? [right ? ", right" : ", wrong: labelled ", right ? "" : element("bdi", {}, truth)] : [], ")"]), ".");
    beside.append(...predictions.map(prediction => column(prediction.name, index.page(prediction), element("img", { src: index.picture(prediction), alt: "" }))));
    choice.value = given.get("layer") ?? index.layers[0].name;
    compare();
  } else {
    lead.replaceChildren(...concepts.flatMap((concept, at) => [at ? " beside " : "", element("bdi", {}, index.heading(concept))]), ".");
    beside.append(...concepts.map(concept => column(index.heading(concept), index.conceptPage(concept), null)));
  }
}

async function compare() {
  const layer = index.layer(choice.value) ?? index.layers[0], shares = await index.sharesIn(layer);
  const [a, b] = pair.map(({ place }) => place);
  rows = [];
  for (const [concept, flat] of Object.entries(shares)) {
    const of = new Map(index.pairs(flat)), one = of.get(a) ?? 0, two = of.get(b) ?? 0;
    if (one || two) rows.push({ key: { layer, concept: Number(concept) }, one, two, difference: one - two, shown: inTenths(one) - inTenths(two) });
  }
  rows.sort((x, y) => Math.abs(inTenths(y.shown)) - Math.abs(inTenths(x.shown)) || Math.abs(y.difference) - Math.abs(x.difference) || x.key.concept - y.key.concept);
  difference.querySelector(".a").replaceChildren(element("bdi", {}, pair[0].name));
  difference.querySelector(".b").replaceChildren(element("bdi", {}, pair[1].name));
  draw(ROWS);
  difference.hidden = false;
}

// A difference as a bar from the middle, of the largest one.
const bar = part => element("td", { class: `by ${side(part)}`, "aria-hidden": "true" }, element("span", { class: "bar" }, element("i", { style: `width:${(50 * Math.abs(part)).toFixed(2)}%` })));

function draw(count) {
  const number = share => element("td", { class: side(share) }, share ? printed(share) : "0");
  const largest = Math.abs(rows[0]?.shown) || 1;
  difference.querySelector("tbody").replaceChildren(...rows.slice(0, count).map(({ key, one, two, shown }) => element("tr", { "data-layer-name": key.layer.name, "data-concept": key.concept },
    element("th", { scope: "row" }, element("a", { href: index.conceptPage(key) }, index.glimpse(key), element("bdi", {}, index.nameOf(key) ? label(key.concept, index.nameOf(key)) : `Concept ${key.concept}`))), number(one), number(two), number(inTenths(shown)), bar(inTenths(shown) / largest))));
  more.hidden = count >= rows.length;
  more.textContent = `Show all ${rows.length} concepts`;
}

// The second one, if the address names only one.
choose.addEventListener("submit", event => {
  event.preventDefault();
  const given = new URLSearchParams(location.hash.slice(1)), [kind] = given.keys(), text = other.value.trim();
  const found = kind === "concept" ? index.find(text) : text && index.predictions.find(({ name }) => name.toLowerCase().includes(text.toLowerCase()));
  other.setAttribute("aria-invalid", !found);
  if (!found) return;
  given.append(kind, kind === "concept" ? `${found.layer.name}/${found.concept}` : found.page);
  history.pushState(null, "", `#${given}`);
  show();
});
choice.addEventListener("change", () => {
  const given = new URLSearchParams(location.hash.slice(1));
  given.set("layer", choice.value);
  history.pushState(null, "", `#${given}`);
  compare();
});
more.addEventListener("click", () => { draw(rows.length); difference.querySelector("a").focus(); });
difference.querySelector("[data-take=link]").addEventListener("click", event => copyAddress(event.target));
difference.querySelector("[data-take=csv]").addEventListener("click", () => download("difference.csv",
  csv([["layer", "concept", "name", ...pair.map(({ name }) => name), "difference"], ...rows.map(({ key, one, two, difference }) => [key.layer.name, key.concept, index.nameOf(key), one, two, difference])]), "text/csv"));
window.addEventListener("popstate", show);
document.addEventListener("renamed", show);
show();
