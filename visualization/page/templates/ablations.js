// The model's outputs without some concepts of a layer, as they stand in the page: they are zero, or at their means.
class Ablations {
  constructor(content, way, layer) {
    Object.assign(this, content, content.ways[way], { layer });
    later(this, "numbers", () => floats(this.table));
    this.rows = new Map(content.removed.map((row, index) => [row.join(), index]));
    this.single = new Set(content.removed.flatMap(row => row.length === 1 ? row : []));
    this.paired = new Set(content.removed.flatMap(row => row.length === 2 ? row : []));
  }

  // What the model answers without `off`: the number that is explained, and classes with logits and probabilities, the
  // largest first; undefined if that is not stored.
  answer(off) {
    const row = this.rows.get([...off].sort((a, b) => a - b).join()), width = this.classes.length + 2;
    if (row === undefined) return undefined;
    const [value, ...logits] = this.numbers.subarray(row * width, (row + 1) * width);
    const most = Math.max(...logits), sum = logits.reduce((total, logit) => total + Math.exp(logit - most), 0);
    const share = logit => this.independent ? 1 / (1 + Math.exp(-logit)) : Math.exp(logit - most) / sum;
    const classes = this.classes.map(([index, name], place) => ({
      index, name, logit: logits[place], probability: this.probabilities ? share(logits[place]) : null,
    }));
    return { value, classes: classes.sort((a, b) => b.logit - a.logit), others: this.probabilities && !this.independent ? share(logits[logits.length - 1]) : 0 };
  }

  // What the model gives for a class: its probability, or the value of the only output.
  text({ probability, logit }) {
    if (probability === null) return short(logit);
    if (this.spread) return `${Number((100 * probability).toPrecision(2))}\u00a0%`.replace("-", "\u2212");
    return probability > 0.99 ? "over 99\u00a0%" : probability < 0.01 ? "under 1\u00a0%" : `${(100 * probability).toFixed(0)}\u00a0%`;
  }

  // From one answer to another, as cards say it.
  change(before, after) {
    const values = `${short(before.value)} \u2192 ${short(after.value)}`;
    if (this.target === null) return this.difference ? `difference ${values}` : values;
    const [from, to] = [before, after].map(answer => this.text(answer.classes.find(one => one.index === this.target)));
    return `${from} \u2192 ${to}, logit ${values}`;
  }

  // Why the output without these concepts is not here; empty if it is.
  refusal(off) {
    if (this.answer(off)) return "";
    if (off.length > 2) return "The page holds outputs without one or two concepts, not without three: switch one on first.";
    const lone = off.find(concept => !this.single.has(concept));
    if (lone !== undefined) return `The page holds no output without concept ${lone} of ${this.layer}: it has no card.`;
    return `The page holds no output without these two together: pairs are stored of the ${this.paired.size} concepts of ${this.layer} with the largest shares.`;
  }
}

// Three significant digits, or all digits before the decimal point.
function short(value) {
  const size = Math.abs(value);
  return (size >= 100 && size < 1e6 ? value.toFixed(0) : String(Number(value.toPrecision(3)))).replace("-", "\u2212");
}
