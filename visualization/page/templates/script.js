"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const element = (tag, attributes = {}, ...children) => {
    const made = document.createElementNS(tag === "svg" || tag === "rect" || tag === "path" ? "http://www.w3.org/2000/svg" : "http://www.w3.org/1999/xhtml", tag);
    for (const [name, value] of Object.entries(attributes)) if (value !== null) made.setAttribute(name, value);
    made.append(...children);
    return made;
  };
  const tenth = share => Math.round(share * 1000) / 10 + 0;
  const percent = share => `${tenth(share).toFixed(1)}\u00a0%`.replace("-", "\u2212");
  const signed = share => (tenth(share) > 0 ? "+" : "") + percent(share);
  const LISTED = 8;
  // A picture of nothing: what shows is the faded input behind it.
  const BLANK = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7";

  document.body.classList.add("live");
  for (const image of all(".patch img")) image.title = image.alt;

  // Relevance of all concepts in all cells of one layer, read from the page when it is first asked for.
  class Table {
    constructor(content) {
      Object.assign(this, content);
      if (!content.table) return;
      const bytes = text => Uint8Array.from(atob(text), character => character.charCodeAt(0)).buffer;
      this.scale = new Float32Array(bytes(content.scale));
      this.steps = new Int16Array(bytes(content.table));
    }
    at(cell, concept) { return this.steps[cell * this.size + concept] * this.scale[concept]; }
    sums(cells) {
      return Array.from({ length: this.size }, (_, concept) => {
        let sum = 0;
        for (const cell of cells) sum += this.at(cell, concept);
        return sum;
      });
    }
    get everywhere() { return Array.from({ length: this.rows * this.columns }, (_, cell) => cell); }
    share(concept) {
      const total = this.relevance ? this.relevance.reduce((sum, value) => sum + Math.abs(value), 0) : 0;
      return total ? this.relevance[concept] / total : null;
    }
    rank(concept) {
      const own = Math.abs(this.relevance[concept]);
      return 1 + this.relevance.filter((value, other) => Math.abs(value) > own || (Math.abs(value) === own && other < concept)).length;
    }
    glimpse(concept) {
      const { name, rows, columns, place } = this.sprite, at = place[concept];
      if (at === undefined) return element("i", { class: "glimpse none" });
      const made = element("i", { class: "glimpse" });
      made.style.cssText = `background-image:var(--s${name});--r:${rows};--n:${columns};--y:${Math.floor(at / columns)};--x:${at % columns}`;
      return made;
    }
  }
  const cells = JSON.parse(document.getElementById("atlas-cells").textContent)
    .map(view => view.map(layer => new Table(layer)));

  class View {
    constructor(root) {
      this.root = root;
      this.index = Number(root.dataset.view);
      this.tables = cells[this.index];
      this.tabs = all("[role=tab]", root);
      this.panels = all(".panel", root);
      this.cards = all(".card", root);
      this.caption = root.querySelector(".now");
      this.captions = { relevance: [...this.caption.childNodes].map(node => node.cloneNode(true)) };
      this.chosen = all(".map", root).length ? "map" : "relevance";
      this.layer = 0;
      this.pinned = null;
      this.lit = undefined;
      this.selected = new Set();
      this.build();
      this.listen();
      this.open(0);
      for (const scroll of all(".scroll", root)) scroll.scrollLeft = (scroll.scrollWidth - scroll.clientWidth) / 2;
    }

    // -- what the script adds to the page

    build() {
      const frames = this.frames = this.root.querySelector(".frames");
      if (!frames.querySelector("[data-frame=input]")) {
        frames.prepend(document.querySelector("[data-frame=input]").cloneNode());
      }
      this.conceptPicture = element("img", { class: "picture", alt: "" });
      this.overlay = element("svg", { "aria-hidden": "true" });
      frames.append(element("div", { class: "frame concept", "data-frame": "concept", hidden: "" }, this.conceptPicture, this.overlay));
      // Out of the frames, so that nothing below moves when the picture changes.
      this.legends = all(".legend", frames);
      frames.after(...this.legends);
      this.grid = element("div", { class: "grid", role: "grid", "aria-multiselectable": "true" });
      frames.append(this.grid);
      for (const again of all(".again", this.root)) {
        const card = again.closest(".card");
        const first = all(".card").find(other => other.dataset.layer === card.dataset.layer &&
          other.dataset.concept === card.dataset.concept && other.querySelector(".strips"));
        again.replaceWith(first.querySelector(".strips").cloneNode(true));
      }
    }

    buildGrid() {
      const table = this.tables[this.layer], name = this.tables[this.layer].layer;
      this.grid.replaceChildren();
      this.grid.hidden = this.root.querySelector(".region").hidden = !table.table;
      if (!table.table) return;
      this.grid.style.gridTemplate = `repeat(${table.rows}, 1fr) / repeat(${table.columns}, 1fr)`;
      this.grid.setAttribute("aria-label", `Cells of the picture, for concepts of ${name}. Arrow keys move, Shift and arrow keys select.`);
      for (let row = 0; row < table.rows; row++) {
        const line = element("div", { role: "row" });
        for (let column = 0; column < table.columns; column++) {
          const cell = row * table.columns + column, winner = table.winner[cell];
          line.append(element("div", {
            role: "gridcell", tabindex: cell ? -1 : 0, "data-cell": cell, "aria-selected": "false",
            "aria-label": `row ${row + 1}, column ${column + 1}: ${winner < 0 ? "almost no relevance" : `concept ${winner} is strongest`}`,
          }));
        }
        this.grid.append(line);
      }
      this.cells = all("[data-cell]", this.grid);
    }

    // -- layers and concepts

    open(index) {
      this.layer = index;
      this.panels.forEach((panel, i) => { panel.hidden = i !== index; });
      for (const legend of this.legends) legend.hidden = Number(legend.dataset.layer) !== index;
      this.tabs.forEach((tab, i) => { tab.setAttribute("aria-selected", i === index); tab.tabIndex = i === index ? 0 : -1; });
      const mapButton = this.root.querySelector("[data-show=map]");
      if (mapButton) mapButton.disabled = !this.map();
      if (this.chosen === "map" && !this.map()) this.chosen = "relevance";
      this.buildGrid();
      this.select(new Set());
      this.pin(null);
    }

    map() { return this.frames.querySelector(`.map[data-layer="${this.layer}"]`); }
    card(layer, concept) {
      return this.cards.find(card => Number(card.dataset.layer) === layer && Number(card.dataset.concept) === concept);
    }
    layerNamed(name) { return this.tables.findIndex(table => table.layer === name); }
    // In a site: a link to the concept's own page.
    toPage(layer, concept) {
      const table = this.tables[this.layerNamed(layer)];
      return table && table.pages ? [" ", element("a", { href: `${table.pages}${concept}.html`, class: "to-card" }, "All about it")] : [];
    }
    node(layer, concept) {
      return all(".node", this.root).find(node => node.dataset.layerName === layer && Number(node.dataset.concept) === concept);
    }

    show(frame) {
      for (const each of all("[data-frame]", this.frames)) {
        each.hidden = each.dataset.frame !== frame || (frame === "map" && each !== this.map());
      }
      this.root.querySelector(".stage").dataset.now = frame;
      for (const button of all("[data-show]", this.root)) button.setAttribute("aria-pressed", button.dataset.show === frame);
    }

    describe(frame) {
      const words = frame === "map" ? this.map().querySelector("figcaption p").childNodes : this.captions[frame] ?? ["What the model was given."];
      this.caption.replaceChildren(...[...words].map(node => node.cloneNode?.(true) ?? node));
    }

    // Lights up one concept everywhere: {layer, concept}, the layer by name; null lights nothing.
    light(which) {
      const key = which && `${which.layer}/${which.concept}`;
      if (key === this.lit) return;
      this.lit = key;
      const index = which ? this.layerNamed(which.layer) : -1;
      for (const place of all(".map, .legend, .panel, .ranking", this.root)) {
        const here = which !== null && Number(place.dataset.layer) === index;
        place.classList.toggle("picked", here);
        for (const item of all("[data-concept]", place)) item.classList.toggle("on", here && Number(item.dataset.concept) === which.concept);
      }
      this.lightGraph(which, key);
      if (which && index >= 0) this.showConcept(index, which);
      else {
        this.describe(this.chosen);
        this.show(this.chosen);
      }
    }

    lightGraph(which, key) {
      const graph = this.root.querySelector(".graph");
      if (!graph) return;
      const node = which && this.node(which.layer, which.concept), about = graph.querySelector(".about");
      graph.classList.toggle("picked", Boolean(node));
      const linked = new Set([key]);
      for (const edge of all(".edge", graph)) {
        const on = edge.dataset.upper === key || edge.dataset.lower === key;
        edge.classList.toggle("on", on);
        if (on) linked.add(edge.dataset.upper).add(edge.dataset.lower);
      }
      for (const other of all(".node", graph)) {
        other.classList.toggle("on", linked.has(`${other.dataset.layerName}/${other.dataset.concept}`));
        other.classList.toggle("self", other === node);
      }
      // What was said last stays: the link in it may be where the focus goes next.
      if (!node || about.dataset.key === key) return;
      about.dataset.key = key;
      about.replaceChildren(node.dataset.text);
      const card = this.card(this.layerNamed(which.layer), which.concept);
      if (card) about.append(" ", element("a", { href: `#${card.id}`, class: "to-card", "data-layer-name": which.layer, "data-concept": which.concept }, "Go to its card"));
      about.append(...this.toPage(which.layer, which.concept));
    }

    showConcept(index, which) {
      const { concept } = which;
      const table = this.tables[index], card = this.card(index, concept), node = this.node(table.layer, concept);
      const share = table.share(concept), said = share === null ? "" : `${signed(share)} of ${table.layer}`;
      const picture = card ? card.querySelector(".where") : node && node.querySelector("img");
      this.conceptPicture.src = picture ? picture.src : BLANK;
      this.conceptPicture.alt = card ? picture.alt : `Where concept ${concept} holds relevance, in cells`;
      this.conceptPicture.classList.toggle("pixels", Boolean(picture && !card));
      this.drawOverlay(table, index, concept, !picture);
      const glimpse = card || table.sprite.place[concept] === undefined ? [] : [table.glimpse(concept)];
      this.caption.replaceChildren(...glimpse, card
        ? `Concept ${concept} ${card.querySelector(".word").textContent}: ${said}.`
        : `Concept ${concept}: ${said}${table.relevance ? `, rank ${table.rank(concept)} of ${table.size}` : ""}. It has no card${picture || !table.table ? "" : "; its cells are shown"}.`, ...this.toPage(table.layer, concept));
      this.show(which.onMap ? "map" : "concept");
    }

    // The concept's cells of the map as outline; without a heatmap of its own, its relevance cell by cell.
    drawOverlay(table, index, concept, coarse) {
      this.overlay.replaceChildren();
      const map = this.frames.querySelector(`.map[data-layer="${index}"] svg`);
      if (!map || !table.table) return;
      const [, , width, height] = map.getAttribute("viewBox").split(" ").map(Number);
      this.overlay.setAttribute("viewBox", `0 0 ${width} ${height}`);
      if (coarse) {
        const strongest = Math.max(...table.everywhere.map(cell => Math.abs(table.at(cell, concept)))) || 1;
        for (const cell of table.everywhere) {
          const value = table.at(cell, concept), opacity = Math.sqrt(Math.abs(value) / strongest) * 0.85;
          if (opacity < 0.1) continue;
          this.overlay.append(element("rect", {
            x: cell % table.columns * width / table.columns, y: Math.floor(cell / table.columns) * height / table.rows,
            width: width / table.columns, height: height / table.rows, class: value > 0 ? "for" : "against", "fill-opacity": opacity.toFixed(2),
          }));
        }
      }
      const region = map.querySelector(`.region-of[data-concept="${concept}"] path`);
      if (region) this.overlay.append(region.cloneNode());
    }

    rest() { this.light(this.pinned); }

    pin(which, address = false) {
      this.pinned = which;
      const card = which && this.card(this.layerNamed(which.layer), which.concept);
      for (const other of this.cards) other.querySelector(".pick").setAttribute("aria-pressed", other === card);
      for (const node of all(".node", this.root)) {
        if (which && node === this.node(which.layer, which.concept)) node.setAttribute("aria-current", "true");
        else node.removeAttribute("aria-current");
      }
      this.root.querySelector("[data-show=concept]").disabled = !which;
      this.lit = undefined;
      this.rest();
      if (address) {
        const hash = which ? `#${encodeURIComponent(which.layer)}/${which.concept}${this.index ? `@${this.index}` : ""}` : location.pathname + location.search;
        try { history.replaceState(null, "", hash); } catch { /* a notebook's frame has no address of its own */ }
      }
    }

    // Opens the concept's layer, lights it up for good, and shows its card if it has one.
    go(layer, concept) {
      const index = this.layerNamed(layer);
      if (index < 0 || !(concept >= 0 && concept < this.tables[index].size)) return false;
      if (index !== this.layer) this.open(index);
      this.pin({ layer, concept }, true);
      const card = this.card(index, concept);
      if (card) {
        card.scrollIntoView({ block: "center" });
        card.querySelector(".pick").focus({ preventScroll: true });
      } else this.root.querySelector(".stage").scrollIntoView({ block: "nearest" });
      return true;
    }

    // -- regions

    select(region) {
      this.selected = region;
      const table = this.tables[this.layer], section = this.root.querySelector(".region"), list = section.querySelector(".ranking");
      this.grid.classList.toggle("some", region.size > 0);
      if (!table.table) return;
      for (const cell of this.cells) cell.setAttribute("aria-selected", region.has(Number(cell.dataset.cell)));
      list.dataset.layer = this.layer;
      list.replaceChildren();
      const about = section.querySelector(".about"), others = section.querySelector(".others"), status = section.querySelector("[role=status]");
      section.querySelector(".clear").disabled = !region.size;
      section.querySelector("h3").textContent = region.size ? "In the region" : "Ask about a region";
      others.replaceChildren();
      status.textContent = "";
      if (!region.size) {
        about.textContent = "Drag over the picture, or move through it with the arrow keys and Shift: the concepts are ranked for the cells you select.";
        return;
      }
      const sums = table.sums(region), total = sums.reduce((sum, value) => sum + Math.abs(value), 0);
      const net = sums.reduce((sum, value) => sum + value, 0), whole = table.sums(table.everywhere).reduce((sum, value) => sum + value, 0);
      const order = sums.map((value, concept) => concept).filter(concept => sums[concept] !== 0)
        .sort((a, b) => Math.abs(sums[b]) - Math.abs(sums[a]) || a - b);
      const places = [...region].sort((a, b) => a - b), first = places[0], last = places[places.length - 1];
      const count = `${region.size} of ${table.rows * table.columns} cells`;
      about.textContent = whole ? `${count}, ${percent(net / whole)} of the relevance that reaches the picture from ${table.layer}.` : `${count}.`;
      let shown = 0;
      for (const concept of order.slice(0, LISTED)) {
        const share = sums[concept] / total, side = share > 0 ? "supports" : "opposes";
        shown += Math.abs(tenth(share));
        const bar = element("span", { class: "bar", "aria-hidden": "true" }, element("i"));
        bar.firstChild.style.width = `${50 * Math.abs(sums[concept]) / Math.abs(sums[order[0]])}%`;
        const button = element("button", { type: "button", class: "to" }, table.glimpse(concept),
          element("span", { class: "label" }, `Concept ${concept}`, element("span", { class: "unseen" }, ` ${side}`)), bar, element("strong", {}, signed(share)));
        list.append(element("li", { class: side, "data-concept": concept, "data-share": share, "data-relevance": sums[concept] }, button));
      }
      const left = order.length - Math.min(LISTED, order.length);
      others.append(element("span", {}, left === 1 ? "1 other concept" : `${left} other concepts`), " ", element("strong", {}, percent(total ? Math.max(0, 100 - shown) / 100 : 0)));
      status.textContent = `${region.size} cells selected, row ${Math.floor(first / table.columns) + 1} column ${first % table.columns + 1} to row ${Math.floor(last / table.columns) + 1} column ${last % table.columns + 1}. ` +
        (order.length ? `Strongest: concept ${order[0]}, ${signed(sums[order[0]] / total)}.` : "No relevance there.");
    }

    rectangle(from, to, base) {
      const { columns } = this.tables[this.layer], region = new Set(base);
      const [r1, r2] = [Math.floor(from / columns), Math.floor(to / columns)].sort((a, b) => a - b);
      const [c1, c2] = [from % columns, to % columns].sort((a, b) => a - b);
      for (let row = r1; row <= r2; row++) for (let column = c1; column <= c2; column++) region.add(row * columns + column);
      return region;
    }

    cellAt(event) {
      const { rows, columns } = this.tables[this.layer], box = this.grid.getBoundingClientRect();
      const along = (position, start, length, count) => Math.min(count - 1, Math.max(0, Math.floor((position - start) / length * count)));
      return along(event.clientY, box.top, box.height, rows) * columns + along(event.clientX, box.left, box.width, columns);
    }

    focusCell(cell) {
      for (const other of this.cells) other.tabIndex = Number(other.dataset.cell) === cell ? 0 : -1;
      this.cells[cell].focus({ preventScroll: true });
    }

    listenToGrid() {
      const grid = this.grid;
      let anchor = null, base = [];
      grid.addEventListener("pointerdown", event => {
        if (event.button) return;
        const cell = this.cellAt(event), alone = this.selected.size === 1 && this.selected.has(cell);
        event.preventDefault();
        this.rest();
        grid.setPointerCapture(event.pointerId);
        this.focusCell(cell);
        base = event.ctrlKey || event.metaKey ? this.selected : [];
        anchor = alone ? null : cell;
        this.select(alone ? new Set() : this.rectangle(cell, cell, base));
        this.anchor = cell;
      });
      grid.addEventListener("pointermove", event => {
        const cell = this.cellAt(event);
        if (anchor !== null) this.select(this.rectangle(anchor, cell, base));
        else if (this.chosen === "map" && !this.selected.size) {
          const winner = this.tables[this.layer].winner[cell];
          if (winner < 0) this.rest();
          else this.light({ layer: this.tables[this.layer].layer, concept: winner, onMap: true });
        }
      });
      for (const end of ["pointerup", "pointercancel"]) grid.addEventListener(end, () => { anchor = null; });
      grid.addEventListener("mouseleave", () => this.rest());
      grid.addEventListener("keydown", event => {
        const { rows, columns } = this.tables[this.layer], cell = Number(event.target.dataset.cell);
        const row = Math.floor(cell / columns), column = cell % columns;
        const to = {
          ArrowUp: Math.max(0, row - 1) * columns + column, ArrowDown: Math.min(rows - 1, row + 1) * columns + column,
          ArrowLeft: row * columns + Math.max(0, column - 1), ArrowRight: row * columns + Math.min(columns - 1, column + 1),
          Home: row * columns, End: row * columns + columns - 1,
        }[event.key];
        if (to !== undefined) {
          event.preventDefault();
          if (event.shiftKey) this.select(this.rectangle(this.anchor ?? cell, to, []));
          else this.anchor = to;
          if (event.shiftKey) this.anchor ??= cell;
          this.focusCell(to);
        } else if (event.key === " " || event.key === "Enter") {
          event.preventDefault();
          const region = new Set(event.ctrlKey || event.metaKey || this.selected.has(cell) ? this.selected : []);
          if (!region.delete(cell)) region.add(cell);
          this.anchor = cell;
          this.select(region);
        }
      });
    }

    // -- events

    conceptOf(target) {
      const item = target.closest("[data-concept]");
      if (!item) return null;
      const layer = item.dataset.layerName ?? this.tables[item.closest("[data-layer]").dataset.layer].layer;
      return { layer, concept: Number(item.dataset.concept), onMap: Boolean(item.closest(".map")) };
    }

    listen() {
      const root = this.root;
      const point = event => { const found = this.conceptOf(event.target); if (found) this.light(found); };
      const leave = event => { if (this.conceptOf(event.target)) this.rest(); };
      root.addEventListener("mouseover", point);
      root.addEventListener("mouseout", leave);
      root.addEventListener("focusin", point);
      root.addEventListener("focusout", leave);
      root.addEventListener("click", event => this.click(event));
      this.listenToGrid();
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
      for (const button of all("[data-show]", root)) {
        button.addEventListener("click", () => {
          if (button.dataset.show !== "concept") this.chosen = button.dataset.show;
          if (button.dataset.show !== "concept") this.describe(button.dataset.show);
          else { this.lit = undefined; this.rest(); }
          this.show(button.dataset.show);
        });
      }
      root.querySelector(".clear").addEventListener("click", () => { this.select(new Set()); this.focusCell(0); });
    }

    click(event) {
      const found = this.conceptOf(event.target);
      if (found && event.target.closest(".pick, .node")) {
        event.preventDefault();
        const same = this.pinned && this.pinned.layer === found.layer && this.pinned.concept === found.concept;
        this.pin(same ? null : { layer: found.layer, concept: found.concept }, true);
      } else if (found && event.target.closest(".legend li, .to, .to-card, .sum [data-concept]")) {
        // Not left to the link: inside a notebook's frame it would lead to the notebook.
        event.preventDefault();
        this.go(found.layer, found.concept);
      }
    }
  }

  // -- the whole page

  const views = all(".view").map(root => new View(root));
  const switches = all("[data-switch]");
  let current = 0;

  function turn(index) {
    const from = views[current], to = views[index], { layer, pinned, selected, chosen } = from;
    views.forEach((view, i) => { view.root.hidden = i !== index; });
    switches.forEach((button, i) => button.setAttribute("aria-pressed", i === index));
    current = index;
    if (from === to) return;
    // What was looked at stays in sight, so that two classes can be compared.
    to.chosen = chosen;
    to.open(layer);
    to.select(selected);
    to.pin(pinned, true);
  }
  switches.forEach((button, index) => button.addEventListener("click", () => turn(index)));

  function follow() {
    let hash = location.hash.slice(1);
    try { hash = decodeURIComponent(hash); } catch { /* a stray percent sign: taken as it is */ }
    const card = hash && all(".card").find(other => other.id === hash);
    if (card) {
      turn(views.findIndex(view => view.root.contains(card)));
      views[current].go(views[current].tables[card.dataset.layer].layer, Number(card.dataset.concept));
      return;
    }
    const parts = hash.match(/^(.*)\/(\d+)(?:@(\d+))?$/s);
    if (!parts) return;
    if (parts[3] && Number(parts[3]) < views.length) turn(Number(parts[3]));
    views[current].go(parts[1], Number(parts[2]));
  }

  const field = document.getElementById("search"), found = document.getElementById("found"), count = document.getElementById("found-count");

  function matches(text) {
    const wanted = text.trim().toLowerCase(), view = views[current], hits = [];
    if (!wanted) return hits;
    view.tables.forEach((table, index) => {
      for (let concept = 0; concept < table.size; concept++) {
        const card = view.card(index, concept), share = table.share(concept) ?? 0;
        const users = card ? all(".users bdi", card).map(use => use.textContent) : [];
        const user = users.find(name => name.toLowerCase().includes(wanted));
        const named = `${table.layer}/${concept}`.toLowerCase();
        const exact = String(concept) === wanted || named === wanted;
        if (exact || String(concept).startsWith(wanted) || named.includes(wanted) || user) {
          hits.push({ layer: table.layer, concept, table, share, user: exact ? undefined : user, exact });
        }
      }
    });
    return hits.sort((a, b) => b.exact - a.exact || Math.abs(b.share) - Math.abs(a.share));
  }

  function search() {
    const hits = matches(field.value);
    found.replaceChildren(...hits.slice(0, LISTED).map(hit => {
      const button = element("button", { type: "button" }, hit.table.glimpse(hit.concept),
        element("span", {}, element("bdi", {}, hit.layer), ` · ${hit.concept}`), element("span", { class: "user" }, hit.user ?? ""), element("strong", {}, signed(hit.share)));
      button.addEventListener("click", () => { reach(hit); });
      return element("li", {}, button);
    }));
    found.hidden = !hits.length;
    count.textContent = field.value.trim() ? `${hits.length} concept${hits.length === 1 ? "" : "s"} found` : "";
  }

  function reach(hit) {
    found.hidden = true;
    views[current].go(hit.layer, hit.concept);
  }

  field.addEventListener("input", search);
  field.addEventListener("focus", search);
  field.addEventListener("keydown", event => {
    const hits = matches(field.value);
    // Without preventDefault, Enter would go on to press the button that gets the focus.
    if (event.key === "Enter" && hits.length) { event.preventDefault(); reach(hits[0]); }
    else if (event.key === "ArrowDown" && !found.hidden) { event.preventDefault(); found.querySelector("button").focus(); }
    else if (event.key === "Escape") { found.hidden = true; event.stopPropagation(); }
  });
  found.addEventListener("keydown", event => {
    const buttons = all("button", found), at = buttons.indexOf(document.activeElement);
    if (event.key === "Escape") { found.hidden = true; field.focus(); event.stopPropagation(); return; }
    if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
    event.preventDefault();
    (buttons[at + (event.key === "ArrowDown" ? 1 : -1)] ?? field).focus();
  });
  document.addEventListener("pointerdown", event => { if (!event.target.closest(".search")) found.hidden = true; });

  document.addEventListener("keydown", event => {
    if (event.key !== "Escape") return;
    const view = views[current];
    if (view.selected.size) view.select(new Set());
    else view.pin(null, true);
  });
  window.addEventListener("hashchange", follow);
  turn(0);
  follow();
})();
