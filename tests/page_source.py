"""A page as tests read it without a browser: its tags, its text, its scripts."""

import base64
import json
import re
import zlib
from html.parser import HTMLParser

import numpy as np

VOID = {"img", "meta", "br", "rect", "input"}


def unpacked(text):
    """The bytes that a page packs for its script."""
    return zlib.decompress(base64.b85decode(text.translate(str.maketrans(",.:", "&<>"))))


def opened(source):
    """A page with all that its script would put in."""
    return re.sub(r'<script type="text/plain" data-packed>(.*?)</script>', lambda at: unpacked(at[1]).decode(), source)


def floats(text):
    return np.frombuffer(unpacked(text), "<f4")


def numbers_in(source):
    """The numbers that a page holds, put together as its script does."""
    (text,) = re.findall(r'id="atlas-numbers">(.*?)</script>', source)
    (cells,) = re.findall(r'id="atlas-cells">(.*?)</script>', source)
    found = json.loads(unpacked(text))
    for view, tables in zip([found, *found["beside"]], json.loads(cells), strict=True):
        for layer, table in zip(view["layers"], tables, strict=True):
            assert layer["relevance"] is None
            layer["relevance"] = table["relevance"] and seven_digits(floats(table["relevance"]))
    return found


def numbers_of_a_page(content):
    """Numbers of an explanation as its page has them: nine digits, and seven of the relevance of all concepts."""
    layers = [{**one, "relevance": one["relevance"] and seven_digits(one["relevance"])} for one in content["layers"]]
    found = {**content, "layers": layers, "beside": [numbers_of_a_page(other) for other in content["beside"]]}
    return json.loads(json.dumps(found), parse_float=lambda text: float(f"{float(text):.9g}"))


def seven_digits(values):
    return [float(f"{value:.7g}") for value in np.float32(values).tolist()]


def steps_of(layer):
    """The steps of a layer in the page's cells, [C, cells], without the page's script."""
    return steps_in(layer["table"], layer["size"], layer["rows"] * layer["columns"])


def steps_in(text, rows, values):
    """What `packed_steps` packs, value by value as its docstring says."""
    bits = np.unpackbits(np.frombuffer(unpacked(text), np.uint8), bitorder="little")
    filled, bits = taken(bits, rows * values)
    negative, bits = taken(bits, int(filled.sum()))
    widths, bits = taken(bits, 8 * rows)
    found, at, signs = np.zeros((rows, values)), 0, iter(negative)
    for row, column in np.argwhere(filled.reshape(rows, values)):
        width, high = int(widths.reshape(rows, 8)[row] @ (1 << np.arange(8))), 0
        while bits[at]:
            at, high = at + 1, high + 1
        low = sum(int(bit) << place for place, bit in enumerate(bits[at + 1 : at + 1 + width]))
        at += 1 + width
        found[row, column] = (-1 if next(signs) else 1) * ((high << width) + low)
    assert not bits[at:].any()
    assert len(bits) - at < 8
    return found


def taken(bits, count):
    """The first bits, and those that begin with the next byte."""
    return bits[:count], bits[-(-count // 8) * 8 :]


def table_of(layer):
    """The table of a layer in the page's cells, float [rows, columns, C]."""
    cells = steps_of(layer).T * floats(layer["scale"])[:, None]
    return cells.reshape(layer["rows"], layer["columns"], layer["size"])


class Page(HTMLParser):
    """Start tags with their attributes, and the text of everything but scripts and styles."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.text, self.scripts, self.open = [], [], {}, []
        self.feed(source)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append((tag, dict(attributes)))

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        tag, attributes = self.open[-1] if self.open else ("", {})
        if tag == "script":
            key = attributes.get("id", "")
            self.scripts[key] = self.scripts.get(key, "") + data
        elif tag != "style":
            self.text.append(data)

    def all(self, tag, **wanted):
        return [found for name, found in self.tags if name == tag and all(found.get(k) == v for k, v in wanted.items())]
