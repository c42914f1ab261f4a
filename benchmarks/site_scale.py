"""How large and how fast a site of 1,000 predictions and 2,000 concepts is: `python -m benchmarks.site_scale PHOTOS`.

No model runs. Shares are made up by a seeded generator (many small ones, as in real layers); pictures and patches are
cut from real photos, so that they compress as real ones do. The index and the shares are written in full; of pages and
sheets some are written, and the size of the site is estimated from their mean.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.environments import TIMES, browsing
from crp.explanations import ClassScore, ConceptMap, ConceptPart, Explanation, LayerExplanation, Patch
from crp.explanations.entries import entry_of
from crp.visualization.page.explanation_page import render
from crp.visualization.picture_formats import SUFFIX, photo
from crp.visualization.site.front_page import index_page
from crp.visualization.site.pictures import small_picture
from crp.visualization.site.prediction_data import write_index
from crp.visualization.site.shared import Shared

LAYER, CARDS, CELLS, PATCHES, CLASSES = "layer4", 6, 8, 8, 50
# Pages and sheets that are written.
WRITTEN = 12


class Photos:
    """Pictures and patches from a folder of photos."""

    def __init__(self, folder: Path, random: np.random.Generator) -> None:
        paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))[:200]
        self._random = random
        self.pictures = [self._square(path) for path in paths]

    def _square(self, path: Path) -> np.ndarray:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB").resize((224, 224)))

    def patch(self, sample: int) -> Patch:
        picture = self.pictures[self._random.integers(len(self.pictures))]
        top, left = self._random.integers(0, 224 - 96, size=2)
        crop = np.ascontiguousarray(picture[top : top + 96, left : left + 96])
        return Patch(
            sample, 1 / (sample + 1), 0, (0, 0), (top, left, top + 96, left + 96), crop, _hills(self._random, 96), "a"
        )


def _hills(random: np.random.Generator, side: int) -> np.ndarray:
    coarse = random.normal(size=(7, 7)).astype(np.float32)
    values = np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))
    values = np.maximum(values, 0) * random.random(values.shape, dtype=np.float32)
    return values / max(float(values.max()), 1e-6)


def explanation(number: int, concepts: int, photos: Photos, random: np.random.Generator, *, full: bool) -> Explanation:
    """Make up a prediction; without `full`, only what the index needs."""
    relevance = random.gamma(0.25, size=concepts) * random.choice([1, 1, 0.3, 0, -0.5], size=concepts)
    shares = relevance / np.abs(relevance).sum()
    order = np.argsort(-shares)
    side = 224 if full else 2
    parts = {
        int(c): ConceptPart(
            LAYER, int(c), relevance[c], shares[c], _hills(random, side) * np.float32(shares[c]),
            tuple(photos.patch(i) for i in range(PATCHES)) if full else (),
            tuple(photos.patch(i) for i in range(PATCHES)) if full else (),
        )
        for c in (*order[:CARDS], *order[: -CARDS - 1 : -1])
    }  # fmt: skip
    concept_map = None
    if full:
        where = np.maximum(random.normal(size=(CELLS, CELLS, concepts)), 0).astype(np.float32)
        table = where / np.maximum(where.sum((0, 1)), 1e-6) * relevance.astype(np.float32)
        concept_map = ConceptMap(LAYER, table.argmax(-1), table.max(-1), (224, 224), table)
    layer = LayerExplanation(
        LAYER,
        concepts,
        sorted((p for p in parts.values() if p.share > 0), key=lambda p: -p.share),
        sorted((p for p in parts.values() if p.share < 0), key=lambda p: p.share),
        rest=1 - float(np.abs(shares[list(parts)]).sum()),
        coverage=0.97,
        concept_map=concept_map,
        relevance=relevance,
    )
    logits = np.sort(random.normal(scale=2, size=5))[::-1]
    probabilities = np.exp(logits) / np.exp(logits).sum()
    names = random.choice(CLASSES, size=5, replace=False)
    classes = tuple(
        ClassScore(int(c), f"class {c}", float(x), float(p))
        for c, x, p in zip(names, logits, probabilities, strict=True)
    )
    picture = photos.pictures[number % len(photos.pictures)] if full else np.zeros((2, 2, 3), np.uint8)
    return Explanation(picture, _hills(random, side), classes, classes[0], (layer,), absorbed=0.03, provenance={})


def measure(folder: Path, photos_at: Path, predictions: int, concepts: int) -> dict[str, Any]:
    """Write the site into a folder and measure it; sizes in bytes, times in milliseconds."""
    random = np.random.default_rng(0)
    photos = Photos(photos_at, random)
    patches = {c: [tuple(photos.patch(i) for i in range(PATCHES)) for _ in range(3)] for c in range(WRITTEN)}
    some = [photos.patch(0) for _ in range(200)]
    library = SimpleNamespace(
        limits=lambda layer: SimpleNamespace(concepts=concepts),
        concept_name=lambda layer, concept: "",
        patches_of=lambda layer, keys, count=None: {
            (c, mode): (some[c % len(some)],) if count else patches.get(c, patches[0])[0] for c, mode in keys
        },
        manifest={"settings": {}, "data": {"shape": [3, 224, 224]}},
        preprocessing=None,
        naming=lambda layer: SimpleNamespace(to_json=dict),
    )
    shared = Shared(library, folder, [LAYER])
    shared.write_assets()
    entries = []
    for number in range(predictions):
        value = explanation(number, concepts, photos, random, full=False)
        label = int(value.best.index) if random.random() < 0.7 else 0
        entries.append(entry_of(value, f"photo {number:04}.jpg", f"photo_{number:04}", label=(label, f"class {label}")))
        small = small_picture(photos.pictures[number % len(photos.pictures)])
        (folder / "predictions" / f"photo_{number:04}{SUFFIX}").write_bytes(photo(small, quality=70))
    site = {
        "title": "Concept atlas", "predictions": predictions, "command": "", "labels": "",
        "layers": [{"name": LAYER, "page": f"concepts/{LAYER}/index.html"}],
    }  # fmt: skip
    (folder / "index.html").write_text(index_page(entries, shared, site, []), "utf-8")
    write_index(entries, shared)
    figures = {"predictions": predictions, "concepts": concepts} | _opened(folder)
    pages = [_page(shared, number, concepts, photos, random) for number in range(WRITTEN)]
    sheets = [sum(file.stat().st_size for file in folder.glob(f"concepts/*/{c}.*")) for c in _sheets(shared)]
    fixed = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and not file.stem.isdecimal())
    figures["page of a prediction, mean kB"] = round(float(np.mean(pages)) / 1000, 1)
    figures["patches of a concept, mean kB"] = round(float(np.mean(sheets)) / 1000, 1)
    figures["index, thumbnails, shares and glimpses, MB"] = round(fixed / 1e6, 1)
    total = fixed + predictions * float(np.mean(pages)) + concepts * float(np.mean(sheets))
    figures["site without the pages of concepts, MB"] = round(total / 1e6, 1)
    return figures


def _page(shared: Shared, number: int, concepts: int, photos: Photos, random: np.random.Generator) -> int:
    value = explanation(number, concepts, photos, random, full=True)
    return len(render(value, shared, site={"title": "Concept atlas", "place": "photo", "label": ""}).encode())


def _sheets(shared: Shared) -> range:
    for concept in range(WRITTEN):
        shared.sheet(LAYER, concept)
    return range(WRITTEN)


def _opened(folder: Path) -> dict[str, float]:
    """Open the index, then ask for one concept, in a browser that is warm; count the bytes of all files it asks for."""
    module = browsing()
    browser = module.Browser(module.find_browser())
    try:
        browser.open(folder / "index.html")
        browser.open(folder / "index.html")
        _, paint, answers = browser.run(TIMES)
        asked = {address for address in browser.requests if address.startswith("file:")}
        sizes = {address.rsplit("/", 1)[1]: _size(folder, address) for address in asked}
        shown = browser.run("document.querySelectorAll('.gallery .prediction').length")
        concept = browser.run(
            "(async () => { const from = performance.now(), count = document.getElementById('count');"
            " const was = count.textContent;"
            f" location.hash = 'concept={LAYER}/7&least=0.1';"
            " while (count.textContent === was) await new Promise(done => setTimeout(done, 5));"
            " return performance.now() - from; })()"
        )
    finally:
        browser.close()
    return {
        "predictions drawn": shown,
        "index, first paint ms": round(paint),
        "index, answers ms": round(answers),
        "index, bytes read MB": round(sum(sizes.values()) / 1e6, 2),
        "of these thumbnails MB": round(sum(s for name, s in sizes.items() if name.startswith("photo_")) / 1e6, 2),
        "of these glimpses MB": round(sum(s for name, s in sizes.items() if name.startswith("glimpses")) / 1e6, 2),
        "sorted by a concept, ms": round(concept),
    }


def _size(folder: Path, address: str) -> int:
    path = Path(address.removeprefix("file://").split("#")[0])
    return path.stat().st_size if path.is_relative_to(folder.resolve()) else 0


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path, help="a folder of JPEG photos")
    parser.add_argument("--predictions", type=int, default=1000)
    parser.add_argument("--concepts", type=int, default=2000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder) / "site", given.photos, given.predictions, given.concepts), indent=1))


if __name__ == "__main__":
    main()
