// All mined samples that use the concept of this page; what is known of samples is read when it is asked for.
const section = document.querySelector(".mined-samples"), SHOWN = 24;
if (section?.querySelector(".open")) {
  const uses = JSON.parse(document.getElementById("sample-uses").textContent), up = section.dataset.up;
  const list = section.querySelector(".gallery"), opened = section.querySelector(".opened"), more = section.querySelector(".more");
  const order = section.querySelector("[data-field=order]"), only = section.querySelector("[data-field=only]"), count = section.querySelector("[role=status]");
  // Pictures of the mined data are not part of the site: a page that was published does not have them.
  const local = location.protocol === "file:";
  let samples = null, shown = SHOWN, rows = [];

  function about(index, share) {
    const name = key => samples.names[samples[key][index]] ?? "";
    const file = samples.files?.[index], page = samples.pages[index], source = local && samples.root && file ? `${up}${samples.root}${file.split("/").map(encodeURIComponent).join("/")}` : "";
    return { index, share, title: file ?? `sample ${index}`, target: name("target"), prediction: name("prediction"), label: name("label"), right: samples.right[index], page, source };
  }

  // Why samples have no pictures; empty if they have.
  function outOfReach() {
    if (samples.root && local) return "";
    if (samples.root) return "Their pictures are not part of the site: they appear only if the page is opened from disk on the computer that made it.";
    if (samples.files) return "They have no pictures and no links, because the mined data are not files that this page can open (those of a built-in data set are drawn by the program).";
    return "They have numbers, but no pictures and no links, because the mined data were not found when the site was made.";
  }

  function item({ share, title, target, prediction, label, right, page, source }) {
    const href = page ? `${up}predictions/${page}.html#${section.dataset.address}` : source || null;
    const picture = page ? `${up}predictions/${page}${samples.suffix}` : source;
    const face = element(href ? "a" : "div", { class: "face", href }, ...picture ? [element("img", { src: picture, alt: "", loading: "lazy" })] : [],
      element("strong", {}, element("bdi", {}, target)), " ", element("span", { class: "number" }, printed(share)), " ", element("span", { class: "file" }, element("bdi", {}, title)));
    if (right !== null) face.append(" ", element("span", { class: `truth ${right ? "right" : "wrong"}` }, right ? "✓ right" : "✗ wrong", ...right ? [] : [": predicted ", element("bdi", {}, prediction), ", labelled ", element("bdi", {}, label)]));
    const links = element("p", { class: "take" });
    if (page && source) links.append(element("a", { href: source }, "Source picture"));
    return element("li", { class: `prediction ${side(share)}` }, face, ...links.childNodes.length ? [links] : []);
  }

  function draw() {
    rows = [];
    for (let at = 0; at < uses.pairs.length; at += 2) rows.push(about(uses.pairs[at], uses.pairs[at + 1] / samples.unit));
    if (only.value) rows = rows.filter(({ right }) => right === (only.value === "right" ? 1 : 0));
    if (order.value === "against") rows.reverse();
    list.replaceChildren(...rows.slice(0, shown).map(item));
    more.hidden = rows.length <= shown;
    count.textContent = `${Math.min(shown, rows.length)} of ${rows.length} samples`;
  }

  section.querySelector(".open").addEventListener("click", event => {
    const script = element("script", { src: `${up}assets/samples.js` });
    script.onload = () => {
      samples = window.minedSamples;
      only.closest("label").hidden = !samples.right.some(right => right !== null);
      event.target.hidden = true;
      opened.hidden = false;
      section.querySelector(".out-of-reach").textContent = outOfReach();
      draw();
      order.focus();
    };
    script.onerror = () => { section.querySelector(".failed").textContent = "assets/samples.js cannot be read."; };
    document.head.append(script);
  });
  for (const field of [order, only]) field.addEventListener("change", () => { shown = SHOWN; draw(); });
  more.addEventListener("click", () => { const first = shown; shown += SHOWN; draw(); list.children[first]?.querySelector("a")?.focus(); });
  section.querySelector("[data-take=csv]").addEventListener("click", () => download("samples.csv", csv([
    ["sample", "name", "share", "explained", "predicted", "label"], ...rows.map(({ index, title, share, target, prediction, label }) => [index, title, share, target, prediction, label]),
  ]), "text/csv"));
}
for (const button of all("[data-take=address]")) button.addEventListener("click", () => copyAddress(button, location.href.split("#")[0]));
