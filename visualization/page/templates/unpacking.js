// Bytes as pages hold them: packed by zlib (RFC 1950 and 1951), in base 85 (`packing.py`). The browser's own way to unpack
// gives its result later; what a reader points at is answered at once.
const DIGITS = new Uint8Array(128);
[..."0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%,()*+-;.=:?@^_`{|}~"].forEach((digit, value) => { DIGITS[digit.charCodeAt(0)] = value; });

function bytes(text) {
  const size = Math.floor(text.length * 4 / 5), found = new DataView(new ArrayBuffer(size + 4));
  for (let from = 0, to = 0; from < text.length; from += 5, to += 4) {
    let value = 0;
    // what the last group lacks counts as its largest digit
    for (let place = from; place < from + 5; place++) value = value * 85 + (place < text.length ? DIGITS[text.charCodeAt(place)] : 84);
    found.setUint32(to, value);
  }
  return new Uint8Array(found.buffer, 0, size);
}

// The codes of an alphabet by the lengths of its codes: how many have each length, and the symbols in their order.
function codesOf(lengths) {
  const counts = new Uint16Array(16), places = new Uint16Array(16), symbols = new Uint16Array(lengths.length);
  for (const length of lengths) if (length) counts[length]++;
  for (let length = 1; length < 15; length++) places[length + 1] = places[length] + counts[length];
  lengths.forEach((length, symbol) => { if (length) symbols[places[length]++] = symbol; });
  return { counts, symbols };
}

// What the symbols for lengths and for distances stand for: the smallest value, and the number of bits that follow.
function ranges(first, count, extra) {
  return Array.from({ length: count }, (_, symbol) => {
    const found = { base: first, more: extra(symbol) };
    first += 1 << found.more;
    return found;
  });
}
const LENGTHS = [...ranges(3, 28, symbol => Math.max(0, (symbol >> 2) - 1)), { base: 258, more: 0 }];
const DISTANCES = ranges(1, 30, symbol => Math.max(0, (symbol >> 1) - 1));
const FIXED = [
  codesOf(Array.from({ length: 288 }, (_, symbol) => symbol < 144 ? 8 : symbol < 256 ? 9 : symbol < 280 ? 7 : 8)),
  codesOf(Array(30).fill(5)),
];
const LENGTHS_FIRST = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

class Unpacking {
  constructor(packed) {
    // Two bytes say how it is packed, which is always the same.
    Object.assign(this, { packed, at: 16, found: new Uint8Array(8 * packed.length), size: 0 });
    for (let last = false; !last;) {
      last = this.bits(1) === 1;
      const kind = this.bits(2);
      if (kind === 0) this.copy();
      else this.block(...kind === 1 ? FIXED : this.ownCodes());
    }
  }

  get result() { return this.found.slice(0, this.size); }

  bits(count) {
    let value = 0;
    for (let bit = 0; bit < count; bit++, this.at++) value |= (this.packed[this.at >> 3] >> (this.at & 7) & 1) << bit;
    return value;
  }

  // Codes of one length follow one another, and begin where those of the shorter length end, with a zero appended.
  symbol({ counts, symbols }) {
    let code = 0, first = 0, place = 0;
    for (let length = 1; length < 16; length++) {
      code |= this.bits(1);
      const count = counts[length];
      if (code - first < count) return symbols[place + code - first];
      place += count;
      first = first + count << 1;
      code <<= 1;
    }
    throw new Error("The data of this page are damaged.");
  }

  put(value) {
    if (this.size === this.found.length) {
      const larger = new Uint8Array(2 * this.size + 64);
      larger.set(this.found);
      this.found = larger;
    }
    this.found[this.size++] = value;
  }

  copy() {
    this.at = this.at + 7 & ~7;
    const length = this.bits(16);
    this.at += 16;
    for (let each = 0; each < length; each++) this.put(this.bits(8));
  }

  ownCodes() {
    const literals = this.bits(5) + 257, distances = this.bits(5) + 1, count = this.bits(4) + 4, lengths = Array(19).fill(0);
    for (let each = 0; each < count; each++) lengths[LENGTHS_FIRST[each]] = this.bits(3);
    const codes = codesOf(lengths), found = [];
    while (found.length < literals + distances) {
      const symbol = this.symbol(codes);
      if (symbol < 16) found.push(symbol);
      else {
        const value = symbol === 16 ? found[found.length - 1] : 0;
        for (let times = symbol === 16 ? 3 + this.bits(2) : symbol === 17 ? 3 + this.bits(3) : 11 + this.bits(7); times; times--) found.push(value);
      }
    }
    return [codesOf(found.slice(0, literals)), codesOf(found.slice(literals))];
  }

  block(literals, distances) {
    for (;;) {
      const symbol = this.symbol(literals);
      if (symbol < 256) this.put(symbol);
      else if (symbol === 256) return;
      else {
        const length = LENGTHS[symbol - 257], times = length.base + this.bits(length.more);
        const back = DISTANCES[this.symbol(distances)], distance = back.base + this.bits(back.more);
        for (let each = 0; each < times; each++) this.put(this.found[this.size - distance]);
      }
    }
  }
}

const unpacked = text => new Unpacking(bytes(text)).result;
const floats = text => new Float32Array(unpacked(text).buffer);
