// The address in a style.
function addressIn(style) { return style.trim().replace(/^url\(["']?|["']?\)$/g, ""); }

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
    const page = element("p", { class: "takes" });
    document.querySelector("footer").prepend(page);
    this.menu(page, "this page", { "Copy link": () => this.address(""), "Download JSON": () => this.json("atlas", this.numbers) });
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

  // A layer that is open, and its cards.
  offer(view, panel) {
    const index = Number(panel.dataset.layer), table = view.tables[index], { layer } = table;
    const choices = { "Copy link": () => this.address(panel.id) };
    if (table.relevance) choices["Download CSV"] = () => this.csv(`${layer} concepts`, this.concepts(table, [...table.relevance.keys()].map(concept => [concept, table.relevance[concept], table.share(concept)])));
    choices["Download JSON"] = () => this.json(layer, this.of(view).layers[index]);
    const map = view.stage.map(index);
    if (map) choices["Download the map as SVG"] = () => this.svg(`${layer} map`, map.querySelector("svg"));
    this.menu(panel.querySelector(".ledger"), layer, choices);
    for (const card of all(".card", panel)) this.offerCard(view, card, index, layer);
  }

  offerCard(view, card, index, layer) {
    const concept = Number(card.dataset.concept), name = `${layer} ${concept}`;
    this.menu(card.querySelector(".facts"), name, {
      "Copy link": () => this.address(`${encodeURIComponent(layer)}/${concept}${view.index ? `@${view.index}` : ""}`),
      "Download the heatmap as PNG": () => this.png(name, card.querySelector(".heat")),
      "Download JSON": () => {
        const { target, against, layers } = this.of(view), { supporting, opposing } = layers[index];
        this.json(name, { image: this.numbers.provenance.image, target, against, layer, ...[...supporting, ...opposing].find(part => part.concept === concept) });
      },
    });
  }

  offerGraph(view) {
    const graph = () => this.of(view).graph;
    this.menu(view.graph.root.querySelector(".lead"), "the graph", {
      "Copy link": () => this.address(view.graph.root.querySelector("h3").id),
      "Download CSV": () => this.csv("graph", [["upper layer", "upper concept", "lower layer", "lower concept", "relevance", "share of the prediction"], ...graph().edges.map(edge => [...edge.upper, ...edge.lower, edge.relevance, edge.share])]),
      "Download JSON": () => this.json("graph", graph()),
    }, true);
  }

  offerRegion(view) {
    const link = () => this.address(`${view.index ? `@${view.index}` : ""}${numbered("region", view.region.table.layer, [...view.region.selected])}`);
    this.menu(view.region.root, "the region", { "Copy link": link, "Download CSV": () => {
      const { table, selected } = view.region, sums = table.sums(selected), total = sums.reduce((sum, value) => sum + Math.abs(value), 0);
      this.csv(`${table.layer} region`, this.concepts(table, table.ranked(selected, sums).map(concept => [concept, sums[concept], sums[concept] / total])));
    } });
  }

  concepts(table, rows) { return [["layer", "concept", "name", "relevance", "share"], ...rows.map(([concept, relevance, share]) => [table.layer, concept, table.nameOf(concept), relevance, share])]; }

  menu(place, what, choices, after = false) {
    const menu = element("details", { class: "takes" }, element("summary", {}, "Copy or download", element("span", { class: "unseen" }, `: ${what}`)));
    for (const [text, take] of Object.entries(choices)) {
      const button = element("button", { type: "button" }, text);
      button.addEventListener("click", () => { const address = take(); if (typeof address === "string") copyAddress(button, address); });
      menu.append(button);
    }
    if (after) place.after(menu);
    else place.append(menu);
  }

  // A link to a part, with what the page is set to.
  address(part) {
    const hash = part + this.settings();
    return location.href.split("#")[0] + (hash && `#${hash}`);
  }

  csv(name, rows) { download(this.file(name, "csv"), csv(rows), "text/csv"); }

  json(name, content) { download(this.file(name, "json"), JSON.stringify(content, null, 1), "application/json"); }

  // Files are called after the picture and the part.
  file(name, kind) {
    const picture = (this.numbers.provenance.image ?? "").split(/[/\\]/).pop().replace(/\.[^.]*$/, "");
    return `${`${picture} ${name}`.trim().replace(/[^\p{L}\p{N}._-]+/gu, "-")}.${kind}`;
  }

  // The map as it lies on the faded picture; styles of the page go with it.
  svg(name, map) {
    const copy = map.cloneNode(true), [, , width, height] = map.getAttribute("viewBox").split(" ");
    copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
    copy.setAttribute("width", width);
    copy.setAttribute("height", height);
    const styled = [...map.querySelectorAll("text, .hatch")], copies = [...copy.querySelectorAll("text, .hatch")];
    styled.forEach((item, at) => {
      const style = getComputedStyle(item);
      for (const property of ["fill", "stroke", "paint-order", "stroke-linejoin", "font-weight", "font-family", "text-anchor", "dominant-baseline"]) copies[at].style.setProperty(property, style.getPropertyValue(property));
      copies[at].style.opacity = 1;
    });
    copy.prepend(element("image", { href: this.faded(), width, height, preserveAspectRatio: "none" }));
    download(this.file(name, "svg"), new XMLSerializer().serializeToString(copy), "image/svg+xml");
  }

  faded() { return addressIn(getComputedStyle(document.documentElement).getPropertyValue("--faded")); }

  // A heatmap on the scale that the page shows it on.
  async png(name, heat) {
    const load = async address => { const image = new Image(); image.src = address; await image.decode(); return image; };
    const drawn = heat.querySelector("i"), style = getComputedStyle(drawn), [rows, columns, row, column] = ["--r", "--k", "--y", "--x"].map(name => Number(style.getPropertyValue(name)));
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
    download(this.file(name, "png"), await new Promise(done => canvas.toBlob(done)), "image/png");
  }
}
