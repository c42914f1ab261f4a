// Parts of the page that are packed until they are opened (`packed_parts.py`).

// Puts in what a place holds packed; false if there is nothing, or it has been done.
function fill(place) {
  const packed = place?.querySelector(":scope > [data-packed]");
  if (!packed) return false;
  packed.outerHTML = new TextDecoder().decode(unpacked(packed.textContent));
  return true;
}

// Tells all that add something to cards that there are new ones.
function filled(view, place) { document.dispatchEvent(new CustomEvent("filled", { detail: { view, place } })); }
