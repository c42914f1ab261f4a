// The attribution graph: what is linked to the concept that is looked at.
class Graph {
  constructor(view) {
    this.view = view;
    this.root = view.root.querySelector(".graph");
    this.find();
    if (!this.packed) return;
    const watch = new IntersectionObserver(entries => { if (entries.some(entry => entry.isIntersecting)) this.fill(); }, { rootMargin: "100%" });
    watch.observe(this.root);
  }

  get packed() { return this.root?.querySelector(":scope > [data-packed]"); }

  find() {
    this.nodes = this.root ? all(".node", this.root) : [];
    this.edges = this.root ? all(".edge", this.root) : [];
    for (const scroll of this.root ? all(".scroll", this.root) : []) scroll.scrollLeft = (scroll.scrollWidth - scroll.clientWidth) / 2;
    new GraphKeys(this);
  }

  // Puts in the graph, if it is packed: when it is nearly in sight, or a concept lights up in it.
  fill() {
    if (!fill(this.root)) return;
    this.find();
    filled(this.view, this.root);
  }

  node(layer, concept) {
    this.fill();
    return this.nodes.find(node => node.dataset.layerName === layer && Number(node.dataset.concept) === concept);
  }

  mark(which) {
    for (const node of this.nodes) {
      if (which && node === this.node(which.layer, which.concept)) node.setAttribute("aria-current", "true");
      else node.removeAttribute("aria-current");
    }
  }

  // The next sentence is written again, even if it is about the same concept.
  forget() { if (this.root) delete this.root.querySelector(".about").dataset.key; }

  light(which, key) {
    if (!this.root || (!which && this.packed)) return;
    const node = which && this.node(which.layer, which.concept), about = this.root.querySelector(".about");
    this.root.classList.toggle("picked", Boolean(node));
    const linked = new Set([key]);
    for (const edge of this.edges) {
      const on = edge.dataset.upper === key || edge.dataset.lower === key;
      edge.classList.toggle("on", on);
      if (on) linked.add(edge.dataset.upper).add(edge.dataset.lower);
    }
    for (const other of this.nodes) {
      other.classList.toggle("on", linked.has(`${other.dataset.layerName}/${other.dataset.concept}`));
      other.classList.toggle("self", other === node);
    }
    // What was said last stays: the link in it may be where the focus goes next.
    if (!node || about.dataset.key === key) return;
    about.dataset.key = key;
    about.replaceChildren(node.dataset.text);
    const card = this.view.card(this.view.layerNamed(which.layer), which.concept);
    if (card) about.append(" ", element("a", { href: `#${card.id}`, class: "to-card", "data-layer-name": which.layer, "data-concept": which.concept }, "Go to its card"));
    about.append(...this.view.toPage(which.layer, which.concept));
  }
}
