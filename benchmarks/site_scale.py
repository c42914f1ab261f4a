"""How large and how fast a site of 1,000 predictions and 2,000 concepts is: `python -m benchmarks.site_scale PHOTOS`.

No model runs. Shares are made up by a seeded generator (many small ones, as in real layers); pictures and patches are
cut from real photos, so that they compress as real ones do. The index, the shares and the thumbnails are written in
full. Of pages of predictions, pages of concepts and sheets of patches, `--pages` are written (all of them, if that is
large enough), and the rest of the site is as large as their mean. `--site FOLDER` weighs a site that was made by
`crp atlas` in the same way.
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
from crp.explanations.entries import appearances, entry_of
from crp.library.given_names import LayerNaming
from crp.library.profiles import LayerProfiles
from crp.library.references import ClassStatistics, References
from crp.visualization.page_files import write_page
from crp.visualization.picture_formats import PATCHES_SUFFIX, SUFFIX, VEILS_SUFFIX
from crp.visualization.site.concept_page import ConceptPages
from crp.visualization.site.front_page import write_front
from crp.visualization.site.prediction_files import paths_of, write_prediction, write_thumbnail
from crp.visualization.site.shared import Shared

LAYER, CARDS, CELLS, PATCHES, CLASSES, SAMPLES = "layer4", 6, 8, 8, 50, 10_000
# Files of a site of which there is one for each prediction, or for each concept.
KINDS = {
    "page of a prediction": "predictions/*.html",
    "what the index needs of it": "predictions/*.json",
    "thumbnail": f"predictions/*{SUFFIX}",
    "page of a concept": "concepts/*/[0-9]*.html",
    "its patches": f"concepts/*/*[0-9]{PATCHES_SUFFIX}",
    "their veils": f"concepts/*/[0-9]*{VEILS_SUFFIX}",
}


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
        box = (top, left, top + 96, left + 96)
        name = f"n{self._random.integers(10**8):08}_{self._random.integers(10**7):07}.JPEG"  # as long as in ImageNet
        return Patch(sample, 1 / (sample + 1), 0, (0, 0), box, crop, _hills(self._random, 96), "a", name)


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


def weigh(folder: Path, predictions: int, concepts: int) -> dict[str, float]:
    """Weigh a site: the mean of each kind of file in kB, and all in MB with so many predictions and concepts.

    Files of which there is one for the site are counted as they are.
    """
    figures, total = {}, 0.0
    left = {file for file in folder.rglob("*") if file.is_file()}
    for kind, pattern in KINDS.items():
        files = list(folder.glob(pattern))
        if pattern.startswith("concepts"):
            files = [file for file in files if file.stem.removesuffix("-veils").isdecimal()]
        left -= set(files)
        mean = float(np.mean([file.stat().st_size for file in files]))
        figures[f"{kind}, mean kB (of {len(files)})"] = round(mean / 1000, 1)
        total += mean * (concepts if pattern.startswith("concepts") else predictions)
    common = sum(file.stat().st_size for file in left)
    figures["files of all pages, MB"] = round(common / 1e6, 1)
    figures[f"site of {predictions} predictions and {concepts} concepts, MB"] = round((total + common) / 1e6, 1)
    return figures


class _Library:
    """What a site needs of a library, made up."""

    def __init__(self, concepts: int, written: int, photos: Photos, random: np.random.Generator) -> None:
        self.manifest = {"settings": {}, "data": {"shape": [3, 224, 224], "length": SAMPLES}}
        self.preprocessing = None
        self._concepts = concepts
        self._patches = [[tuple(photos.patch(i) for i in range(PATCHES)) for _ in range(3)] for _ in range(written)]
        self._some = [photos.patch(0) for _ in range(200)]
        share = random.gamma(0.1, size=(CLASSES, concepts)) - 0.02
        share /= np.abs(share).sum(1, keepdims=True)
        zero = np.zeros_like(share)
        statistics = ClassStatistics(share, zero, zero, zero, zero.astype(int), np.full(CLASSES, SAMPLES // CLASSES))
        best = random.integers(SAMPLES, size=(concepts, 16))
        references = References(best, np.ones(best.shape, np.float32), best % CLASSES, zero.astype(int))
        self._profiles = LayerProfiles(statistics, references, [f"class {c}" for c in range(CLASSES)])

    def limits(self, layer: str) -> Any:
        return SimpleNamespace(concepts=self._concepts)

    def concept_name(self, layer: str, concept: int) -> str:
        return ""

    def profiles(self, layer: str) -> LayerProfiles:
        return self._profiles

    def naming(self, layer: str) -> Any:
        return LayerNaming("", "ChannelConcept", (), ())

    def patch_files(self, layer: str) -> Any:
        return SimpleNamespace(keys=lambda concepts: (), missing=lambda keys: ())

    def patches_of(self, layer: str, keys: Any, count: int | None = None) -> dict[Any, tuple[Patch, ...]]:
        if count:
            return {key: (self._some[key[0] % len(self._some)],) for key in keys}
        return {key: self._patches[key[0] % len(self._patches)][place] for place, key in enumerate(keys)}


def measure(folder: Path, photos_at: Path, predictions: int, concepts: int, written: int) -> dict[str, Any]:
    """Write the site into a folder and measure it."""
    random = np.random.default_rng(0)
    photos = Photos(photos_at, random)
    library = _Library(concepts, min(written, 200), photos, random)
    shared = Shared(library, folder, [LAYER])
    shared.write_assets()
    entries = []
    for number in range(predictions):
        page = f"photo_{number:04}"
        value = explanation(number, concepts, photos, random, full=number < written)
        label = int(value.best.index) if random.random() < 0.7 else 0
        entries.append(entry_of(value, f"photo {number:04}.jpg", page, label=(label, f"class {label}")))
        if number < written:
            write_prediction(value, entries[-1], shared, title="Concept atlas", key="")
        else:
            write_thumbnail(photos.pictures[number % len(photos.pictures)], paths_of(shared, page).thumbnail)
    site = {
        "title": "Concept atlas", "predictions": predictions, "command": "", "labels": "",
        "layers": [{"name": LAYER, "page": f"concepts/{LAYER}/index.html"}],
    }  # fmt: skip
    write_front(entries, shared, site, [])
    figures = {"predictions": predictions, "concepts": concepts} | _opened(folder)
    samples = SimpleNamespace(of=lambda layer, concept: None, files=(), root=lambda folder: "")
    pages = ConceptPages(shared, LAYER, site, appearances(entries), {}, samples)
    for concept in range(min(written, concepts)):
        write_page(folder / shared.page(LAYER, concept), pages.page(concept))
    return figures | weigh(folder, predictions, concepts)


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
    parser.add_argument("photos", type=Path, nargs="?", help="a folder of JPEG photos")
    parser.add_argument("--predictions", type=int, default=1000)
    parser.add_argument("--concepts", type=int, default=2000)
    parser.add_argument("--pages", type=int, default=24, help="pages of predictions and of concepts that are written")
    parser.add_argument("--site", type=Path, help="weigh this site instead")
    given = parser.parse_args()
    if given.site:
        print(json.dumps(weigh(given.site, given.predictions, given.concepts), indent=1))
        return
    if not given.photos:
        parser.error("give a folder of photos, or --site")
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder) / "site"
        print(json.dumps(measure(site, given.photos, given.predictions, given.concepts, given.pages), indent=1))


if __name__ == "__main__":
    main()
