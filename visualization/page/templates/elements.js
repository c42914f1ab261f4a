// Elements, numbers as text: what every other file uses.
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const SVG = new Set(["svg", "rect", "path", "image", "text"]);

function element(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG.has(tag) ? "http://www.w3.org/2000/svg" : "http://www.w3.org/1999/xhtml", tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== null) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// A property that is computed when it is first read.
function later(owner, name, make) {
  Object.defineProperty(owner, name, { configurable: true, get() {
    const value = make();
    Object.defineProperty(owner, name, { value });
    return value;
  } });
}

const tenth = share => Math.round(share * 1000) / 10 + 0;
const percent = share => `${tenth(share).toFixed(1)}\u00a0%`.replace("-", "\u2212");
const signed = share => (tenth(share) > 0 ? "+" : "") + percent(share);
const limit = value => `\u00b1${Number(value.toPrecision(3))}`;
// Rows of a ranking, and results of a search.
const LISTED = 8;
// A name with its number, unless the name tells it; the number where there is no name.
function label(concept, name, length = Infinity) {
  const number = ` (${concept})`, tells = new RegExp(`(?<!\\d)${concept}(?!\\d)`).test(name), text = name && !tells ? name + number : name || String(concept);
  return text.length <= length ? text : `${name.slice(0, length - number.length - 1).trimEnd()}…${number}`;
}
