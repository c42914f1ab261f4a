// The index: which predictions are shown, in which order; all of it stands in the address.
const PAGE = 48;
const index = new SiteIndex(window.siteIndex);
const form = document.querySelector(".triage"), list = document.querySelector(".gallery"), count = document.getElementById("count");
const nothing = document.querySelector(".nothing"), turning = document.querySelector(".turning"), compare = document.querySelector(".comparing");
const fields = Object.fromEntries(all("[data-field]", form).map(field => [field.dataset.field, field]));
const meaning = document.querySelector(".deviation-means"), known = document.getElementById("known");
// Without an order of the reader's choice, the order is as given, or by the share of the concept that was chosen.
const DEFAULTS = { ...Object.fromEntries(Object.entries(fields).map(([name, field]) => [name, field.value])), sort: "" };
const common = new CommonConcepts(index, document.querySelector(".common"), concept => address({ concept, page: 1 }));
let state = {}, found = [], drawn = 0;

function read() {
  const given = new URLSearchParams(location.hash.slice(1));
  state = { page: Math.max(1, Number(given.get("page")) || 1), compare: given.getAll("compare").slice(0, 2) };
  for (const [name, field] of Object.entries(fields)) {
    field.value = given.get(name) ?? DEFAULTS[name];
    // A choice that this site does not offer.
    if (field.tagName === "SELECT" && field.selectedIndex < 0) field.value = DEFAULTS[name];
    state[name] = field.value;
  }
}

function address(changes = {}) {
  const kept = new URLSearchParams(), wanted = { ...state, ...changes };
  for (const name of Object.keys(fields)) if (wanted[name] !== DEFAULTS[name]) kept.set(name, wanted[name]);
  if (wanted.page > 1) kept.set("page", wanted.page);
  for (const page of wanted.compare) kept.append("compare", page);
  return String(kept) ? `#${kept}` : location.pathname + location.search;
}

// A step that Back undoes, or, while typing, a change of the step that is there.
function go(changes, { replace = false } = {}) {
  Object.assign(state, changes);
  history[replace ? "replaceState" : "pushState"](null, "", address());
  return show();
}

// Text that holds what was typed; a number that was typed is not part of a longer one.
function holds(text, wanted) {
  const digit = at => /\d/.test(text.charAt(at)), whole = /^\d/.test(wanted), ended = /\d$/.test(wanted);
  for (let at = text.indexOf(wanted); at >= 0; at = text.indexOf(wanted, at + 1)) {
    if (!(whole && digit(at - 1)) && !(ended && digit(at + wanted.length))) return true;
  }
  return false;
}

const ORDERS = {
  given: () => 0,
  sure: (a, b) => (b.probability ?? -1) - (a.probability ?? -1),
  unsure: (a, b) => (a.probability ?? 2) - (b.probability ?? 2),
  deviation: (a, b) => (b.deviation ?? -1) - (a.deviation ?? -1),
  share: (a, b, shares) => (shares?.get(b.place) ?? 0) - (shares?.get(a.place) ?? 0),
  against: (a, b, shares) => (shares?.get(a.place) ?? 0) - (shares?.get(b.place) ?? 0),
};
const usualOrder = () => state.concept && index.find(state.concept) ? "share" : "given";
const limit100 = text => Math.max(0, Number(text) || 0) / 100;

function matches(prediction, wanted, shares, least) {
  const { target, label, right, probability } = prediction;
  if (wanted && !holds(prediction.text, wanted)) return false;
  if (state.class && target !== state.class) return false;
  if (state.label && label !== state.label) return false;
  if (state.show === "right" && right !== 1) return false;
  if (state.show === "wrong" && right !== 0) return false;
  if (state.show === "uncertain" && !(probability !== null && probability < limit100(state.under))) return false;
  return !shares || Math.abs(shares.get(prediction.place) ?? 0) >= least;
}

async function show() {
  const turn = ++drawn, chosen = state.concept ? index.find(state.concept) : null;
  fields.concept.setAttribute("aria-invalid", Boolean(state.concept) && !chosen);
  form.classList.toggle("by-limit", state.show === "uncertain");
  form.classList.toggle("by-concept", Boolean(chosen));
  if (meaning) meaning.hidden = state.sort !== "deviation";
  let shares = null;
  if (chosen) {
    try { shares = await index.sharesOf(chosen); } catch (error) { count.textContent = `${error.message}.`; return; }
  }
  // Something else was asked for while the file was read.
  if (turn !== drawn) return;
  const wanted = state.q.trim().toLowerCase();
  found = index.predictions.filter(prediction => matches(prediction, wanted, shares, limit100(state.least)));
  // Of a chosen concept, the largest shares come first unless another order is asked for; the field says so.
  fields.sort.value = state.sort || usualOrder();
  const order = ORDERS[fields.sort.value];
  found = found.map(prediction => prediction).sort((a, b) => order(a, b, shares) || a.place - b.place);
  const pages = Math.max(1, Math.ceil(found.length / PAGE)), page = Math.min(state.page, pages);
  list.replaceChildren(...found.slice((page - 1) * PAGE, page * PAGE).map(prediction => predictionItem(index, prediction, {
    chosen, share: shares?.get(prediction.place) ?? 0, sortedByDeviation: state.sort === "deviation",
    picked: state.compare.includes(prediction.page), pick: on => pick(prediction.page, on),
  })));
  let said = `${found.length} of ${index.predictions.length} predictions`;
  if (state.concept && !chosen) said = `No concept is called “${state.concept}”. Type ${index.layers[0].name}/0${index.layers.some(layer => index.named(layer).length) ? ", or a name somebody gave" : ", for example"}. ${said}`;
  else if (chosen) said += `, in which ${index.heading(chosen)} holds at least ${state.least || 0}\u00a0% of ${chosen.layer.name}`;
  count.textContent = said;
  nothing.hidden = found.length > 0;
  form.querySelector("#all").disabled = address() === location.pathname + location.search;
  turning.hidden = pages < 2;
  turning.querySelector(".place").textContent = `Page ${page} of ${pages}`;
  turning.querySelector(".before").disabled = page === 1;
  turning.querySelector(".after").disabled = page === pages;
  state.page = page;
  common.show(found);
  showPicked();
}

function pick(page, on) {
  // The third one takes the place of the second.
  const kept = state.compare.filter(other => other !== page);
  go({ compare: on ? [...kept.slice(0, 1), page] : kept }, { replace: true });
}

function showPicked() {
  const picked = state.compare.map(page => index.predictions.find(prediction => prediction.page === page)).filter(Boolean);
  compare.hidden = !picked.length;
  const names = picked.flatMap((prediction, place) => [place ? " and " : "", element("bdi", {}, prediction.name)]);
  compare.querySelector(".picked-names").replaceChildren(...names, ...picked.length === 1 ? [": choose a second one"] : []);
  const link = compare.querySelector("a"), wanted = new URLSearchParams(picked.map(prediction => ["prediction", prediction.page]));
  link.hidden = picked.length < 2;
  link.href = `compare.html#${wanted}`;
}

function typed(name, options) {
  if (fields[name].value === state[name]) return undefined;
  const { value } = fields[name];
  return go({ [name]: name === "sort" && value === usualOrder() ? "" : value, page: 1 }, options);
}
// One step of the history for all that is typed in a row.
let typing = null;
for (const [name, field] of Object.entries(fields)) {
  if (field.tagName === "SELECT") field.addEventListener("change", () => { typing = null; typed(name); });
  else {
    field.addEventListener("input", () => { typed(name, { replace: typing === name }); typing = name; });
    field.addEventListener("blur", () => { typing = null; });
  }
}
function clear() {
  for (const [name, field] of Object.entries(fields)) field.value = DEFAULTS[name];
  typing = null;
  go({ ...DEFAULTS, page: 1, compare: [] });
  fields.q.focus();
}
fields.q.addEventListener("keydown", event => {
  if (event.key === "Escape") { event.preventDefault(); fields.q.value = ""; typed("q"); typing = null; }
  if (event.key === "Enter" && found.length && Object.keys(fields).some(name => state[name] !== DEFAULTS[name])) location.href = index.page(found[0]);
});
// Concepts that may be asked for: those with names, and those that most predictions show.
function suggest() {
  const shown = new Map();
  for (const prediction of index.predictions) prediction.shares.forEach((pairs, at) => {
    for (const [concept] of pairs) shown.set(`${index.layers[at].name}/${concept}`, (shown.get(`${index.layers[at].name}/${concept}`) ?? 0) + 1);
  });
  const most = [...shown].sort((a, b) => b[1] - a[1]).slice(0, 60).map(([name]) => name);
  const named = index.layers.flatMap(layer => index.named(layer).map(([, name]) => name));
  known.replaceChildren(...[...new Set([...named, ...most])].map(value => element("option", { value })));
}
fields.concept.addEventListener("focus", suggest);
form.addEventListener("submit", event => event.preventDefault());
for (const button of [form.querySelector("#all"), nothing.querySelector("button")]) button.addEventListener("click", clear);
for (const [name, step] of [["before", -1], ["after", 1]]) {
  turning.querySelector(`.${name}`).addEventListener("click", async event => {
    await go({ page: state.page + step });
    list.scrollIntoView({ block: "start" });
    if (event.target.disabled) turning.querySelector("button:not(:disabled)").focus({ preventScroll: true });
  });
}
compare.querySelector("button").addEventListener("click", () => go({ compare: [] }, { replace: true }));

const take = document.querySelector(".take");
const numbers = () => found.map(({ page, name, target, value, best, probability, label, right, deviation }) => ({
  page: `predictions/${page}.html`, name, explained: target, value, predicted: best, probability, label: label || null, right: right === null ? null : right === 1, deviation,
}));
take.querySelector("[data-take=link]").addEventListener("click", event => copyAddress(event.target));
take.querySelector("[data-take=csv]").addEventListener("click", () => {
  const rows = numbers();
  download("predictions.csv", csv([Object.keys(rows[0] ?? {}), ...rows.map(row => Object.values(row))]), "text/csv");
});
take.querySelector("[data-take=json]").addEventListener("click", () => download("predictions.json", JSON.stringify(numbers(), null, 1), "application/json"));

// Back and Forward, and an address that was changed by hand.
window.addEventListener("popstate", () => { read(); show(); });
document.addEventListener("renamed", () => { index.rename(); show(); });
for (const part of [form, take]) part.hidden = false;
read();
show();
