// The picture beside the cards: input, relevance, map, or one concept.
class Stage {
  constructor(view) {
    this.view = view;
    this.root = view.root.querySelector(".stage");
    this.frames = this.root.querySelector(".frames");
    this.caption = this.root.querySelector(".now");
    this.captions = { relevance: [...this.caption.childNodes].map(node => node.cloneNode(true)) };
    this.buttons = all("[data-show]", this.root);
    this.full = all(".full span", this.root);
    this.limit = this.full[0].textContent;
    this.chosen = "relevance";
    this.build();
  }

  build() {
    const input = document.querySelector(".given img").cloneNode();
    input.className = "frame";
    input.dataset.frame = "input";
    this.frames.prepend(input);
    this.picture = element("i", { class: "picture", role: "img" });
    this.overlay = element("svg", { "aria-hidden": "true" });
    this.frames.append(element("div", { class: "frame concept heat", "data-frame": "concept", hidden: "" }, this.picture, this.overlay));
    // Out of the frames, so that nothing below moves when the picture changes.
    this.legends = [];
    this.take(this.frames);
    for (const button of this.buttons) button.addEventListener("click", () => this.choose(button.dataset.show));
  }

  take(place) {
    const legends = all(".legend", place);
    // What an area holds stands in its title, which is for the mouse alone.
    for (const item of all(".legend [data-concept]", place)) {
      const title = item.closest(".map").querySelector(`.region-of[data-concept="${item.dataset.concept}"] > title`).textContent;
      item.firstElementChild.append(element("span", { class: "unseen" }, `, ${title.split(": ").at(-1)}`));
    }
    (this.legends.at(-1) ?? this.frames).after(...legends);
    this.legends.push(...legends);
  }

  choose(frame) {
    if (frame === "concept") {
      this.view.lit = undefined;
      this.view.rest();
    } else {
      this.chosen = frame;
      this.describe(frame);
    }
    this.show(frame);
  }

  map(index = this.view.layer) { return this.frames.querySelector(`.map[data-layer="${index}"]`); }

  // Another layer: its map and legend, if it has one.
  open(index) {
    for (const legend of this.legends) legend.hidden = Number(legend.dataset.layer) !== index;
    const button = this.root.querySelector("[data-show=map]");
    if (button) button.disabled = !this.map();
    if (this.chosen === "map" && !this.map()) this.chosen = "relevance";
  }

  show(frame) {
    for (const each of all("[data-frame]", this.frames)) {
      each.hidden = each.dataset.frame !== frame || (frame === "map" && each !== this.map());
    }
    this.root.dataset.now = frame;
    for (const button of this.buttons) button.setAttribute("aria-pressed", button.dataset.show === frame);
  }

  describe(frame) {
    const words = frame === "map" ? this.map().querySelector("figcaption p").childNodes : this.captions[frame] ?? ["The input, as the model was given it."];
    this.caption.replaceChildren(...[...words].map(node => node.cloneNode?.(true) ?? node));
  }

  // Where colours are full: on the scale that heatmaps share, and on the picture's own.
  scale(shared, own) { this.full.forEach((place, i) => { place.textContent = [shared, own][i]; }); }

  back() {
    this.scale(this.limit, this.limit);
    this.describe(this.chosen);
    this.show(this.chosen);
    this.view.planes.show();
  }

  showConcept(index, { concept, cell }) {
    const { view } = this, table = view.tables[index], card = view.card(index, concept), node = view.graph.node(table.layer, concept);
    const picture = card ? card.querySelector(".where") : node && node.querySelector(".heat i");
    // Without a picture, the faded input shows.
    this.picture.className = `picture ${picture ? picture.className : ""}`;
    this.picture.style.cssText = picture ? picture.style.cssText : "";
    this.picture.setAttribute("aria-label", card ? picture.getAttribute("aria-label") : `Where ${table.named(concept)} holds relevance, in cells`);
    if (picture) this.scale(view.panels[index].dataset.limit, (card ?? node).dataset.full);
    else if (table.table) this.scale(`${limit(table.peak())} a cell`, `${limit(table.peak(concept))} a cell`);
    this.drawOverlay(table, index, concept, !picture);
    this.caption.replaceChildren(...card || table.placeOf(concept) === undefined ? [] : [table.glimpse(concept)],
      cell === undefined ? this.sentence(table, concept, card, node, picture) : table.sentence(cell), ...view.toPage(table.layer, concept));
    this.show(cell === undefined ? "concept" : "map");
    view.planes.show(index, concept);
  }

  sentence(table, concept, card, node, picture) {
    const name = `${table.heading(concept)} of ${table.layer}`;
    if (card) return `${name} ${card.querySelector(".word").textContent}: ${card.dataset.shares}.`;
    if (concept < 0) return node.dataset.text;
    const share = table.share(concept), said = [];
    if (share !== null) said.push(`${signed(share)} of the layer`);
    if (node) said.push(`${node.dataset.share} of the prediction`);
    if (table.relevance) said.push(`rank ${table.rank(concept)} of ${table.size}`);
    return `${name}: ${said.join(", ")}. It has no card${picture || !table.table ? "" : "; its cells are shown"}.`;
  }

  // The concept's cells of the map as outline; without a heatmap of its own, its relevance cell by cell.
  drawOverlay(table, index, concept, coarse) {
    this.overlay.replaceChildren();
    const map = this.frames.querySelector(`.map[data-layer="${index}"] svg`);
    if (!map || !table.table) return;
    const [, , width, height] = map.getAttribute("viewBox").split(" ").map(Number);
    this.overlay.setAttribute("viewBox", `0 0 ${width} ${height}`);
    if (coarse) {
      const most = table.peak(concept) || 1;
      this.overlay.style.setProperty("--fade", Math.sqrt(most / (table.peak() || 1)).toFixed(4));
      for (const cell of table.everywhere) {
        const value = table.at(cell, concept), opacity = Math.sqrt(Math.abs(value) / most);
        if (opacity < 0.1) continue;
        this.overlay.append(element("rect", {
          x: cell % table.columns * width / table.columns, y: Math.floor(cell / table.columns) * height / table.rows,
          width: width / table.columns, height: height / table.rows, class: value > 0 ? "for" : "against", "fill-opacity": opacity.toFixed(2),
        }));
      }
    }
    const region = map.querySelector(`.region-of[data-concept="${concept}"] > path`);
    if (region) {
      const lines = region.parentNode.parentNode.cloneNode();
      lines.append(region.cloneNode());
      this.overlay.append(lines);
    }
  }
}
