// One explanation: its layers, and the concept that is pointed at or kept, which lights up everywhere.
class View {
  constructor(root, tables, changed) {
    this.root = root;
    this.changed = changed;
    this.index = Number(root.dataset.view);
    this.tables = tables;
    this.tabs = all("[role=tab]", root);
    this.panels = all(".panel", root);
    this.layer = 0;
    this.pinned = null;
    this.lit = undefined;
    this.bringPatches(root);
    this.stage = new Stage(this);
    this.zoom = new Zoom(this);
    this.graph = new Graph(this);
    this.region = new Region(this);
    this.planes = new Planes(this);
    new Enlarged(this);
    this.listen();
    this.arrange(0);
    // What another view holds is unpacked when a reader turns to it.
    if (!this.index) this.open(0);
  }

  // Patches that stand on another view's card.
  bringPatches(place) {
    for (const link of all(".again > a", place)) {
      link.parentNode.replaceWith(cardAt(link.hash.slice(1)).querySelector(".strips").cloneNode(true));
    }
  }

  get cards() { return all(".card", this.root); }

  // Puts in the cards and the map of a layer, if they are packed.
  fill(index) {
    const panel = this.panels[index], map = this.stage.map(index), found = [panel, map].filter(fill);
    if (found.includes(map)) {
      this.stage.take(map);
      this.stage.open(this.layer);
    }
    if (found.includes(panel)) this.bringPatches(panel);
    if (found.length) filled(this, panel);
  }

  fillAll() {
    this.panels.forEach((_, index) => this.fill(index));
    this.graph.fill();
  }

  open(index) {
    this.fill(index);
    this.arrange(index);
    this.region.open();
    this.pin(null);
  }

  // Which layer is the open one.
  arrange(index) {
    this.layer = index;
    this.panels.forEach((panel, i) => { panel.hidden = i !== index; });
    this.tabs.forEach((tab, i) => { tab.setAttribute("aria-selected", i === index); tab.tabIndex = i === index ? 0 : -1; });
    this.stage.open(index);
  }

  card(layer, concept) {
    if (layer < 0) return null;
    this.fill(layer);
    return this.panels[layer].querySelector(`.card[data-concept="${concept}"]`);
  }

  layerNamed(name) { return this.tables.findIndex(table => table.layer === name); }

  // In a site: a link to the concept's own page.
  toPage(layer, concept) {
    const table = this.tables[this.layerNamed(layer)];
    return table && table.pages && concept >= 0 ? [" ", element("a", { href: `${table.pages}${concept}.html`, class: "to-card" }, "All about it")] : [];
  }

  // Lights up one concept everywhere: {layer, concept}, the layer by name, and the cell of the map it is pointed at in;
  // null lights nothing.
  light(which) {
    const key = which && `${which.layer}/${which.concept}`, lit = which && `${key}/${which.cell ?? ""}`;
    if (lit === this.lit) return;
    const index = which ? this.layerNamed(which.layer) : -1;
    if (index >= 0) this.fill(index);
    this.lit = lit;
    for (const place of all(".map, .legend, .panel, .ranking, .answer", this.root)) {
      const here = which !== null && Number(place.dataset.layer) === index;
      place.classList.toggle("picked", here);
      for (const item of all("[data-concept]", place)) item.classList.toggle("on", here && Number(item.dataset.concept) === which.concept);
    }
    this.graph.light(which, key);
    if (which && index >= 0) this.stage.showConcept(index, which);
    else this.stage.back();
  }

  rest() { this.light(this.pinned); }

  // A reader named a concept: what tells it is written again.
  renamed() {
    this.lit = undefined;
    this.rest();
    this.region.select(this.region.selected);
    this.graph.forget();
  }

  pin(which, address = false) {
    this.pinned = which;
    const card = which && this.card(this.layerNamed(which.layer), which.concept);
    for (const other of this.cards) other.querySelector(".pick").setAttribute("aria-pressed", other === card);
    this.graph.mark(which);
    this.root.querySelector("[data-show=concept]").disabled = !which;
    this.lit = undefined;
    this.rest();
    if (address) this.changed();
  }

  // Opens the concept's layer, lights it up for good, and shows its card if it has one.
  go(layer, concept) {
    const index = this.layerNamed(layer);
    if (index < 0 || !(concept >= 0 && concept < this.tables[index].size)) return false;
    if (index !== this.layer) this.open(index);
    this.pin({ layer, concept }, true);
    const card = this.card(index, concept);
    if (card) {
      unfold(card);
      // Below the picture where that stays in sight above the cards, otherwise in the middle.
      card.scrollIntoView({ block: getComputedStyle(this.stage.root).position === "sticky" ? "start" : "center" });
      card.querySelector(".pick").focus({ preventScroll: true });
    } else this.stage.frames.scrollIntoView({ block: "nearest" });
    return true;
  }

  conceptOf(target) {
    const item = target.closest("[data-concept]");
    if (!item) return null;
    const layer = item.dataset.layerName ?? this.tables[item.closest("[data-layer]").dataset.layer].layer;
    return { layer, concept: Number(item.dataset.concept) };
  }

  listen() {
    const { root } = this;
    const point = event => { const found = this.conceptOf(event.target); if (found) this.light(found); };
    const leave = event => { if (this.conceptOf(event.target)) this.rest(); };
    root.addEventListener("mouseover", point);
    root.addEventListener("mouseout", leave);
    root.addEventListener("focusin", point);
    root.addEventListener("focusout", leave);
    root.addEventListener("click", event => this.click(event));
    this.tabs.forEach((tab, index) => {
      tab.addEventListener("click", () => this.open(index));
      tab.addEventListener("keydown", event => {
        const steps = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: this.tabs.length - 1 };
        if (!(event.key in steps)) return;
        event.preventDefault();
        const next = (steps[event.key] + this.tabs.length) % this.tabs.length;
        this.open(next);
        this.tabs[next].focus();
      });
    });
  }

  click(event) {
    const found = this.conceptOf(event.target);
    if (found && event.target.closest(".pick, .node")) {
      event.preventDefault();
      const same = this.pinned && this.pinned.layer === found.layer && this.pinned.concept === found.concept;
      this.pin(same ? null : found, true);
    } else if (found && event.target.closest(".legend li, .to, .to-card, .sum [data-concept]")) {
      // Not left to the link: inside a notebook's frame it would lead to the notebook.
      event.preventDefault();
      this.go(found.layer, found.concept);
    }
  }
}
