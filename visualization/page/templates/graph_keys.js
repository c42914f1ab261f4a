// Arrow keys in the graph: left and right within a row, up and down along the strongest edge.
class GraphKeys {
  constructor(graph) {
    this.graph = graph;
    for (const node of graph.nodes) node.addEventListener("keydown", event => this.key(event, node));
  }

  static of(node) { return `${node.dataset.layerName}/${node.dataset.concept}`; }

  // Nodes stand in the page as they are read: row by row, from left to right.
  row(node) { return this.graph.nodes.filter(other => other.style.top === node.style.top); }

  // The node at the other end of the strongest edge, above or below: edges are drawn from the weakest to the strongest.
  along(node, from, to) {
    const strongest = this.graph.edges.findLast(edge => edge.dataset[from] === GraphKeys.of(node));
    return strongest && this.graph.nodes.find(other => GraphKeys.of(other) === strongest.dataset[to]);
  }

  key(event, node) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const row = this.row(node), at = row.indexOf(node);
    const steps = {
      ArrowLeft: () => row[at - 1], ArrowRight: () => row[at + 1], Home: () => row[0], End: () => row[row.length - 1],
      ArrowUp: () => this.along(node, "lower", "upper"), ArrowDown: () => this.along(node, "upper", "lower"),
    };
    if (!(event.key in steps)) return;
    event.preventDefault();
    const next = steps[event.key]();
    if (next) { next.focus(); next.scrollIntoView({ block: "nearest", inline: "nearest" }); }
  }
}
