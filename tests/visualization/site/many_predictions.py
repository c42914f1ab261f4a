"""A site of 300 made-up predictions, written without a pass of a model, for tests of its index.

Pages of predictions are copies of one page; what the index, the comparison and the concept pages say is made up by a
seeded generator and known to the tests as entries.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from crp.explanations.entries import Entry
from crp.library import Library
from crp.relevance_shares import LEAST_SHARE
from crp.values import ClassScore
from crp.visualization.picture_formats import SUFFIX
from crp.visualization.site.front_page import compare_page, index_page
from crp.visualization.site.prediction_data import write_index
from crp.visualization.site.shared import Shared
from tests.visualization.site.small_site import LAYERS, NAMES

COUNT = 300
SIZES = {"upper": 8, "low/er": 6}


def entry(number: int, random: np.random.Generator) -> Entry:
    logits = random.normal(scale=1.5, size=3)
    probabilities = np.exp(logits) / np.exp(logits).sum()
    order = np.argsort(-logits)
    classes = tuple(ClassScore(int(i), NAMES[i], float(logits[i]), float(probabilities[i])) for i in order)
    uses = {}
    for layer, size in SIZES.items():
        relevance = random.gamma(0.3, size=size) * random.choice([1, 1, -1], size=size)
        shares = relevance / np.abs(relevance).sum()
        uses[layer] = tuple((c, float(shares[c])) for c in range(size) if abs(shares[c]) >= LEAST_SHARE)
    # one in ten has no label; two thirds of the rest are right
    label = None if number % 10 == 9 else int(order[0] if random.random() < 2 / 3 else order[1])
    return Entry(
        name=f"photo {number:03}.png",
        page=f"photo_{number:03}",
        classes=classes,
        target=classes[0],
        shares={layer: tuple(sorted(pairs, key=lambda pair: -abs(pair[1]))[:4]) for layer, pairs in uses.items()},
        label=None if label is None else (label, NAMES[label]),
        uses=uses,
        deviations={} if number % 7 == 3 else {"upper": float(random.random())},
    )


def entries(count: int = COUNT) -> list[Entry]:
    random = np.random.default_rng(7)
    return [entry(number, random) for number in range(count)]


def in_common(given: list[Entry], listed: list[Entry]) -> list[list]:
    """What the listed predictions share, brute force: [layer, concept, side, how many, how many of the others]."""
    pages = {value.page for value in listed}
    counts = {}
    for value in given:
        for layer, pairs in value.shares.items():
            for concept, part in pairs:
                found = counts.setdefault((layer, concept, "supports" if part > 0 else "opposes"), [0, 0])
                found[value.page not in pages] += 1
    others = len(given) - len(listed)
    more = {key: a / len(listed) - (b / others if others else 0) for key, (a, b) in counts.items()}
    layers = list(reversed(LAYERS))
    some = [key for key, (a, _) in counts.items() if a > 1 and more[key] > 0]
    some.sort(key=lambda key: (-more[key], -counts[key][0], layers.index(key[0]), key[1]))
    return [[*key, *counts[key]] for key in some[:8]]


def write(made: Path, library: Library, folder: Path, given: list[Entry]) -> Path:
    """Write the index of `given` into a copy of a site that was made of a few pictures."""
    shutil.copytree(made, folder)
    shared = Shared(library, folder, tuple(reversed(LAYERS)))
    site = {
        "title": "Concept atlas of Sequential",
        "predictions": len(given),
        "layers": [{"name": layer, "page": f"{place}/index.html"} for layer, place in shared.places.items()],
        "command": "",
        "labels": "made up",
    }
    for value in given:
        for suffix in (".html", SUFFIX):
            shutil.copy(folder / "predictions" / f"picture_0{suffix}", folder / f"predictions/{value.page}{suffix}")
    (folder / "index.html").write_text(index_page(given, shared, site, []), "utf-8")
    (folder / "compare.html").write_text(compare_page(site, shared, given), "utf-8")
    write_index(given, shared)
    shared.write_order([(value.page, value.name) for value in given])
    return folder
