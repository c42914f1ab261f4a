"""Make the pictures of docs/gallery.md: `python -m tutorials.gallery`, about two minutes on two CPU cores.

All data is built in or made here. The screenshots need Chromium, found in the same way as for the browser tests. File
names do not change, so `git diff` after a second run shows what has changed.
"""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from PIL import Image
from torch import Tensor, nn

import crp
from crp.demo import TAGGED_CLASS, Scenes, demo_model, objects_demo
from crp.demo.demo_kinds import KINDS, DemoKind
from crp.explanations import Explanation
from crp.library import Library
from crp.visualization import Atlas
from crp.visualization.figures import paper
from crp.visualization.figures.renderers import SignalRenderer, SpectrogramRenderer
from crp.visualization.site.object_pages import make_object_pages
from tests.browsing import Browser, find_browser
from tutorials.render import reduced

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "gallery"
DOTS_PER_INCH = 180
# For screenshots: the size of the window in CSS pixels, and how many image pixels one of them becomes.
WIDTH, HEIGHT, SHARPNESS = 1180, 965, 1.25
VIEW = ".view:not([hidden])"


def main() -> None:
    """Write all pictures of the gallery."""
    program = find_browser()
    if program is None:
        sys.exit("No Chromium found for the screenshots; set CRP_TEST_BROWSER to its path.")
    FOLDER.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as work:
        scenes = Scenes("test", 100, tag="always")
        model = demo_model()
        library = crp.mine(
            model, Scenes("train", 1000), layers=["conv4", "conv5"], path=Path(work) / "scenes.crp",
            class_names=Scenes.class_names, preprocessing=Scenes.preprocessing, progress=False,
        )  # fmt: skip
        photo = Path(work) / "scene.png"
        Image.fromarray(scenes.with_tag(TAGGED_CLASS)).save(photo)
        explanation = crp.explain(
            model, photo, library, provenance={"image": photo.name, "command": "crp demo --out demo"}
        )
        for name, axes in [*of_scenes(explanation, library), *of_other_inputs(Path(work))]:
            file = io.BytesIO()
            paper.save(axes.figure, file, format="png", dpi=DOTS_PER_INCH)
            keep(name, file.getvalue())
        browser = Browser(program)
        try:
            page = Atlas(explanation).save(Path(work) / "atlas.html")
            for name, png in [*of_page(browser, page), *of_recordings(browser, Path(work))]:
                (FOLDER / f"{name}.png").write_bytes(reduced(png, widest=1500))
            photos = pictures_of(scenes, Path(work) / "scenes")
            site = crp.make_site(model, photos, library, Path(work) / "site", progress=False)
            for name, png in [*of_site(browser, site.parent), *of_objects(browser, Path(work))]:
                keep(name, png)
        finally:
            browser.close()
    for path in sorted(FOLDER.glob("*.png")):
        print(f"{path.name:24} {path.stat().st_size / 1000:5.0f} kB")


def keep(name: str, png: bytes) -> None:
    """Write a picture without reducing its colours: a palette would spoil bright, fine detail."""
    Image.open(io.BytesIO(png)).convert("RGB").save(FOLDER / f"{name}.png", optimize=True)


def of_scenes(explanation: Explanation, library: Library) -> Iterator[tuple[str, Axes]]:
    """Draw figures for papers of the stamped octagon."""
    yield "paper-overview", paper.plot_overview(explanation, width=paper.TWO_COLUMNS)
    yield "paper-column", paper.plot_overview(explanation, "conv4", concepts=3, width=paper.ONE_COLUMN)
    yield "paper-graph", paper.plot_graph(explanation.graph, width=paper.TWO_COLUMNS)
    statistics = library.statistics("conv5")
    yield "paper-profile", paper.plot_class_profile(
        statistics, class_names=library.class_names, width=paper.TWO_COLUMNS
    )


def of_page(browser: Browser, page: Path) -> Iterator[tuple[str, bytes]]:
    """Take screenshots of the page: light, dark, with a region selected, and its graph."""
    browser.open(page, width=WIDTH, height=HEIGHT)
    yield "page", browser.screenshot(whole=False, sharpness=SHARPNESS)
    browser.media(dark=True)
    browser.hover(f"{VIEW} .card:nth-of-type(1) .where")
    settle(browser)
    yield "page-dark", browser.screenshot(whole=False, sharpness=SHARPNESS)
    browser.media(dark=False)
    browser.resize(WIDTH, 1500)  # the ranking is below the picture
    browser.drag(*(browser.place(f"{VIEW} .grid", x, y) for x, y in ((0.3, 0.35), (0.6, 0.7))))
    settle(browser)
    yield "page-region", browser.screenshot(of=f"{VIEW} .side", margin=20, sharpness=1.6)
    browser.press("Escape")
    browser.resize(WIDTH, HEIGHT)
    browser.hover(f"{VIEW} .node:nth-child(2)")
    settle(browser)
    yield "page-graph", browser.screenshot(of=f"{VIEW} .graph", margin=20, sharpness=SHARPNESS)


def of_recordings(browser: Browser, work: Path) -> Iterator[tuple[str, bytes]]:
    """Take screenshots of the pages of a sound, a signal and a volume, as `crp demo` makes them."""
    yield "page-audio", shown(browser, work, KINDS["audio"], height=1010)
    yield "page-signal", shown(browser, work, KINDS["signal"], height=1010)
    yield "page-volume", shown(browser, work, KINDS["volume"], height=1010)


def shown(browser: Browser, work: Path, kind: DemoKind, *, height: int) -> bytes:
    """Mine some of the data of a kind of input, explain its example, and take a screenshot of the page."""
    data, example = kind.functions.data(kind.network, 300), kind.functions.example(work)
    library = crp.mine(
        demo_model(kind.network), data, layers=kind.networks[kind.network], path=work / f"{kind.network}.crp",
        class_names=data.class_names, preprocessing=data.preprocessing, progress=False,
    )  # fmt: skip
    explanation = crp.explain(demo_model(kind.network), example.file, library, provenance={"image": example.file.name})
    browser.open(Atlas(explanation).save(work / f"{kind.network}.html"), width=WIDTH, height=height)
    return browser.screenshot(whole=False)


def pictures_of(scenes: Scenes, folder: Path) -> list[Path]:
    """Write one picture of each class."""
    folder.mkdir()
    files = [folder / f"{name.replace(' ', '-')}.png" for name in Scenes.class_names]
    for index, file in enumerate(files):
        drawn = scenes.with_tag if index == TAGGED_CLASS else scenes.without_tag
        Image.fromarray(drawn(index)).save(file)
    return files


def of_site(browser: Browser, site: Path) -> Iterator[tuple[str, bytes]]:
    """Take screenshots of a site: its list of predictions, and the page of a concept."""
    browser.open(site / "index.html", width=WIDTH, height=HEIGHT)
    yield "site", browser.screenshot(whole=False)
    browser.open(site / "concepts" / "conv5" / "35.html", width=WIDTH, height=1205)
    yield "concept", browser.screenshot(whole=False)


def of_objects(browser: Browser, work: Path) -> Iterator[tuple[str, bytes]]:
    """Take screenshots of the objects of a scene: their index, and the page of the octagon."""
    model, data = demo_model("segmenter"), objects_demo.data("segmenter", 300)
    library = crp.mine(
        model, data, layers=["features.conv5", "features.conv6"], path=work / "objects.crp", targets=data.targets,
        class_names=data.class_names, preprocessing=data.preprocessing, progress=False,
    )  # fmt: skip
    example = objects_demo.example(work)
    index = make_object_pages(model, example.file, library, work / "objects", name=example.file.name)
    browser.open(index, width=WIDTH, height=1150)
    yield "objects", browser.screenshot(whole=False)
    browser.open(index.parent / "object-0.html", width=WIDTH, height=HEIGHT)
    yield "object", browser.screenshot(whole=False)


def settle(browser: Browser) -> None:
    """Wait for transitions to end."""
    browser.run("new Promise(done => setTimeout(done, 600))")


def of_other_inputs(work: Path) -> Iterator[tuple[str, Axes]]:
    """Draw a signal, a spectrogram and a volume, each explained for a toy network trained on synthetic data."""
    signals, labels = made(signal, 300)
    network = nn.Sequential(
        nn.Conv1d(2, 12, 9, padding=4), nn.ReLU(), nn.MaxPool1d(4), nn.Conv1d(12, 8, 5, padding=2), nn.ReLU(),
        nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(8, 3),
    )  # fmt: skip
    found = explained(network, signals, labels, work / "signals.crp", ["no beat", "beat up", "beat down"])
    renderer = SignalRenderer(rate=100, time_label="time (s)", channels=("lead I", "lead II"))
    yield "signal", paper.plot_overview(found, concepts=3, renderer=renderer)

    spectrograms, labels = made(spectrogram, 150)
    network = nn.Sequential(
        nn.Conv2d(1, 8, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
        nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(8, 3),
    )  # fmt: skip
    found = explained(network, spectrograms, labels, work / "sounds.crp", ["noise", "rising", "falling"])
    renderer = SpectrogramRenderer((0, 1.28), (0, 8), time_label="time (s)", frequency_label="frequency (kHz)")
    yield "spectrogram", paper.plot_overview(found, concepts=3, renderer=renderer)

    volumes, labels = made(volume, 90)
    network = nn.Sequential(
        nn.Conv3d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool3d(2), nn.Conv3d(8, 12, 3, padding=1), nn.ReLU(),
        nn.AdaptiveMaxPool3d(1), nn.Flatten(), nn.Linear(12, 3),
    )  # fmt: skip
    found = explained(network, volumes, labels, work / "volumes.crp", ["empty", "bright", "dark"])
    yield "volume", paper.plot_overview(found, concepts=4)


def made(draw: object, count: int) -> tuple[Tensor, Tensor]:
    """Make inputs of three classes in turn, and their labels."""
    random = np.random.default_rng(0)
    inputs = np.stack([draw(random, index % 3) for index in range(count)]).astype(np.float32)
    return torch.from_numpy(inputs), torch.arange(count) % 3


def signal(random: np.random.Generator, label: int) -> np.ndarray:
    """Two noisy sines [2, 256], with an upward (1) or downward (2) beat at a random time."""
    time = np.arange(256) / 256
    sines = np.stack([0.6 * np.sin(10 * np.pi * time + random.uniform(0, 6)) for _ in range(2)])
    beat = np.exp(-(((np.arange(256) - random.integers(30, 220)) / 4) ** 2))
    return sines + 0.15 * random.normal(size=(2, 256)) + (0, 2, -2)[label] * beat


def spectrogram(random: np.random.Generator, label: int) -> np.ndarray:
    """Noise [1, 32, 64], with a tone that rises (1) or falls (2)."""
    values = 0.3 * random.random((1, 32, 64))
    start, base = random.integers(5, 40), random.integers(4, 16)
    for step in range(14 if label else 0):
        values[0, base + (step // 2 if label == 1 else 7 - step // 2), start + step] += 1
    return values


def volume(random: np.random.Generator, label: int) -> np.ndarray:
    """Noise [1, 12, 24, 24], with a ball that is brighter (1) or darker (2)."""
    places = np.stack(np.meshgrid(np.arange(12) * 2, np.arange(24), np.arange(24), indexing="ij"), axis=-1)
    centre = random.uniform(6, 18, size=3)
    ball = np.exp(-((np.linalg.norm(places - centre, axis=-1) / 4) ** 2))
    return (0.3 * random.normal(size=(12, 24, 24)) + (0, 2.5, -2.5)[label] * ball)[None]


def explained(network: nn.Sequential, inputs: Tensor, labels: Tensor, path: Path, names: list[str]) -> Explanation:
    """Train the network and explain the first input of class 1."""
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(inputs), labels).backward()
        optimizer.step()
    network.eval()
    data = torch.utils.data.TensorDataset(inputs, labels)
    last = [name for name, module in network.named_children() if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)]
    library = crp.mine(network, data, layers=last[-1:], path=path, class_names=names, progress=False)
    return crp.explain(network, inputs[1], library)


if __name__ == "__main__":
    main()
