// The picture as large as the window, with what a reader asks of it: which of its frames, how close, which region.
class Enlarged {
  constructor({ zoom, stage, region }) {
    if (!zoom.whole) return;
    Object.assign(this, { zoom, stage, region, side: stage.root.parentNode });
    this.dialog = element("dialog", { class: "enlarged", "aria-label": "The picture, as large as the window" });
    this.button = element("button", { type: "button" }, "Enlarge");
    this.button.addEventListener("click", () => { if (this.dialog.open) this.close(); else this.open(); });
    zoom.bar.append(this.button);
    // Escape closes the dialog, and lets go of nothing on the page.
    this.dialog.addEventListener("keydown", event => { if (event.key === "Escape") event.stopPropagation(); });
    this.dialog.addEventListener("close", () => this.putBack());
    window.addEventListener("beforeprint", () => this.close());
  }

  open() {
    const { dialog, stage, region, zoom } = this;
    stage.root.before(dialog);
    dialog.append(stage.root, region.root);
    this.button.textContent = "Close";
    dialog.showModal();
    zoom.show();
    this.button.focus();
  }

  close() {
    this.dialog.close();
    this.putBack();
  }

  putBack() {
    const { dialog, stage, region, zoom, side } = this;
    if (!dialog.contains(stage.root)) return;
    dialog.replaceWith(stage.root);
    side.append(region.root);
    this.button.textContent = "Enlarge";
    zoom.show();
    this.button.focus();
  }
}
