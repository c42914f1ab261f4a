// Concepts that the caption of the picture names: the ranking may be out of sight.
const NAMED_AT_ONCE = 3;

// Cells of the picture that a reader selects, and the concepts ranked for them.
class Region {
  constructor(view) {
    this.view = view;
    this.root = view.root.querySelector(".region");
    this.list = this.root.querySelector(".ranking");
    this.answer = view.stage.root.querySelector(".answer");
    this.grid = element("div", { class: "grid", role: "grid", "aria-multiselectable": "true" });
    view.stage.frames.append(this.grid);
    this.selected = new Set();
    this.listen();
    this.root.querySelector(".clear").addEventListener("click", () => { this.select(new Set()); this.focusCell(0); });
  }

  get table() { return this.view.tables[this.view.layer]; }

  open() {
    const { table } = this;
    this.grid.replaceChildren();
    this.grid.hidden = this.root.hidden = !table.table;
    if (table.table) {
      this.grid.style.gridTemplate = `repeat(${table.rows}, 1fr) / repeat(${table.columns}, 1fr)`;
      this.grid.setAttribute("aria-label", `Cells of the picture, for concepts of ${table.layer}. Arrow keys move, Shift and arrow keys select.`);
      for (let row = 0; row < table.rows; row++) {
        const line = element("div", { role: "row" });
        for (let column = 0; column < table.columns; column++) {
          const cell = row * table.columns + column;
          line.append(element("div", {
            role: "gridcell", tabindex: cell ? -1 : 0, "data-cell": cell, "aria-selected": "false",
            "aria-label": `${table.axes ? table.place([cell]) : `row ${row + 1}, column ${column + 1}`}: ${table.sentence(cell)}`,
          }));
        }
        this.grid.append(line);
      }
    }
    this.cells = all("[data-cell]", this.grid);
    this.select(new Set());
  }

  select(region) {
    this.selected = region;
    document.dispatchEvent(new Event("selected"));
    const { table, list, root, view } = this;
    this.grid.classList.toggle("some", region.size > 0);
    this.answer.replaceChildren();
    if (!table.table) return;
    for (const cell of this.cells) cell.setAttribute("aria-selected", region.has(Number(cell.dataset.cell)));
    list.dataset.layer = this.answer.dataset.layer = view.layer;
    list.replaceChildren();
    const about = root.querySelector(".about"), others = root.querySelector(".others");
    root.querySelector(".clear").disabled = !region.size;
    root.querySelector("h3").textContent = region.size ? "In the region" : "Ask about a region";
    others.replaceChildren();
    if (!region.size) {
      about.textContent = "Drag over the picture, or move through it with the arrow keys and hold Shift: the concepts are ranked for the cells you select.";
      return;
    }
    const sums = table.sums(region), total = sums.reduce((sum, value) => sum + Math.abs(value), 0);
    const order = table.ranked(region, sums);
    about.textContent = this.part(sums);
    const rows = count => order.slice(0, count).map(concept => this.row(concept, sums[concept], sums[concept] / total, Math.abs(sums[concept] / sums[order[0]])));
    list.append(...rows(LISTED));
    const left = order.length - Math.min(LISTED, order.length), shown = order.slice(0, LISTED).reduce((sum, concept) => sum + Math.abs(tenth(sums[concept] / total)), 0);
    others.append(element("span", {}, left === 1 ? "1 other concept" : `${left} other concepts`), " ", element("strong", {}, percent(total ? Math.max(0, 100 - shown) / 100 : 0)));
    const where = element("span", { class: table.axes ? null : "unseen" }, `, ${table.place([...region].sort((a, b) => a - b))}`);
    this.answer.append(region.size === 1 ? "1 cell selected" : `${region.size} cells selected`, where,
      ...order.length ? [". Strongest there:", element("ol", {}, ...rows(NAMED_AT_ONCE))] : [". No relevance there."]);
  }

  // After a selection by hand: what it gives comes into sight.
  show() { if (this.selected.size) this.answer.scrollIntoView({ block: "nearest" }); }

  // How much of the relevance that the layer hands to the picture lies in the cells, where that is a part of it.
  part(sums) {
    const { table } = this, count = `${this.selected.size} of ${table.rows * table.columns} cells${table.axes ? `, ${table.place([...this.selected])}` : ""}`;
    const net = sums.reduce((sum, value) => sum + value, 0), whole = table.sums(table.everywhere).reduce((sum, value) => sum + value, 0);
    const part = net / whole;
    if (!(part >= 0 && part <= 1)) return `${count}. Percentages are parts of the absolute relevance there.`;
    return `${count}, with ${percent(part)} of the relevance that reaches the picture from ${table.layer}. Percentages below are parts of the absolute relevance there.`;
  }

  row(concept, relevance, share, length) {
    const side = share > 0 ? "supports" : "opposes", bar = element("span", { class: "bar", "aria-hidden": "true" }, element("i"));
    bar.firstChild.style.width = `${50 * length}%`;
    const button = element("button", { type: "button", class: "to" }, this.table.glimpse(concept),
      element("span", { class: "label" }, ...this.table.chip(concept), element("bdi", {}, this.table.heading(concept)), element("span", { class: "unseen" }, ` ${side}`)), bar, element("strong", {}, signed(share)));
    return element("li", { class: side, "data-concept": concept, "data-share": share, "data-relevance": relevance }, button);
  }

  rectangle(from, to, base) {
    const { columns } = this.table, region = new Set(base);
    const [r1, r2] = [Math.floor(from / columns), Math.floor(to / columns)].sort((a, b) => a - b);
    const [c1, c2] = [from % columns, to % columns].sort((a, b) => a - b);
    for (let row = r1; row <= r2; row++) for (let column = c1; column <= c2; column++) region.add(row * columns + column);
    return region;
  }

  cellAt(event) {
    const { rows, columns } = this.table, box = this.grid.getBoundingClientRect();
    const along = (position, start, length, count) => Math.min(count - 1, Math.max(0, Math.floor((position - start) / length * count)));
    return along(event.clientY, box.top, box.height, rows) * columns + along(event.clientX, box.left, box.width, columns);
  }

  focusCell(cell) {
    for (const other of this.cells) other.tabIndex = Number(other.dataset.cell) === cell ? 0 : -1;
    this.cells[cell].focus({ preventScroll: true });
  }

  listen() {
    const { grid, view } = this;
    let from = null, base = [];
    grid.addEventListener("pointerdown", event => {
      // Of two fingers, neither selects.
      if (!event.isPrimary) from = null;
      if (event.button || !event.isPrimary) return;
      const cell = this.cellAt(event), alone = this.selected.size === 1 && this.selected.has(cell);
      event.preventDefault();
      view.rest();
      grid.setPointerCapture(event.pointerId);
      this.focusCell(cell);
      base = event.ctrlKey || event.metaKey ? this.selected : [];
      from = alone ? null : cell;
      this.select(alone ? new Set() : this.rectangle(cell, cell, base));
      this.anchor = cell;
    });
    grid.addEventListener("pointermove", event => {
      const cell = this.cellAt(event);
      if (from !== null) this.select(this.rectangle(from, cell, base));
      else if (view.stage.chosen === "map" && !this.selected.size) this.point(cell);
    });
    for (const end of ["pointerup", "pointercancel"]) grid.addEventListener(end, () => { from = null; this.show(); });
    grid.addEventListener("mouseleave", () => view.rest());
    grid.addEventListener("keydown", event => this.key(event));
  }

  // On the map, the concept of the cell under the pointer lights up, and the caption says what the cell holds.
  point(cell) {
    const { view, table } = this, concept = table.winner[cell];
    if (concept >= 0) {
      view.light({ layer: table.layer, concept, cell });
      return;
    }
    view.rest();
    view.stage.caption.replaceChildren(table.sentence(cell));
    // What is lit is no longer what the caption says.
    view.lit = undefined;
  }

  key(event) {
    const { rows, columns } = this.table, cell = Number(event.target.dataset.cell);
    const row = Math.floor(cell / columns), column = cell % columns;
    const to = {
      ArrowUp: Math.max(0, row - 1) * columns + column, ArrowDown: Math.min(rows - 1, row + 1) * columns + column,
      ArrowLeft: row * columns + Math.max(0, column - 1), ArrowRight: row * columns + Math.min(columns - 1, column + 1),
      Home: row * columns, End: row * columns + columns - 1,
    }[event.key];
    if (to !== undefined) {
      event.preventDefault();
      if (event.shiftKey) {
        this.anchor ??= cell;
        this.select(this.rectangle(this.anchor, to, []));
        this.show();
      } else this.anchor = to;
      this.focusCell(to);
      this.view.zoom.reveal(this.cells[to]);
      if (this.view.stage.chosen === "map" && !this.selected.size) this.point(to);
    } else if (event.key === " " || event.key === "Enter") {
      event.preventDefault();
      const region = new Set(event.ctrlKey || event.metaKey || this.selected.has(cell) ? this.selected : []);
      if (!region.delete(cell)) region.add(cell);
      this.anchor = cell;
      this.select(region);
      this.show();
    }
  }
}
