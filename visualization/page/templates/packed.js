// Parts of the page that are packed until they are opened (`packed_parts.py`). Their pictures stand in a list of their own.
let pictures;

// Puts in what a place holds packed; false if there is nothing, or it has been done.
function fill(place) {
  const packed = place?.querySelector(":scope > [data-packed]");
  if (!packed) return false;
  pictures ??= JSON.parse(document.getElementById("atlas-pictures").textContent);
  const html = new TextDecoder().decode(unpacked(packed.textContent));
  packed.outerHTML = html.replace(/ src="picture:(\d+)"/g, (_, number) => ` src="${pictures[number]}"`);
  return true;
}

// Tells all that add something to cards that there are new ones.
function filled(view, place) { document.dispatchEvent(new CustomEvent("filled", { detail: { view, place } })); }
