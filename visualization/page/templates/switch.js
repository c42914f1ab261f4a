// Concepts that the reader switches off: up to two of one layer. They become zero, or their means. The answer of the
// model, the classes in the header, and effects and order of the layer's cards become those without them.
class Switch {
  constructor(current, changed) {
    Object.assign(this, { current, changed, layer: null, off: [], mean: false, last: null });
    this.stored = all(".view").map((_, index) => tables[index].map(({ ablations, layer }) => ablations ? ablations.ways.map((_, way) => new Ablations(ablations, way, layer)) : []));
    Object.assign(this, { kept: new Map(), orders: new Map(), buttons: [] });
    this.take(document);
    this.buildBar();
    document.addEventListener("filled", event => { this.take(event.detail.place); if (this.layer !== null) this.show(); });
  }

  // Cards of the page, or of a layer that has been opened: what they say, their order, and a button on each.
  take(root) {
    for (const place of all(".classes caption, .classes tbody, .card .effect, .fold summary", root)) this.kept.set(place, [...place.childNodes].map(node => node.cloneNode(true)));
    for (const list of all(".cards", root)) this.orders.set(list, [...list.children]);
    for (const card of all(".card", root).filter(one => this.of(one, false)?.single.has(Number(one.dataset.concept)))) {
      const button = element("button", { type: "button", class: "without", "aria-pressed": "false", title: "Its part of the layer\u2019s output becomes zero, or its mean" },
        "Switch off", element("span", { class: "unseen" }, `, ${this.named(card)}`));
      button.addEventListener("click", () => this.toggle(card));
      card.querySelector(".facts").append(button);
      this.buttons.push({ button, card });
    }
  }

  buildBar() {
    this.status = element("p", { class: "answer", role: "status" });
    this.list = element("ul", { class: "outcome" });
    this.note = element("p", { class: "note" });
    this.choices = ["zero", "their mean"].map(value => element("input", { type: "radio", name: "instead", value }));
    this.ways = element("fieldset", { class: "instead" }, element("legend", {}, "Concepts that are off become"), ...this.choices.map(choice => element("label", {}, choice, choice.value)));
    this.ways.addEventListener("change", () => this.set(this.layer, this.off, this.choices[1].checked));
    this.reset = element("button", { type: "button", class: "reset" }, "Switch on again");
    this.reset.addEventListener("click", () => { this.set(null, []); this.last?.focus({ preventScroll: true }); });
    this.bar = element("section", { class: "switched", "aria-label": "Concepts switched off", hidden: "" }, element("div", {}, this.status, this.ways, this.note), this.list, this.reset);
    document.querySelector("main").append(this.bar);
  }

  // The stored outputs of a card's layer, and of a layer by name in a view.
  of(card, mean = this.mean) { return this.stored[card.closest(".view").dataset.view][card.dataset.layer][Number(mean)]; }

  at(layer, mean = this.mean, view = this.current().index) { return this.stored[view].find(([zero]) => zero?.layer === layer)?.[Number(mean)]; }

  named(card) { return tables[card.closest(".view").dataset.view][card.dataset.layer].named(Number(card.dataset.concept)); }

  // -- what the reader does

  toggle(card) {
    const { layer } = this.of(card, false), concept = Number(card.dataset.concept);
    this.last = card.querySelector(".without");
    const top = this.last.getBoundingClientRect().top;
    if (this.layer !== null && this.layer !== layer) {
      this.say(`The page holds no outputs without concepts of two layers at once: switch those of ${this.layer} on first.`);
    } else {
      const off = this.off.includes(concept) ? this.off.filter(other => other !== concept) : [...this.off, concept];
      const refusal = this.refusal(layer, off, this.mean);
      if (refusal) this.say(refusal);
      else this.set(layer, off);
    }
    // The card stays where it was on the screen, above the bar, with the focus, wherever it went in the list.
    this.last.focus({ preventScroll: true });
    const lowest = innerHeight - this.bar.offsetHeight - this.last.offsetHeight - 16;
    scrollBy({ top: this.last.getBoundingClientRect().top - Math.min(top, lowest), behavior: "instant" });
  }

  // Why the output without these concepts is not here; empty if it is.
  refusal(layer, off, mean) {
    if (!off.length) return "";
    const zero = this.at(layer, false);
    if (!zero) return "The page holds no outputs without concepts of that layer.";
    return this.at(layer, mean)?.refusal(off) ?? `The page holds no outputs with concepts of ${layer} at their means: the library has none.`;
  }

  // Switches off these concepts and no others; of a layer that does not have them all, none.
  set(layer, off, mean = this.mean, address = true) {
    const refusal = this.refusal(layer, off, mean);
    this.mean = mean;
    this.layer = off.length && !refusal ? layer : null;
    this.off = this.layer === null ? [] : off;
    this.show();
    if (refusal) this.say(refusal);
    if (address) this.changed();
  }

  // Another view: the same concepts, if it shows them.
  turn() { this.set(this.layer, this.off, this.mean, false); }

  // -- what the page shows

  say(sentence) {
    this.bar.hidden = false;
    this.status.replaceChildren(sentence);
  }

  showWays() {
    const lacking = this.layer !== null && !this.at(this.layer, true);
    this.choices.forEach((choice, way) => { choice.checked = way === Number(this.mean); choice.disabled = lacking && way === 1; });
    this.note.textContent = `${this.mean ? "Concepts that are off are set to their mean over the mined data at their layer" : "Concepts that are off are set to zero at their layer"}, `
      + `and the rest of the model ran again. ${lacking ? "The library holds no means of this layer. " : ""}Heatmaps, maps, shares and the graph are those of the whole model.`;
  }

  show() {
    const stored = this.layer === null ? null : this.at(this.layer);
    this.showWays();
    for (const [place, nodes] of this.kept) place.replaceChildren(...nodes.map(node => node.cloneNode(true)));
    for (const [list, items] of this.orders) list.replaceChildren(...items);
    for (const note of all(".cards-by")) note.remove();
    for (const { button, card } of this.buttons) {
      const own = this.of(card), concept = Number(card.dataset.concept), here = stored !== null && own?.layer === this.layer;
      const pressed = here && this.off.includes(concept);
      button.setAttribute("aria-pressed", pressed);
      button.setAttribute("aria-disabled", stored !== null && !pressed && !(here && own.answer([...this.off, concept])));
      card.classList.toggle("is-off", pressed);
    }
    document.body.classList.toggle("some-off", stored !== null);
    this.bar.hidden = stored === null;
    this.list.hidden = this.reset.hidden = this.note.hidden = stored === null;
    if (stored === null) return;
    const before = stored.answer([]), after = stored.answer(this.off);
    this.showClasses(stored, before, after);
    this.showCards(stored);
    this.bar.dataset.value = after.value;
    this.status.replaceChildren(...this.sentence(stored, before, after));
  }

  // That the concepts are off, in words.
  without() {
    const table = this.current().tables[this.current().layerNamed(this.layer)];
    return element("span", {}, this.mean ? "with " : "without ", this.off.map(concept => table.named(concept)).join(" and "), " of ", element("bdi", {}, this.layer),
      this.mean ? ` at ${this.off.length > 1 ? "their means" : "its mean"}` : "");
  }

  sentence(stored, before, after) {
    const words = this.without(), [first] = after.classes, parts = [words, ": "];
    words.firstChild.data = words.firstChild.data.replace("w", "W");
    if (first && stored.probabilities) {
      const still = first.index === before.classes[0].index ? "still " : "";
      parts.push(`the model ${still}sees `, element("strong", {}, element("bdi", {}, first.name)), ` (${stored.text(first)}); `);
    }
    return [...parts, element("bdi", {}, stored.subject), `: ${stored.change(before, after)}.`];
  }

  showClasses(stored, before, after) {
    const body = document.querySelector(".classes tbody"), caption = document.querySelector(".classes caption");
    caption.append(", ", this.without());
    const old = new Map(before.classes.map(one => [one.index, one])), rows = new Map(all("tr", body).map(row => [row.dataset.class, row]));
    for (const [place, one] of after.classes.entries()) {
      let row = rows.get(String(one.index));
      // A class that was not among the listed ones is told if the model predicts it now.
      if (!row && place) continue;
      if (!row) row = this.newRow(one, rows.values().next().value);
      this.fill(row, one, stored);
      body.append(row);
    }
    // What is explained, if it is no class, stands last. It is that of the first view.
    const start = rows.get("");
    if (start) {
      const answer = this.at(this.layer, this.mean, 0)?.answer(this.off);
      start.querySelector(".value").textContent = answer ? short(answer.value) : "not stored";
      body.append(start);
    }
    if (!stored.probabilities) {
      this.list.replaceChildren();
      return;
    }
    const listed = after.classes.filter((one, place) => {
      const most = Math.max(one.probability, old.get(one.index).probability);
      return !place || one.index === stored.output || (rows.has(String(one.index)) && (stored.spread || most >= 0.01));
    });
    const lines = listed.map(one => this.line(one, old.get(one.index), stored));
    const rest = stored.independent ? 0 : 1 - listed.reduce((sum, one) => sum + one.probability, 0);
    if (rest > 0.0005) lines.push(element("li", { class: "rest" }, element("span", { class: "class" }, "all others"), element("span", { class: "value" }, stored.text({ probability: rest }))));
    this.list.replaceChildren(...lines);
  }

  newRow({ index, name }, like) {
    const row = like.cloneNode(true);
    row.className = "";
    row.dataset.class = index;
    row.querySelector("th").replaceChildren(element("bdi", {}, name));
    return row;
  }

  fill(row, one, stored) {
    const track = row.querySelector(".track span"), cell = row.querySelector("td");
    Object.assign(row.dataset, { logit: one.logit, probability: one.probability });
    if (track) track.style.width = `${(100 * one.probability).toFixed(2)}%`;
    if (cell.title) cell.title = `logit ${one.logit.toFixed(2)}`.replace("-", "\u2212");
    row.querySelector(".value").textContent = stored.text(one);
  }

  line(one, old, stored) {
    const width = value => `width:${(100 * value.probability).toFixed(2)}%`;
    const track = element("span", { class: "track", "aria-hidden": "true" }, element("i", { class: "was", style: width(old) }), element("i", { class: "is", style: width(one) }));
    return element("li", one.index === stored.output ? { class: "explained" } : {}, element("span", { class: "class" }, element("bdi", {}, one.name)), track,
      element("span", { class: "value" }, `${stored.text(old)} \u2192 ${stored.text(one)}`));
  }

  // Effects of the layer's cards as they are now, and the cards in the order of these.
  showCards(stored) {
    const view = this.current(), index = view.layerNamed(this.layer), list = view.panels[index].querySelector(".cards");
    const now = stored.answer(this.off), falls = new Map();
    for (const card of view.cards) {
      if (Number(card.dataset.layer) !== index) continue;
      const concept = Number(card.dataset.concept), off = this.off.includes(concept);
      const without = off ? this.off.filter(other => other !== concept) : [...this.off, concept];
      const other = stored.answer(without), [effect, ...warnings] = all(".effect", card);
      if (!effect) continue;
      const [before, after] = off ? [other, now] : [now, other];
      effect.textContent = (off ? "switched off" : this.mean ? "at its mean, too" : "without it, too") + (other ? `: ${stored.change(before, after)}` : ": not stored");
      for (const warning of warnings) warning.replaceChildren();
      falls.set(card, off ? Infinity : other ? Math.abs(before.value - after.value) : -1);
    }
    this.arrange(list, falls);
    list.before(element("p", { class: "cards-by" }, this.off.length > 1 ? "The two that are off come first; what a third would change is not stored."
      : `The concept that is off comes first; the others are sorted by how much the output still changes ${this.mean ? "with them at their means" : "without them"}.`));
  }

  // As many cards stay folded as before: those with the smallest falls.
  arrange(list, falls) {
    const holds = item => item.querySelector(":scope > .card"), fold = list.querySelector(".fold .cards");
    const outer = this.orders.get(list), inner = fold ? this.orders.get(fold) : [], fall = item => falls.get(holds(item)) ?? -1;
    const sorted = [...outer.filter(holds), ...inner].sort((a, b) => fall(b) - fall(a) || 0), open = outer.filter(holds).length;
    list.replaceChildren(...sorted.slice(0, open), ...outer.filter(item => !holds(item)));
    if (!fold) return;
    fold.replaceChildren(...sorted.slice(open));
    fold.closest("details").querySelector("summary").textContent = `${inner.length} more concept${inner.length === 1 ? "" : "s"}`;
  }
}
