// Zoom of a picture that the page shows reduced: its frames become a window onto themselves, so that heatmap, map, outlines
// and cells stay where they are on it. The browser scrolls the window; the picture in full is read at the first zoom.
const STEP = 1.5;

class Zoom {
  constructor(view) {
    this.view = view;
    this.frames = view.stage.frames;
    // How many times as large as it lies on the page; and the place in the middle of the window, 0 to 1 of the picture.
    this.factor = 1;
    this.middle = [0.5, 0.5];
    this.whole = document.getElementById("atlas-whole");
    if (!this.whole) return;
    this.build();
    this.listen();
    this.show();
  }

  get width() { return Number(this.frames.querySelector("img").getAttribute("width")); }

  // Up to two pixels of the page for each of the picture.
  get most() { return Math.max(2, 2 * this.width / this.frames.clientWidth); }

  build() {
    const button = (label, text, act) => {
      const made = element("button", { type: "button", ...label === text ? {} : { "aria-label": label, title: label } }, text);
      made.addEventListener("click", act);
      return made;
    };
    this.out = button("Zoom out", "−", () => this.to(this.factor / STEP));
    this.in = button("Zoom in", "+", () => this.to(this.factor * STEP));
    this.back = button("Whole picture", "Whole", () => this.to(1));
    this.hand = button("Dragging moves the picture", "Move", () => this.move(!this.moves));
    this.size = element("output", {});
    this.bar = element("div", { class: "zoom", role: "group", "aria-label": "Zoom" }, this.out, this.size, this.in, this.back, this.hand);
    this.frames.after(this.bar);
    this.frames.classList.add("large");
    this.frames.setAttribute("role", "group");
    this.frames.setAttribute("aria-label", "The picture. Plus and minus zoom in and out, 0 shows all of it.");
  }

  listen() {
    const { frames } = this, stage = this.view.stage.root;
    stage.addEventListener("keydown", event => {
      const keys = { "+": this.factor * STEP, "=": this.factor * STEP, "-": this.factor / STEP, 0: 1 };
      if (!(event.key in keys) || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      this.to(keys[event.key]);
    });
    // Fingers on a touchpad that are spread arrive as a wheel with Ctrl.
    frames.addEventListener("wheel", event => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      this.to(this.factor * 2 ** (-event.deltaY * (event.deltaMode ? 20 : 1) / 200), this.placeOf(event));
    }, { passive: false });
    frames.addEventListener("scroll", () => { if (this.factor > 1) this.middle = this.scrolled; });
    new ResizeObserver(() => { if (frames.clientWidth) this.show(); }).observe(frames);
    this.listenToFingers();
    this.listenToDragging();
  }

  // Two fingers zoom and move the picture.
  listenToFingers() {
    const { frames } = this;
    let before = null;
    const seen = ({ touches: [one, other] }) => ({
      apart: Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY),
      place: this.placeOf({ clientX: (one.clientX + other.clientX) / 2, clientY: (one.clientY + other.clientY) / 2 }),
    });
    frames.addEventListener("touchstart", event => { before = event.touches.length === 2 ? seen(event) : null; });
    frames.addEventListener("touchmove", event => {
      if (!before || event.touches.length !== 2) return;
      event.preventDefault();
      const now = seen(event);
      this.middle = this.middle.map((at, axis) => at - (now.place[axis] - before.place[axis]) / this.factor);
      this.to(this.factor * now.apart / before.apart, now.place);
      this.move(this.factor > 1);
      before = now;
    }, { passive: false });
    frames.addEventListener("touchend", () => { before = null; });
  }

  // Where dragging moves the picture, it does not reach the cells.
  listenToDragging() {
    const { frames } = this;
    let from = null;
    frames.addEventListener("pointerdown", event => {
      if (!this.moves || event.button) return;
      event.stopPropagation();
      if (event.pointerType === "touch") return; // the browser scrolls
      event.preventDefault();
      frames.setPointerCapture(event.pointerId);
      from = [event.clientX, event.clientY];
    }, { capture: true });
    frames.addEventListener("pointermove", event => {
      if (!from) return;
      frames.scrollBy(from[0] - event.clientX, from[1] - event.clientY);
      from = [event.clientX, event.clientY];
    });
    for (const end of ["pointerup", "pointercancel"]) frames.addEventListener(end, () => { from = null; });
  }

  // Where something happens, 0 to 1 of the window.
  placeOf({ clientX, clientY }) {
    const box = this.frames.getBoundingClientRect();
    return [(clientX - box.left) / box.width, (clientY - box.top) / box.height];
  }

  get scrolled() {
    const { frames } = this;
    return [(frames.scrollLeft + frames.clientWidth / 2) / frames.scrollWidth, (frames.scrollTop + frames.clientHeight / 2) / frames.scrollHeight];
  }

  // Zooms to so many times the whole; what is at a place of the window stays there.
  to(factor, place = [0.5, 0.5]) {
    const before = this.factor;
    this.factor = Math.min(this.most, Math.max(1, factor));
    const half = 0.5 / this.factor;
    this.middle = this.middle.map((at, axis) => Math.min(1 - half, Math.max(half, at + (place[axis] - 0.5) * (1 / before - 1 / this.factor))));
    this.show();
  }

  // Shows the same place as another view, as large.
  like({ factor, middle }) {
    if (!this.whole) return;
    Object.assign(this, { factor, middle });
    this.show();
  }

  show() {
    const { frames, factor, middle } = this, closer = factor > 1;
    frames.style.setProperty("--zoom", factor);
    frames.classList.toggle("closer", closer);
    frames.tabIndex = closer ? 0 : -1;
    if (closer) this.sharpen();
    else this.move(false);
    this.out.disabled = this.back.disabled = this.hand.disabled = !closer;
    this.in.disabled = factor >= this.most;
    this.size.textContent = `${Math.round(100 * factor * frames.clientWidth / this.width)}\u00a0%`;
    if (closer) frames.scrollTo(middle[0] * frames.scrollWidth - frames.clientWidth / 2, middle[1] * frames.scrollHeight - frames.clientHeight / 2);
  }

  // The picture in full lies below everything else; heatmaps are drawn over it.
  async sharpen() {
    if (this.full) return;
    this.full = element("img", { class: "full-picture", alt: "", src: this.whole.textContent });
    this.frames.append(this.full);
    try {
      await this.full.decode();
      this.frames.classList.add("sharp");
    } catch { // on a site it is a file, which may not have been copied
      this.bar.append(element("span", { role: "status" }, "The picture in full is missing."));
    }
  }

  // Whether dragging moves the picture, or selects cells of it.
  move(moves) {
    this.moves = moves;
    this.hand.setAttribute("aria-pressed", moves);
    this.frames.classList.toggle("moves", moves);
  }

  // Scrolls no further than it takes to see a cell, or its middle if it is larger than the window.
  reveal(cell) {
    if (this.factor === 1) return;
    const window = this.frames.getBoundingClientRect(), box = cell.getBoundingClientRect();
    const by = (start, end, first, last) => {
      if (end - start > last - first) return (start + end - first - last) / 2;
      return Math.min(0, start - first) + Math.max(0, end - last);
    };
    this.frames.scrollBy(by(box.left, box.right, window.left, window.right), by(box.top, box.bottom, window.top, window.bottom));
  }
}
