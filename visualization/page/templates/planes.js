// The three planes of a volume through one place, which a cross-hair marks: with the relevance that the picture shows.
const volume = JSON.parse(document.getElementById("atlas-planes")?.textContent ?? "null");
// How many slices, rows and columns are shown.
const extents = volume?.volume.shape;
// The place, which all views share: one number for each axis.
const crossing = volume && [...volume.views[0].whole.peak];
const decodedPictures = new Map();

// The pixels of a mosaic, decoded once.
async function pixels(uri) {
  const image = new Image();
  image.src = uri;
  await image.decode();
  const canvas = element("canvas", { width: image.naturalWidth, height: image.naturalHeight }), context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

// The volume, which is asked for first, and the heatmaps that were looked at last.
function picture(uri) {
  if (!decodedPictures.has(uri)) decodedPictures.set(uri, pixels(uri));
  if (decodedPictures.size > 8) decodedPictures.delete([...decodedPictures.keys()][1]);
  return decodedPictures.get(uri);
}

// One plane: across an axis of the volume, `down` and `along` two others.
class Plane {
  constructor(planes, { name, axis, down, along, edges }) {
    Object.assign(this, { planes, name, axis, down, along });
    const size = { width: extents[along[0]], height: extents[down[0]] };
    this.ground = element("canvas", { class: "ground", ...size });
    this.heat = element("canvas", { class: "inked", ...size });
    this.lines = ["across", "upright"].map(kind => element("i", { class: `line ${kind}` }));
    const letters = edges.map((text, at) => element("span", { class: `towards ${at ? "left" : "top"}`, "aria-hidden": "true" }, text));
    this.pane = element("div", { class: "pane", tabindex: 0, role: "application", "aria-label": `The ${name} plane. Arrow keys move the cross-hair, Page Up and Page Down turn ${volume.names[axis]}s.` },
      this.ground, this.heat, ...this.lines, ...letters);
    this.pane.style.aspectRatio = `${size.width * volume.steps[along[0]]} / ${size.height * volume.steps[down[0]]}`;
    this.slider = element("input", { type: "range", min: 0, max: extents[axis] - 1, step: 1, "aria-label": `${volume.names[axis]} of the ${name} plane` });
    this.caption = element("figcaption", {});
    this.figure = element("figure", {}, this.caption, this.pane, this.slider);
    this.listen();
  }

  listen() {
    this.slider.addEventListener("input", () => this.planes.go(this.axis, Number(this.slider.value)));
    let held = false;
    this.pane.addEventListener("pointerdown", event => {
      if (event.button) return;
      event.preventDefault();
      this.pane.focus({ preventScroll: true });
      this.pane.setPointerCapture(event.pointerId);
      held = true;
      this.point(event);
    });
    this.pane.addEventListener("pointermove", event => { if (held) this.point(event); });
    for (const end of ["pointerup", "pointercancel"]) this.pane.addEventListener(end, () => { held = false; });
    this.pane.addEventListener("keydown", event => {
      const step = ([axis, turned], by) => this.planes.go(axis, crossing[axis] + (turned ? -by : by));
      const moves = {
        ArrowUp: () => step(this.down, -1), ArrowDown: () => step(this.down, 1), ArrowLeft: () => step(this.along, -1), ArrowRight: () => step(this.along, 1),
        PageUp: () => step([this.axis], 1), PageDown: () => step([this.axis], -1),
      };
      if (!(event.key in moves) || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      moves[event.key]();
    });
  }

  point(event) {
    const box = this.pane.getBoundingClientRect();
    const at = ([axis, turned], part) => {
      const count = extents[axis], place = Math.min(count - 1, Math.max(0, Math.floor(part * count)));
      crossing[axis] = turned ? count - 1 - place : place;
    };
    at(this.down, (event.clientY - box.top) / box.height);
    at(this.along, (event.clientX - box.left) / box.width);
    this.planes.draw();
  }

  // Cuts the plane out of a mosaic, which may hold fewer slices, rows and columns than are shown.
  cut(canvas, mosaic, pixels) {
    const context = canvas.getContext("2d");
    if (!mosaic) { context.clearRect(0, 0, canvas.width, canvas.height); return; }
    const made = context.createImageData(canvas.width, canvas.height), from = new Uint32Array(pixels.data.buffer), to = new Uint32Array(made.data.buffer);
    const { shape, across } = mosaic, inside = (place, axis) => Math.floor((place + 0.5) * shape[axis] / extents[axis]), place = crossing.map(inside);
    for (let y = 0, at = 0; y < canvas.height; y++) {
      place[this.down[0]] = inside(this.down[1] ? canvas.height - 1 - y : y, this.down[0]);
      for (let x = 0; x < canvas.width; x++, at++) {
        place[this.along[0]] = inside(this.along[1] ? canvas.width - 1 - x : x, this.along[0]);
        const [slice, row, column] = place;
        to[at] = from[(Math.floor(slice / across) * shape[1] + row) * pixels.width + slice % across * shape[2] + column];
      }
    }
    context.putImageData(made, 0, 0);
  }

  draw(heatmap, ground, heat) {
    this.cut(this.ground, volume.volume, ground);
    this.cut(this.heat, heatmap, heat);
    const part = ([axis, turned]) => { const middle = (crossing[axis] + 0.5) / extents[axis]; return `${100 * (turned ? 1 - middle : middle)}%`; };
    this.lines[0].style.top = part(this.down);
    this.lines[1].style.left = part(this.along);
    this.slider.value = crossing[this.axis];
    this.slider.setAttribute("aria-valuetext", `${volume.names[this.axis]} ${Planes.index(this.axis)}`);
    this.caption.textContent = `${this.name} · ${volume.names[this.axis]} ${Planes.index(this.axis)}`;
  }
}

class Planes {
  constructor(view) {
    this.root = volume && view.root.querySelector(".planes");
    if (!this.root) return;
    this.view = view;
    this.content = volume.views[view.index];
    this.shown = this.content.whole;
    this.what = this.root.querySelector(".what");
    this.where = element("p", { class: "where-at", role: "status" });
    this.strongest = element("button", { type: "button", class: "reset" }, "Go to the strongest relevance");
    this.strongest.addEventListener("click", () => { crossing.splice(0, 3, ...this.shown.peak); this.draw(); });
    this.planes = volume.planes.map(plane => new Plane(this, plane));
    this.root.querySelector(".panes").append(...this.planes.map(plane => plane.figure), element("div", { class: "crossing" }, this.where, this.strongest));
    this.root.hidden = false;
    this.show();
  }

  // The number that a place of an axis has in the input: the middle of what is shown as one value.
  static index(axis) { return Math.floor((crossing[axis] + 0.5) * volume.space[axis] / extents[axis]); }

  // Relevance of a concept of a layer, by number, or of all.
  show(layer, concept) {
    if (!this.root) return;
    const named = layer === undefined ? null : `${this.view.tables[layer].heading(concept)} of ${this.view.tables[layer].layer}`;
    this.shown = layer === undefined ? this.content.whole : this.content.layers[layer][concept];
    this.what.textContent = !this.shown ? `${named} has no heatmap of its own: the planes show the input.` : named ?? `Relevance for ${this.content.subject}`;
    if (this.shown) this.what.append("; full at ", ...["common", "own"].map((kind, at) => element("span", { class: kind }, this.shown.full[at])));
    this.strongest.disabled = !this.shown;
    for (const { heat } of this.planes) heat.style.setProperty("--fade", this.shown?.fade ?? 1);
    this.draw();
  }

  go(axis, place) {
    crossing[axis] = Math.min(extents[axis] - 1, Math.max(0, place));
    this.draw();
  }

  async draw() {
    if (!this.root) return;
    const wanted = this.shown, found = await Promise.all([picture(volume.volume.uri), wanted && picture(wanted.uri)]);
    // Something else may be wanted by now, and has been drawn.
    if (wanted !== this.shown) return;
    for (const plane of this.planes) plane.draw(wanted, ...found);
    const indices = volume.space.map((_, axis) => Planes.index(axis)), places = indices.map((index, axis) => `${volume.names[axis]} ${index}`);
    const metres = volume.affine?.map(([x, y, z, start]) => (x * indices[0] + y * indices[1] + z * indices[2] + start).toFixed(1).replace("-", "\u2212"));
    this.where.textContent = places.join(", ") + (metres ? `; x ${metres[0]}, y ${metres[1]}, z ${metres[2]} mm` : "");
  }
}
