// The window in which a reader names a concept, and the bar that says what only this browser knows.
class Editor {
  constructor(names, renaming) {
    this.names = names;
    this.renaming = renaming;
    this.build();
    this.bar = element("aside", { class: "mine", "aria-label": "Your names", hidden: "" });
    document.body.append(this.bar, this.dialog);
    this.offer(document);
    // A layer that has been opened.
    document.addEventListener("filled", event => this.offer(event.detail.place));
    // Another page of the same site, or another window.
    window.addEventListener("storage", event => { if (event.key === null || event.key.startsWith(KEY)) { names.read(); this.show(); } });
    this.show();
  }

  offer(place) {
    for (const button of all("[data-edit]", place)) {
      button.hidden = false;
      button.addEventListener("click", () => this.open(button));
    }
    for (const button of all("[data-open-names]", place)) {
      button.hidden = false;
      button.addEventListener("click", () => this.file.click());
    }
  }

  build() {
    const field = (text, tag, attributes) => {
      const input = element(tag, attributes);
      return [input, element("label", {}, element("span", {}, text), input)];
    };
    const [label, labelled] = field("Name", "input", { maxlength: 120, autocomplete: "off" });
    const [note, noted] = field("Note", "textarea", { maxlength: 10000, rows: 3 });
    const [tags, tagged] = field("Tags, separated by commas", "input", { autocomplete: "off" });
    const [verdict, judged] = field("Verdict", "select", {});
    verdict.append(...["", ...VERDICTS].map(word => element("option", { value: word }, word || "none")));
    const [author, signed] = field("Your name (may be empty)", "input", { maxlength: 120, autocomplete: "off" });
    this.fields = { label, note, tags, verdict, author };
    this.title = element("h2", { id: "naming-title" });
    this.discard = element("button", { type: "button", class: "discard" }, "Discard my changes");
    const cancel = element("button", { type: "button" }, "Cancel"), open = element("button", { type: "button" }, "Open a file of names");
    this.file = element("input", { type: "file", accept: ".json,application/json", "aria-label": "A file of names", hidden: "" });
    this.failed = element("p", { class: "failed", role: "alert" });
    const form = element("form", {}, this.title, labelled, noted, tagged, judged, signed, this.failed,
      element("p", { class: "what" }, "Kept in this browser only. To share it, export it at the foot of the page: others can open the file here, or merge it into the library: ", element("code", {}, "crp names LIBRARY --import FILE")),
      element("p", { class: "choices" }, element("button", { type: "submit", class: "save" }, "Save"), cancel, open, this.discard), this.file);
    this.dialog = element("dialog", { class: "naming", "aria-labelledby": "naming-title" }, form);
    form.addEventListener("submit", event => { event.preventDefault(); this.save(); });
    cancel.addEventListener("click", () => this.dialog.close());
    open.addEventListener("click", () => this.file.click());
    this.file.addEventListener("change", () => this.import());
    this.discard.addEventListener("click", () => this.finish(this.names.keep(this.of, null)));
    // Keys that the page listens to, such as Escape, are the dialog's own here.
    this.dialog.addEventListener("keydown", event => event.stopPropagation());
  }

  open(button) {
    this.of = button.dataset.edit;
    const [layer, concept] = Names.split(this.of), said = this.names.said(this.of);
    this.title.replaceChildren(`Concept ${concept} of `, element("bdi", {}, layer));
    for (const [part, field] of Object.entries(this.fields)) field.value = said?.[part] ?? "";
    this.fields.tags.value = (said?.tags ?? []).join(", ");
    this.fields.author.value = localStorage.getItem(AUTHOR) ?? "";
    this.failed.textContent = "";
    this.discard.hidden = !this.names.kept.has(this.of);
    this.dialog.showModal();
    this.fields.label.focus();
  }

  save() {
    const line = field => field.value.replace(/\s+/g, " ").trim(), { label, note, tags, verdict, author } = this.fields;
    const list = [...new Set(tags.value.split(",").map(tag => tag.replace(/\s+/g, " ").trim().slice(0, 120)).filter(Boolean))].slice(0, 40);
    const said = { label: line(label), note: note.value.trim(), tags: list, verdict: verdict.value, author: line(author) };
    const before = this.names.given.get(this.of), parts = ["label", "note", "tags", "verdict"];
    // What the library says already is no news.
    const same = parts.every(part => JSON.stringify(said[part]) === JSON.stringify(before?.[part] ?? (part === "tags" ? [] : "")));
    this.finish(this.names.keep(this.of, same ? null : said));
    try { localStorage.setItem(AUTHOR, said.author); } catch { /* no room: asked again next time */ }
  }

  finish(kept, news = "") {
    if (!kept) {
      this.complain("This browser has no storage left for it: export your names first.");
      return;
    }
    this.dialog.close();
    this.show(news);
  }

  complain(text) {
    if (this.dialog.open) this.failed.textContent = text;
    else this.show(`${text} `);
  }

  // Names that somebody else exported.
  async import() {
    const [file] = this.file.files;
    if (!file) return;
    const count = this.names.merge(await file.text());
    this.file.value = "";
    if (count === null) this.complain(`${file.name} is not a file of names.`);
    else this.finish(count, Editor.news(count));
  }

  static news({ taken, known, others }) {
    const parts = [`${taken} name${taken === 1 ? "" : "s"} taken over`];
    if (known) parts.push(`${known} not newer than what is here`);
    if (others) parts.push(`${others} for other concepts or models`);
    return `${parts.join(", ")}. `;
  }

  show(news = "") {
    this.renaming.show();
    const count = this.names.kept.size;
    this.bar.hidden = !count && !news;
    const words = element("span", { role: "status" }, `${news}${count} concept${count === 1 ? "" : "s"} named in this browser only.`);
    const button = element("button", { type: "button" }, "Export");
    button.addEventListener("click", () => this.export());
    this.bar.replaceChildren(words, " ", button);
  }

  export() {
    const address = URL.createObjectURL(new Blob([this.names.file()], { type: "application/json" }));
    element("a", { href: address, download: "names.json" }).click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  }
}

const told = document.getElementById("atlas-naming");
const names = new Names(told ? JSON.parse(told.textContent) : window.conceptNaming ?? []);
const renaming = new Renaming(names);
// The page's own script asks for names, and listens to "renamed".
window.conceptNames = names;
if (Names.possible) new Editor(names, renaming);
