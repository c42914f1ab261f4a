// Relevance of all concepts in all cells of one layer, as it stands in the page.
class Table {
  constructor({ relevance, scale, ...content }) {
    Object.assign(this, content);
    // Unpacked when they are first read. As many digits as float32 has.
    later(this, "relevance", () => relevance && Array.from(floats(relevance), value => Number(value.toPrecision(7))));
    later(this, "scale", () => floats(scale));
    this.places = content.sprite.concepts && new Map(content.sprite.concepts.map((concept, place) => [concept, place]));
  }

  // Unpacked when a layer is first opened: of many layers, few are. How they are packed says `packed_steps` in Python.
  get steps() {
    const cells = this.rows * this.columns, count = cells * this.size, data = unpacked(this.table), steps = new Int16Array(count);
    const bit = at => data[at >> 3] >> (at & 7) & 1;
    let held = 0;
    for (let place = 0; place < count; place++) held += bit(place);
    let sign = count + 7 & ~7, at = (sign + held + 7 & ~7) + 8 * this.size;
    const widths = (at >> 3) - this.size;
    for (let place = 0; place < count; place++) {
      if (!bit(place)) continue;
      const width = data[widths + Math.floor(place / cells)];
      let size = 0;
      while (bit(at++)) size += 1 << width;
      for (let low = 0; low < width; low++) size |= bit(at++) << low;
      steps[place] = bit(sign++) ? -size : size;
    }
    if (this.difference) this.addExpected(steps);
    else this.filled = data;
    Object.defineProperty(this, "steps", { value: steps });
    return steps;
  }

  // Of a difference, what stands in the page is only what is left when the two other tables have been subtracted. Steps
  // wrap around, as they did when it was written.
  addExpected(steps) {
    const [one, other] = this.others, count = this.rows * this.columns;
    for (let concept = 0, place = 0; concept < this.size; concept++) {
      for (let cell = 0; cell < count; cell++, place++) {
        const expected = Math.floor((one.at(cell, concept) - other.at(cell, concept)) / (this.scale[cell] || 1) + 0.5);
        steps[place] += Math.min(32767, Math.max(-32767, expected));
      }
    }
  }

  at(cell, concept) { return this.steps[concept * this.rows * this.columns + cell] * this.scale[cell]; }

  // Whether a concept has relevance in a cell, which may be less than half a step.
  fills(cell, concept) {
    if (this.difference) return this.others.some(other => other.fills(cell, concept));
    const place = concept * this.rows * this.columns + cell;
    return this.steps[place] !== 0 || (this.filled[place >> 3] >> (place & 7) & 1) === 1;
  }

  // The concepts with relevance in some cells, the strongest there first.
  ranked(cells, sums) {
    if (!sums.some(Boolean)) return [];
    return [...sums.keys()].filter(concept => [...cells].some(cell => this.fills(cell, concept)))
      .sort((a, b) => Math.abs(sums[b]) - Math.abs(sums[a]) || a - b);
  }

  sums(cells) {
    return Array.from({ length: this.size }, (_, concept) => {
      let sum = 0;
      for (const cell of cells) sum += this.at(cell, concept);
      return sum;
    });
  }

  get everywhere() { return Array.from({ length: this.rows * this.columns }, (_, cell) => cell); }

  // The largest absolute relevance in any cell: of one concept, or of any.
  peak(concept) {
    if (concept === undefined) return this.highest ??= Math.max(...Array.from({ length: this.size }, (_, each) => this.peak(each)));
    return Math.max(...this.everywhere.map(cell => Math.abs(this.at(cell, concept))));
  }

  share(concept) {
    const total = this.relevance ? this.relevance.reduce((sum, value) => sum + Math.abs(value), 0) : 0;
    return total ? this.relevance[concept] / total : null;
  }

  rank(concept) {
    const own = Math.abs(this.relevance[concept]);
    return 1 + this.relevance.filter((value, other) => Math.abs(value) > own || (Math.abs(value) === own && other < concept)).length;
  }

  // What one cell holds, in words: its strongest supporter, and how much is for and against.
  sentence(cell) {
    const winner = this.winner[cell], values = this.sums([cell]);
    const total = values.reduce((sum, value) => sum + Math.abs(value), 0);
    if (!total) return "No relevance in this cell.";
    const share = values.reduce((sum, value) => sum + Math.max(value, 0), 0) / total;
    const most = winner < 0 ? "Almost no supporting relevance in this cell" : `${this.heading(winner)} supports most in this cell and holds ${percent(values[winner] / total)} of the absolute relevance there`;
    return `${most}; all concepts together: ${percent(share)} for, ${percent(1 - share)} against.`;
  }

  // Where cells lie: on the axes of the input, or by row and column.
  place(cells) {
    if (!this.axes) {
      const first = cells[0], last = cells[cells.length - 1], at = cell => `row ${Math.floor(cell / this.columns) + 1} column ${cell % this.columns + 1}`;
      return `${at(first)} to ${at(last)}`;
    }
    const places = cells.map(cell => this.index[cell]).filter(Boolean);
    if (!places.length) return "outside the input";
    return this.axes.map(({ name, unit, edges }, axis) => {
      const along = places.map(place => place[axis]), first = edges[Math.min(...along)], end = edges[Math.max(...along) + 1];
      return unit ? `${name} ${first} to ${end} ${unit}` : `${name} ${first} to ${end - 1}`;
    }).join(", ");
  }

  // The concept's name, or its number: inside a sentence, and at the beginning of a line. The rest of a
  // layer, a node of the graph, has the number -1.
  named(concept) { return concept < 0 ? "no concept" : this.label(concept) || `concept ${concept}`; }

  heading(concept) { return concept < 0 ? "No concept" : this.label(concept) || `Concept ${concept}`; }

  // What its readers call it, or the page.
  nameOf(concept) { return window.conceptNames?.name(this.layer, concept) ?? this.names[concept] ?? ""; }

  // Its name with its number, unless the name tells it; empty without a name.
  label(concept) {
    const name = this.nameOf(concept);
    return !name || new RegExp(`(?<!\\d)${concept}(?!\\d)`).test(name) ? name : `${name} (${concept})`;
  }

  // Where its patch lies in the picture that has one of each concept; undefined for a concept without one.
  placeOf(concept) { return this.places ? this.places.get(concept) : concept < 0 ? undefined : concept; }

  glimpse(concept) {
    const { name, rows, columns } = this.sprite, at = this.placeOf(concept);
    if (at === undefined) return element("i", { class: "glimpse none" });
    const made = element("i", { class: "glimpse" });
    made.style.cssText = `background-image:var(--s${name});--r:${rows};--n:${columns};--y:${Math.floor(at / columns)};--x:${at % columns}`;
    return made;
  }

  // The concept's colour; null where the page gives it none.
  chip(concept) {
    if (!(concept in this.colours)) return [];
    const made = element("i", { class: "chip" });
    made.style.background = this.colours[concept];
    return [made];
  }
}
