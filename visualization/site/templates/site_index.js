// The predictions of the site, as assets/predictions.js holds them, and the shares of a layer's concepts.
class SiteIndex {
  constructor(content, up = "") {
    this.unit = content.unit;
    this.suffix = content.suffix;
    this.up = up;
    this.names = content.names;
    this.layers = content.layers;
    this.layers.forEach((layer, index) => {
      layer.index = index;
      layer.places = layer.glimpses.concepts && new Map(layer.glimpses.concepts.map((concept, place) => [concept, place]));
    });
    this.predictions = content.predictions.map((row, place) => {
      const found = Object.fromEntries(content.fields.map((name, index) => [name, row[index]]));
      for (const name of ["target", "best", "label"]) found[name] = this.names[found[name]] ?? "";
      return { ...found, place, shares: found.shares.map(flat => this.pairs(flat)) };
    });
    this.rename();
  }

  // What a search looks through; names may have been given since.
  rename() { for (const prediction of this.predictions) prediction.text = this.textOf(prediction); }

  // What its readers call a concept, or the library; empty if nobody does.
  nameOf({ layer, concept }) { return window.conceptNames?.name(layer.name, concept) ?? layer.names[concept] ?? ""; }

  pairs(flat) {
    const found = [];
    for (let at = 0; at < flat.length; at += 2) found.push([flat[at], flat[at + 1] / this.unit]);
    return found;
  }

  // Names, classes, and the concepts that have a card.
  textOf({ name, target, best, label, shares }) {
    const concepts = shares.map((pairs, index) => pairs.map(([concept]) => `${this.layers[index].name}/${concept} ${this.nameOf({ layer: this.layers[index], concept })}`).join(" "));
    return [name, target, best, label, ...concepts].join(" ").toLowerCase();
  }

  layer(name) { return this.layers.find(layer => layer.name === name); }

  // A name with its number, or the number with its layer.
  heading(key) {
    const name = this.nameOf(key);
    return name ? label(key.concept, name) : `${key.layer.name}/${key.concept}`;
  }

  conceptPage({ layer, concept }) { return `${this.up}${layer.place}/${concept}.html`; }

  page(prediction) { return `${this.up}predictions/${prediction.page}.html`; }

  picture(prediction) { return `${this.up}predictions/${prediction.page}${this.suffix}`; }

  glimpse({ layer, concept }) {
    const { uri, rows, columns } = layer.glimpses, at = layer.places ? layer.places.get(concept) : concept;
    const made = element("i", { class: uri && at !== undefined ? "glimpse" : "glimpse none" });
    if (uri && at !== undefined) made.style.cssText = `background-image:var(--g${layer.index});--r:${rows};--n:${columns};--y:${Math.floor(at / columns)};--x:${at % columns}`;
    return made;
  }

  // A concept as it is typed or stands in an address: "layer/37", a number of the first layer, or a name.
  find(text) {
    const wanted = text.trim(), cut = wanted.lastIndexOf("/"), layer = this.layer(wanted.slice(0, cut));
    const number = Number(wanted.slice(cut + 1)), inside = layer ?? (cut < 0 ? this.layers[0] : undefined);
    if (/\d$/.test(wanted) && inside && Number.isInteger(number) && number >= 0 && number < inside.size) return { layer: inside, concept: number };
    for (const each of this.layers) {
      const named = this.named(each).find(([, name]) => name.toLowerCase() === wanted.toLowerCase());
      if (named) return { layer: each, concept: named[0] };
    }
    return null;
  }

  // Concepts of a layer that have a name, with it.
  named(layer) {
    const kept = [...window.conceptNames?.kept.keys() ?? []].map(of => [of.slice(0, of.lastIndexOf("/")), Number(of.slice(of.lastIndexOf("/") + 1))]);
    const concepts = new Set([...Object.keys(layer.names).map(Number), ...kept.filter(([name]) => name === layer.name).map(([, concept]) => concept)]);
    return [...concepts].map(concept => [concept, this.nameOf({ layer, concept })]).filter(([, name]) => name);
  }

  // By place of the prediction, the share of a concept; predictions that do not use it have none.
  async sharesOf({ layer, concept }) { return new Map(this.pairs((await this.sharesIn(layer))[concept] ?? [])); }

  // Shares of a layer lie in a file of their own, read when they are first asked for.
  sharesIn(layer) {
    layer.shares ??= new Promise((done, failed) => {
      const script = element("script", { src: `${this.up}${layer.place}/shares.js` });
      script.onload = () => done(window.layerShares[layer.name]);
      script.onerror = () => failed(new Error(`${layer.place}/shares.js cannot be read`));
      document.head.append(script);
    });
    return layer.shares;
  }
}
