"""One prepared model in several threads, as in a web application: each explanation is what it is alone."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import nn

import crp
from crp.explanations import Explanation

SAMPLES = 8


def numbers(found: Explanation) -> list[np.ndarray]:
    (layer,) = found.layers
    effects = [part.effect.after for part in layer.ranked]
    return [found.heatmap, layer.relevance, layer.concept_map.table, np.array(effects)]


def test_threads_take_turns(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 5, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(125, 3), nn.Softmax(1),
    ).eval()  # fmt: skip
    data = torch.rand(SAMPLES, 3, 16, 16)
    settings = {"layers": ["4"], "targets": "prediction", "patches": 0, "progress": False}
    library = crp.mine(model, data, path=tmp_path / "a.crp", **settings)
    ready = crp.prepared(model, library=library)
    alone = [numbers(crp.explain(ready, sample, library)) for sample in data]
    for again in (ready, crp.prepared(model, library=library)):  # the first passes decide the rules
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(lambda sample, again=again: crp.explain(again, sample, library), data))
        for expected, found in zip(alone, map(numbers, together), strict=True):
            for ours, theirs in zip(expected, found, strict=True):
                np.testing.assert_array_equal(ours, theirs)
