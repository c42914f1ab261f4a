// Shows the reader's names wherever the page tells a concept: what the page was written with is kept, and comes back.
const sentence = (concept, name) => name ? label(concept, name) : `concept ${concept}`;

class Renaming {
  constructor(names) {
    this.names = names;
    this.written = new WeakMap();
    this.shown = new Set();
    this.show();
    // A layer that has been opened, as the page was written.
    document.addEventListener("filled", () => this.apply());
  }

  // The concepts whose name differs from the one that the page was written with.
  get changed() { return [...this.names.kept.keys()].filter(of => this.names.name(...Names.split(of)) !== this.names.printed(of)); }

  show() {
    this.apply();
    document.dispatchEvent(new Event("renamed"));
  }

  apply() {
    const { names } = this, changed = new Set(this.changed), touched = new Set([...changed, ...this.shown]);
    this.shown = changed;
    if (touched.size) this.makeRoom();
    for (const place of all("[data-name]")) if (touched.has(place.dataset.of)) this.name(place);
    for (const place of all("[data-said]")) if (names.kept.has(place.dataset.said) || this.written.has(place)) this.tell(place);
    for (const button of all("[data-edit]")) button.firstChild.data = names.said(button.dataset.edit) ? "Edit the name" : "Name it";
    if (touched.size) this.speak([...changed]);
  }

  // A legend is written without places for names that nobody gave.
  makeRoom() {
    const layers = Renaming.layers();
    for (const item of all(".legend li").filter(one => !one.querySelector("[data-name]"))) {
      const place = element("bdi", { "data-name": "name", "data-of": Renaming.of(item, layers) }), entry = item.firstElementChild;
      entry.insertBefore(place, entry.querySelector(".unseen"));
    }
  }

  // The names of layers by their number, the same in all views.
  static layers() { return Object.fromEntries(all(".panel").map(panel => [panel.dataset.layer, panel.dataset.layerName])); }

  // What an element of a map or of a bar stands for.
  static of(item, layers) { return `${layers[item.closest("[data-layer]").dataset.layer]}/${item.dataset.concept}`; }

  name(place) {
    const of = place.dataset.of, [, concept] = Names.split(of), name = this.names.name(...Names.split(of)), form = place.dataset.name;
    place.textContent = { name: name && ` ${name}`, id: name && ` ${concept}`, label: label(concept, name, Number(place.dataset.length ?? Infinity)), title: name || `Concept ${concept}` }[form];
    place.closest(".node")?.classList.toggle("named", Boolean(name));
  }

  // Verdict, tags and note.
  tell(place) {
    if (!this.written.has(place)) this.written.set(place, true);
    place.replaceChildren(...Renaming.telling(this.names.said(place.dataset.said)));
  }

  static telling(said) {
    if (!said) return [];
    const words = [];
    if (said.verdict) words.push(element("b", {}, said.verdict));
    for (const tag of said.tags) words.push(element("span", { class: "tag" }, element("bdi", {}, tag)));
    if (said.note) words.push(element("span", { class: "note" }, said.note));
    if (said.author) words.push(element("span", { class: "author" }, element("bdi", {}, said.author)));
    return words.flatMap((word, place) => place ? [" ", word] : [word]);
  }

  // Sentences, titles and descriptions that tell a concept by its name.
  speak(changed) {
    const { names } = this, layers = Renaming.layers();
    const said = changed.map(of => {
      const [layer, concept] = Names.split(of), old = names.printed(of), now = names.name(layer, concept);
      return { of, layer, of_graph: [`${layer} ${label(concept, old)}`, `${layer} ${label(concept, now)}`],
        plain: [sentence(concept, old), sentence(concept, now)], heading: [old || `Concept ${concept}`, now || `Concept ${concept}`], now };
    });
    const swapped = (text, pairs) => pairs.reduce((whole, [old, now]) => {
      const at = old.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
      return whole.replace(new RegExp(`(?<![\\w/])${at}(?![\\d])`, "g"), () => now);
    }, text);
    for (const node of all(".graph .node")) this.write(node, "data-text", text => swapped(text, said.map(one => one.of_graph)));
    for (const place of all(".graph .node > .unseen, .graph .edge > title, .account bdi")) this.write(place, "", text => swapped(text, said.map(one => one.of_graph)));
    const places = { ".sum [data-concept]": "title", ".card .where": "aria-label", ".card .to-page .unseen": "", ".region-of > title": "" };
    for (const [selector, attribute] of Object.entries(places)) {
      for (const place of all(selector)) {
        const of = Renaming.of(place.closest("[data-concept]"), layers);
        this.write(place, attribute, text => swapped(text, said.filter(one => one.of === of).map(one => one.plain)));
      }
    }
    for (const card of all(".card[aria-label]")) {
      const of = card.querySelector("[data-of]").dataset.of;
      this.write(card, "aria-label", text => said.find(one => one.of === of)?.heading[1] ?? text);
    }
    for (const place of all("[data-full-of]")) {
      const one = said.find(other => other.of === place.dataset.fullOf), [layer, concept] = Names.split(place.dataset.fullOf);
      this.write(place, "title", text => one ? `concept ${concept} of ${layer}${one.now && `: ${one.now}`}` : text);
    }
  }

  // Changes a text or an attribute, from what the page was written with.
  write(place, attribute, change) {
    const first = this.written.get(place) ?? {};
    const text = first[attribute] ?? (attribute ? place.getAttribute(attribute) : place.textContent), now = change(text);
    if (now === (attribute ? place.getAttribute(attribute) : place.textContent)) return;
    this.written.set(place, { ...first, [attribute]: text });
    if (attribute) place.setAttribute(attribute, now);
    else place.textContent = now;
  }
}
