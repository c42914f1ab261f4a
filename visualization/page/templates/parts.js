// The address in a style.
function addressIn(style) { return style.trim().replace(/^url\(["']?|["']?\)$/g, ""); }

// Columns of a table of cards, as Python writes it (`concept_rows`).
const CARD_COLUMNS = ["explained", "against", "layer", "concept", "name", "relevance", "share", "value", "value_without", "inside", "outside", "inside_by_outside", "context"];

// What a reader takes along of each part of the page: a link to it, its numbers, its picture.
class Parts {
  constructor(views, settings) {
    Object.assign(this, { views, settings });
    for (const view of views) {
      for (const panel of view.panels) if (panel.querySelector(".ledger")) this.offer(view, panel);
      if (view.graph.root) this.offerGraph(view);
      this.offerRegion(view);
    }
    document.addEventListener("filled", ({ detail: { view, place } }) => { if (place.matches(".panel")) this.offer(view, place); });
    this.offerPage();
  }

  // All numbers of the page, unpacked when they are first taken. The relevance of all concepts stands in the tables.
  get numbers() {
    const value = JSON.parse(new TextDecoder().decode(unpacked(document.getElementById("atlas-numbers").textContent)));
    [value, ...value.beside].forEach((of, view) => of.layers.forEach((layer, place) => { layer.relevance = this.views[view].tables[place].relevance ?? null; }));
    Object.defineProperty(this, "numbers", { value });
    return value;
  }

  // Numbers of a view, as in the JSON.
  of(view) { return view.index ? this.numbers.beside[view.index - 1] : this.numbers; }

  // Numbers of a layer's cards, in their order.
  ranked(view, index) {
    const { supporting, opposing } = this.of(view).layers[index];
    return [...supporting, ...opposing].sort((a, b) => Math.abs(b.share) - Math.abs(a.share));
  }

  // A layer that is open, and its cards.
  offer(view, panel) {
    const index = Number(panel.dataset.layer), table = view.tables[index], { layer } = table, map = view.stage.map(index);
    this.menu(panel.querySelector(".ledger"), layer, {
      address: () => panel.id,
      rows: table.relevance && (() => this.concepts(table, [...table.relevance.keys()].map(concept => [concept, table.relevance[concept], table.share(concept)]))),
      numbers: () => this.of(view).layers[index],
      pictures: map ? { "the map as SVG": () => this.map(`${layer} map`, map.querySelector("svg")) } : {},
    });
    for (const card of all(".card", panel)) this.offerCard(view, card, index, layer);
  }

  offerCard(view, card, index, layer) {
    const concept = Number(card.dataset.concept), file = `${layer} ${concept}`;
    const part = () => this.ranked(view, index).find(each => each.concept === concept);
    this.menu(card.querySelector(".facts"), file, {
      address: () => `${encodeURIComponent(layer)}/${concept}${view.index ? `@${view.index}` : ""}`,
      rows: () => [CARD_COLUMNS, this.cardRow(view, index, part())],
      numbers: () => {
        const { target, against } = this.of(view);
        return { image: this.numbers.provenance.image, target, against, layer, ...part() };
      },
      pictures: {
        "the heatmap as PNG": () => this.png(file, card.querySelector(".heat")),
        "the heatmap with its words as SVG": () => this.figure(file, view, card, view.tables[index]),
      },
    });
  }

  offerGraph(view) {
    const graph = () => this.of(view).graph;
    this.menu(view.graph.root.querySelector(".lead"), "graph", {
      address: () => view.graph.root.querySelector("h3").id,
      rows: () => [["upper layer", "upper concept", "lower layer", "lower concept", "relevance", "share of the prediction"], ...graph().edges.map(edge => [...edge.upper, ...edge.lower, edge.relevance, edge.share])],
      numbers: graph,
    }, "after");
  }

  offerRegion(view) {
    const { region } = view;
    this.menu(region.root, "region", {
      address: () => `${view.index ? `@${view.index}` : ""}${numbered("region", region.table.layer, [...region.selected])}`,
      rows: () => {
        const { table, selected } = region, sums = table.sums(selected), total = sums.reduce((sum, value) => sum + Math.abs(value), 0);
        return this.concepts(table, table.ranked(selected, sums).map(concept => [concept, sums[concept], sums[concept] / total]));
      },
    });
  }

  offerPage() {
    const page = element("p", { class: "takes" });
    document.querySelector("footer").prepend(page);
    this.menu(page, "atlas", {
      address: () => "",
      rows: () => [CARD_COLUMNS, ...this.views.flatMap(view => view.tables.flatMap((_, index) => this.ranked(view, index).map(part => this.cardRow(view, index, part))))],
      numbers: () => this.numbers,
    });
  }

  concepts(table, rows) { return [["layer", "concept", "name", "relevance", "share"], ...rows.map(([concept, relevance, share]) => [table.layer, concept, table.nameOf(concept), relevance, share])]; }

  cardRow(view, index, { concept, relevance, share, effect, context }) {
    const { target, against } = this.of(view), table = view.tables[index];
    return [target.name, against?.name, table.layer, concept, table.nameOf(concept), relevance, share, effect?.before, effect?.after, context?.inside, context?.outside, context?.ratio, context?.context];
  }

  // Offers what a part declares: the address of a link to it, rows of a table, numbers, and pictures by what they are.
  // Files are called after the part.
  menu(place, part, { address, rows, numbers, pictures = {} }, where = "append") {
    const menu = element("details", { class: "takes" }, element("summary", {}, "Copy or download", element("span", { class: "unseen" }, `: ${part}`)));
    const choose = (text, take) => {
      const button = element("button", { type: "button" }, text);
      button.addEventListener("click", () => take(button));
      menu.append(button);
    };
    choose("Copy link", button => copyAddress(button, this.address(address())));
    if (rows) choose("Download CSV", () => this.save(part, "csv", csv(rows()), "text/csv"));
    if (numbers) choose("Download JSON", () => this.save(part, "json", JSON.stringify(numbers(), null, 1), "application/json"));
    for (const [what, take] of Object.entries(pictures)) choose(`Download ${what}`, take);
    place[where](menu);
  }

  // A link to a part, with what the page is set to.
  address(part) {
    const hash = part + this.settings();
    return location.href.split("#")[0] + (hash && `#${hash}`);
  }

  save(part, suffix, content, type) { download(this.file(part, suffix), content, type); }

  // Files are called after the picture and the part.
  file(part, suffix) { return `${`${this.picture.replace(/\.[^.]*$/, "")} ${part}`.trim().replace(/[^\p{L}\p{N}._-]+/gu, "-")}.${suffix}`; }

  get picture() { return (this.numbers.provenance.image ?? "").split(/[/\\]/).pop(); }

  svg(part, drawing) { this.save(part, "svg", new XMLSerializer().serializeToString(drawing), "image/svg+xml"); }

  // The map as it lies on the faded picture; styles of the page go with it.
  map(part, map) {
    const copy = map.cloneNode(true), [, , width, height] = map.getAttribute("viewBox").split(" ");
    copy.setAttribute("width", width);
    copy.setAttribute("height", height);
    const which = "text, .hatch, .region-of > g", styled = [...map.querySelectorAll(which)], copies = [...copy.querySelectorAll(which)];
    styled.forEach((item, at) => {
      const style = getComputedStyle(item);
      for (const property of ["fill", "stroke", "paint-order", "stroke-linejoin", "font-weight", "font-family", "text-anchor", "dominant-baseline", "shape-rendering"]) copies[at].style.setProperty(property, style.getPropertyValue(property));
      copies[at].style.opacity = 1;
    });
    copy.prepend(element("image", { href: this.faded(), width, height, preserveAspectRatio: "none" }));
    this.svg(part, copy);
  }

  faded() { return addressIn(getComputedStyle(document.documentElement).getPropertyValue("--faded")); }

  async png(part, heat) {
    const canvas = await this.drawn(heat);
    this.save(part, "png", await new Promise(done => canvas.toBlob(done)), "image/png");
  }

  // The heatmap of a card, and below it what the card says of it. The heatmap is a PNG, which every program reads.
  async figure(part, view, card, table) {
    const canvas = await this.drawn(card.querySelector(".heat")), { width, height } = canvas, { target, against } = this.of(view);
    const full = document.body.classList.contains("own-scale") ? card.dataset.full : view.panels[card.dataset.layer].dataset.limit;
    const said = [
      `${table.heading(Number(card.dataset.concept))} of ${table.layer}`,
      `${card.querySelector(".word").textContent}: ${card.dataset.shares}`,
      [against ? `${target.name} rather than ${against.name}` : target.name, this.picture].filter(Boolean).join(", "),
      `Colours are full at ${full}.`,
    ];
    const size = width / 34, lines = said.map((text, at) => element("text", { x: 0, y: height + (at + 1) * 1.5 * size, "font-weight": at ? null : 600 }, text));
    const whole = height + (said.length + 0.5) * 1.5 * size;
    const image = element("image", { href: canvas.toDataURL("image/png"), width, height });
    this.svg(part, element("svg", { viewBox: `0 0 ${width} ${whole}`, width, height: whole, "font-family": "sans-serif", "font-size": size }, element("rect", { width, height: whole, fill: "#fff" }), image, ...lines));
  }

  // A heatmap on the scale that the page shows it on.
  async drawn(heat) {
    const load = async address => { const image = new Image(); image.src = address; await image.decode(); return image; };
    const shown = heat.querySelector("i"), style = getComputedStyle(shown), [rows, columns, row, column] = ["--r", "--k", "--y", "--x"].map(name => Number(style.getPropertyValue(name)));
    const [ground, sheet] = await Promise.all([load(this.faded()), load(addressIn(style.backgroundImage))]);
    const width = sheet.naturalWidth / columns, height = sheet.naturalHeight / rows;
    const canvas = element("canvas"), factor = Math.max(1, Math.floor(448 / Math.max(width, height)));
    canvas.width = width * factor;
    canvas.height = height * factor;
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = !document.body.classList.contains("small");
    context.drawImage(ground, 0, 0, canvas.width, canvas.height);
    context.globalAlpha = Number(style.opacity);
    context.drawImage(sheet, column * width, row * height, width, height, 0, 0, canvas.width, canvas.height);
    return canvas;
  }
}
