"""`FeatureVisualization` objects that several test files use."""

from __future__ import annotations

import torch
from torch import nn
from zennit.composites import EpsilonPlusFlat

from crp.attribution import CondAttribution
from crp.cache import ImageCache
from crp.concepts import ChannelConcept
from crp.legacy.feature_visualization import FeatureVisualization
from tests.legacy.scripts_mining import visualization


def mined(folder, kind=FeatureVisualization, samples=None, end=12, **options):
    fv = visualization(folder, kind, samples, **options)
    fv.run(EpsilonPlusFlat(), 0, end, batch_size=5)
    return fv


class Colours:
    """Samples that can be drawn, and a net for them."""

    def __init__(self, seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.data = torch.rand(12, 3, 12, 12, generator=generator)

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return self.data[index], index % 2

    @staticmethod
    def net(seed=0):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


def drawing(folder, cache=True, samples=None, model=None, **options):
    cache = ImageCache(f"{folder}/cache") if cache else None
    fv = FeatureVisualization(
        CondAttribution(model or Colours.net()), samples or Colours(), {"0": ChannelConcept()}, path=f"{folder}/fv",
        cache=cache, **options,
    )  # fmt: skip
    fv.run(EpsilonPlusFlat(), 0, 12, batch_size=6)
    return fv
