"""The page of a large picture or of a deep network: `python -m benchmarks.large_pages large`, or `deep`.

Networks with random weights; a library of a few small pictures is mined for each. The page is opened from disk in
headless Chromium, five times after once: until it answers, and the processor time of the thread that shows it, which
does not depend on what else runs.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor, nn

import crp
from benchmarks.environments import TIMES, browsing
from crp.preprocessing import Preprocessing
from crp.visualization import Atlas

# Height and width of the large picture.
_SIZE = 3000, 4000
_LAYERS, _CHANNELS = 46, 16
_OPENINGS = 5


def large() -> tuple[nn.Module, tuple[str, ...], Tensor]:
    """Return a fully convolutional network, its mined layer, and a picture of 4000 x 3000 pixels."""
    torch.manual_seed(0)
    blocks: list[nn.Module] = []
    for given, made, stride in ((3, 16, 4), (16, 32, 2), (32, 32, 2)):
        blocks += [nn.Conv2d(given, made, 5, stride=stride), nn.ReLU()]
    model = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 3)).eval()
    return model, ("4",), scene(*_SIZE)


def deep() -> tuple[nn.Module, tuple[str, ...], Tensor]:
    """Return a network of 46 convolutions, all of them mined, and a picture of 64 x 64 pixels."""
    torch.manual_seed(0)
    blocks: list[nn.Module] = []
    for index in range(_LAYERS):
        blocks += [nn.Conv2d(_CHANNELS if index else 3, _CHANNELS, 3, padding=1), nn.BatchNorm2d(_CHANNELS), nn.ReLU()]
    model = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(_CHANNELS, 3))
    model.train()(torch.rand(16, 3, 32, 32))  # the statistics of the norms
    return model.eval(), tuple(str(3 * index) for index in range(_LAYERS)), scene(64, 64)


def scene(height: int, width: int) -> Tensor:
    """Return noise of all scales down to single pixels, in 0 to 1: as hard to compress as a photo."""
    generator = torch.Generator().manual_seed(1)
    picture, side = torch.zeros(1, 3, height, width), 4
    while side < 2 * max(height, width):
        noise = torch.randn(1, 3, min(side, height), min(side, width), generator=generator)
        picture += nn.functional.interpolate(noise, (height, width), mode="bilinear") / side**0.3
        side *= 2
    return ((picture - picture.min()) / (picture.max() - picture.min()))[0]


def measured(kind: str) -> str:
    """Make a page and open it; return size and times as a sentence."""
    model, layers, picture = {"large": large, "deep": deep}[kind]()
    with tempfile.TemporaryDirectory() as folder:
        small = [(scene(64 + 32 * index, 96), index % 3) for index in range(3)] if kind == "large" else [(picture, 0)]
        samples = [(nn.functional.interpolate(one[None], (64, 64))[0], label) for one, label in small]
        library = crp.mine(
            model, samples, layers=layers, path=Path(folder) / "library.crp", preprocessing=Preprocessing(),
            class_names=["a", "b", "c"], progress=False,
        )  # fmt: skip
        start, page = time.process_time(), Path(folder) / "page.html"
        explanation = crp.explain(model, picture, library)
        explained = time.process_time()
        Atlas(explanation).save(page)
        made = time.process_time()
        times, busy = zip(*_opened(page), strict=True)
        return (
            f"{kind}: {page.stat().st_size / 1e6:.2f} MB; answers after {statistics.median(times):.0f} ms "
            f"({min(times):.0f} to {max(times):.0f}); processor time: opening {1000 * statistics.median(busy):.0f} ms "
            f"({1000 * min(busy):.0f} to {1000 * max(busy):.0f}), explain {explained - start:.0f} s, "
            f"page {made - explained:.0f} s"
        )


def _opened(page: Path) -> list[tuple[float, float]]:
    """Open a page: milliseconds until it answers, and seconds of its thread, each time."""
    module = browsing()
    browser = module.Browser(module.find_browser())
    try:
        browser.send("Performance.enable", timeDomain="threadTicks")
        found = []
        for _ in range(_OPENINGS + 1):
            browser.open(page)
            answered = browser.run(TIMES)[-1]
            metrics = {metric["name"]: metric["value"] for metric in browser.send("Performance.getMetrics")["metrics"]}
            found.append((answered, metrics["TaskDuration"]))
        return found[1:]
    finally:
        browser.close()


def main() -> None:
    """Print the figures of one page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=["deep", "large"])
    sys.stdout.write(f"{measured(parser.parse_args().kind)}\n")


if __name__ == "__main__":
    main()
