"""What tests read from a page that a browser shows."""

import contextlib
import json
import re
import zlib
from functools import cache
from importlib import resources

import numpy as np
import pytest

from crp.visualization import wording

VIEW = ".view:not([hidden])"


@cache
def axe():
    """The source of axe, which looks for faults that keep people from using a page."""
    return resources.files("axe_core_python").joinpath("axe.min.js").read_text("utf-8")


COLOURS = "color-contrast"  # the one rule of axe that has to be asked where only colours differ
# Whether a page is narrow and dark, and the rules to ask: all of them again only in the slow tests.
STATES = [
    pytest.param(False, None, id="light"),
    pytest.param(True, COLOURS, id="narrow and dark"),
    pytest.param(True, None, id="narrow and dark, all rules", marks=pytest.mark.slow),
]


def faults(page, only=None, within=None):
    """What axe finds: impact, rule and up to three elements of each; `only` is one rule to ask, `within` a selector."""
    page.run(f"if (!window.axe) {{ {axe()} }}; 1")
    options = {"resultTypes": ["violations"]} | ({"runOnly": [only]} if only else {})
    context = json.dumps(within) if within else "document"
    return page.run(
        f"axe.run({context}, {json.dumps(options)}).then(result => result.violations.map(fault => "
        "[fault.impact, fault.id, fault.nodes.slice(0, 3).map(node => node.html.slice(0, 200))]))"
    )


def frame(page):
    """What the picture shows."""
    shown = page.run(f"[...document.querySelectorAll('{VIEW} [data-frame]:not([hidden])')].map(e => e.dataset.frame)")
    (name,) = shown
    assert page.run(f"document.querySelector('{VIEW} [data-show=\"{name}\"]').getAttribute('aria-pressed')") == "true"
    return name


def caption(page):
    return page.run(f"document.querySelector('{VIEW} .now').textContent")


def open_panels(page):
    return page.run(f"[...document.querySelectorAll('{VIEW} .panel:not([hidden])')].map(e => Number(e.dataset.layer))")


def pinned(page):
    return page.run(
        f"[...document.querySelectorAll('{VIEW} .pick[aria-pressed=true]')]"
        ".map(e => Number(e.closest('.card').dataset.concept))"
    )


def focused(page, what="textContent"):
    return page.run(f"document.activeElement.{what}")


def ranking(page):
    """(concept, relevance, share in the region) of every row of the whole ranking."""
    return page.run(
        f"[...document.querySelectorAll('{VIEW} .ranking li')].map(e => "
        "[Number(e.dataset.concept), Number(e.dataset.relevance), Number(e.dataset.share)])"
    )


def selected(page):
    cells = f"[...document.querySelectorAll('{VIEW} [aria-selected=true][data-cell]')]"
    return page.run(f"{cells}.map(e => Number(e.dataset.cell))")


def assert_ranked(page, layer, cells):
    """The page's ranking of a region is Python's, shares to a step of each cell; shown and rest are 100.0 %."""
    concept_map = layer.concept_map
    region = np.zeros(concept_map.concept.shape, dtype=bool)
    region.ravel()[list(cells)] = True
    expected = concept_map.ranking(region)
    total = sum(abs(value) for _, value in expected)
    found = ranking(page)
    assert [concept for concept, _, _ in found] == [concept for concept, _ in expected[:8]]
    inside = np.abs(concept_map.table[region])
    step = float(np.maximum(inside.sum(-1) / 65536, inside.max(-1) / 32767).sum())
    for (_, relevance, share), (_, value) in zip(found, expected, strict=False):
        assert relevance == pytest.approx(value, abs=step)
        assert share == pytest.approx(value / total, abs=2 * step / total)
    written = page.run(f"[...document.querySelectorAll('{VIEW} .ranking strong')].map(e => e.textContent)")
    for text, (_, value) in zip(written, expected[:8], strict=True):
        # a share this near to the middle of two tenths may be rounded to either
        assert text in {wording.signed_percent((value + error) / total) for error in (-2 * step, 0, 2 * step)}
    rest = page.run(f"document.querySelector('{VIEW} .region .others').textContent")
    shown = sum(abs(round(1000 * share)) for _, _, share in found) / 10
    assert rest == f"{len(expected) - 8} other concepts {100 - shown:.1f}\N{NO-BREAK SPACE}%"


def at(page, row, column, rows=7, columns=7):
    """The middle of a cell, in the window."""
    return page.place(f"{VIEW} .grid", (column + 0.5) / columns, (row + 0.5) / rows)


def played(page, selector):
    """Click the button of a sound, and return its length in seconds as the browser reads it; -1 if it cannot."""
    page.run("HTMLMediaElement.prototype.play = function () { window.heard = this; return Promise.resolve(); }; 1")
    page.run(f"document.querySelector('{selector}').click()")
    return page.run(
        "new Promise(done => { heard.onloadedmetadata = () => done(heard.duration); heard.onerror = () => done(-1); "
        "heard.load(); })"
    )


def printed_patches(page, path, sizes):
    """Print a page: how many patches it shows on paper, how many of these are tall, and how many the print draws.

    `sizes` are those of the pictures that the print draws patches from: a cell of a sheet, or a whole one.
    """
    page.pdf(path)
    page.media(kind="print")
    shown = "[...document.querySelectorAll('.patches b')].filter(e => e.checkVisibility())"
    expected = page.run(f"{shown}.length")
    tall = page.run(f"{shown}.filter(e => e.offsetHeight > e.offsetWidth).length")
    return expected, tall, _drawn(path.read_bytes(), sizes)


def _drawn(pdf, sizes):
    """Count how often a PDF of Chromium draws a picture of one of these sizes."""
    found = re.findall(rb"(\d+) 0 obj\s*<<[^>]*?/Subtype /Image[^>]*?/Width (\d+)[^>]*?/Height (\d+)", pdf)
    wanted = {number for number, *size in found if tuple(map(int, size)) in sizes}
    drawn = 0
    for content in re.findall(rb"stream\r?\n(.*?)endstream", pdf, re.DOTALL):
        with contextlib.suppress(zlib.error):
            drawn += sum(number in wanted for number in re.findall(rb"/X(\d+) Do", zlib.decompress(content)))
    return drawn
