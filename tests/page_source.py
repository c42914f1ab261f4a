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
    return zlib.decompress(base64.b64decode(text))


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
    """Numbers of an explanation as its page has them: seven digits of the relevance of all concepts."""
    layers = [{**one, "relevance": one["relevance"] and seven_digits(one["relevance"])} for one in content["layers"]]
    return {**content, "layers": layers, "beside": [numbers_of_a_page(other) for other in content["beside"]]}


def seven_digits(values):
    return [float(f"{value:.7g}") for value in np.float32(values).tolist()]


def steps_of(layer):
    """The steps of a layer in the page's cells, [C, cells], without the page's script."""
    data, size = unpacked(layer["table"]), layer["rows"] * layer["columns"] * layer["size"]
    filled = np.unpackbits(np.frombuffer(data, np.uint8, -(-size // 8)), bitorder="little")[:size].astype(bool)
    high, low = np.frombuffer(data, np.uint8, offset=-(-size // 8)).reshape(2, -1)
    steps = np.zeros(size)
    steps[filled] = high.view(np.int8) * 256.0 + low
    return steps.reshape(layer["size"], -1)


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
