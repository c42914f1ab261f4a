// What people said about concepts: the library's names, and those that the reader gives, which are kept in the browser.
// Elements with data-of="LAYER/ID" stand for one concept.
const KEY = "crp-atlas names ", AUTHOR = "crp-atlas author";
const VERDICTS = ["artefact", "fine", "unsure"], FORMAT = "crp-atlas names";

class Names {
  // layers: for each layer its name, what tells its concepts from others, and what the library knows (`LayerNaming`).
  constructor(layers) {
    this.layers = new Map(layers.map(layer => [layer.layer, layer]));
    this.given = new Map(layers.flatMap(layer => layer.given.map(name => [`${layer.layer}/${name.concept}`, name])));
    this.kept = new Map();
    this.read();
  }

  static split(of) {
    const cut = of.lastIndexOf("/");
    return [of.slice(0, cut), Number(of.slice(cut + 1))];
  }

  // Whether this browser keeps anything: the frame of a notebook does not.
  static get possible() {
    try { localStorage.getItem(KEY); return true; } catch { return false; }
  }

  // What this browser holds of these layers, without what the library has taken over or knows better.
  read() {
    this.kept.clear();
    if (!Names.possible) return;
    for (const [name, layer] of this.layers) {
      for (const [concept, said] of Object.entries(this.stored(layer))) {
        const of = `${name}/${concept}`;
        if (Names.sound(said) && said.date > (this.given.get(of)?.date ?? "")) this.kept.set(of, said);
      }
    }
  }

  stored(layer) {
    try {
      const found = JSON.parse(localStorage.getItem(KEY + layer.identity) ?? "{}");
      return found && typeof found === "object" ? found : {};
    } catch { return {}; }
  }

  static sound(said) {
    return said && ["label", "note", "verdict", "author", "date"].every(part => typeof said[part] === "string") &&
      Array.isArray(said.tags) && said.tags.every(tag => typeof tag === "string");
  }

  // Keeps what the reader says of a concept; null forgets it. False if the browser has no room.
  keep(of, said) {
    const [name, concept] = Names.split(of), layer = this.layers.get(name), stored = this.stored(layer);
    // What is said last counts, whatever the clock of the one who said the other.
    const known = this.given.get(of)?.date, after = known ? new Date(Date.parse(known) + 1000) : new Date(0);
    if (said) stored[concept] = { ...said, date: new Date(Math.max(Date.now(), after)).toISOString().replace(/\.\d+/, "") };
    else delete stored[concept];
    try { localStorage.setItem(KEY + layer.identity, JSON.stringify(stored)); } catch { return false; }
    this.read();
    return true;
  }

  said(of) { return this.kept.get(of) ?? this.given.get(of); }

  named(of, said) {
    const [name, concept] = Names.split(of);
    return said?.label || this.layers.get(name)?.kind_names[concept] || "";
  }

  // The name of a concept; undefined for a layer of which nothing is known.
  name(layer, concept) { return this.layers.has(layer) ? this.named(`${layer}/${concept}`, this.said(`${layer}/${concept}`)) : undefined; }

  // The name that it has without what the reader said: the one that the page was written with.
  printed(of) { return this.named(of, this.given.get(of)); }

  // The file that `crp names LIBRARY --import` reads.
  file() {
    const names = [...this.kept].map(([of, said]) => {
      const [layer, concept] = Names.split(of), { identity, kind } = this.layers.get(layer);
      return { layer, concept, ...said, fingerprint: { identity, kind } };
    });
    return JSON.stringify({ format: FORMAT, version: 1, names }, null, 1);
  }

  // Whether the library would take it: a file may hold anything.
  static fit({ label, note, tags, verdict, author, date }) {
    return [label, author, ...tags].every(text => text.length <= 120) && note.length <= 10000 && tags.length <= 40 &&
      ["", ...VERDICTS].includes(verdict) && /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/.test(date);
  }

  // Takes over what such a file says of these very concepts, where it is newer than what is said here. Returns how many
  // names were taken over, are no news, and are of no concept here; null if it is no file of names, false without room.
  merge(text) {
    const count = { taken: 0, known: 0, others: 0 }, changed = new Map();
    let content;
    try { content = JSON.parse(text); } catch { return null; }
    if (content?.format !== FORMAT || content.version !== 1 || !Array.isArray(content.names)) return null;
    for (const said of content.names) {
      const layer = this.layers.get(said?.layer), here = layer && said.fingerprint?.identity === layer.identity && said.fingerprint.kind === layer.kind;
      if (!here || !Number.isInteger(said.concept) || !Names.sound(said) || !Names.fit(said)) count.others++;
      else if (said.date <= (this.said(`${said.layer}/${said.concept}`)?.date ?? "")) count.known++;
      else {
        const { label, note, tags, verdict, author, date } = said;
        count.taken++;
        if (!changed.has(layer)) changed.set(layer, this.stored(layer));
        changed.get(layer)[said.concept] = { label, note, tags, verdict, author, date };
      }
    }
    try { for (const [layer, stored] of changed) localStorage.setItem(KEY + layer.identity, JSON.stringify(stored)); } catch { return false; }
    this.read();
    return count;
  }
}
