"""What the built-in data sets of sounds, signals and volumes have in common: a class is what is planted in a sample.

The first class has nothing planted. Of every other class it is known in each sample where that is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crp.media.medium import Medium

from .splits import SPLITS, check_request


@dataclass(frozen=True, eq=False)
class PlantedSample:
    """One sample and its truth.

    Attributes
    ----------
    values
        The model's input, float32 `[c, *S]`.
    label
        The class.
    mask
        Where what is planted lies, bool `[*S]`: where it alone is larger than the noise (its standard deviation).
        False everywhere in the first class.
    """

    values: np.ndarray
    label: int
    mask: np.ndarray


class Planted(ABC):
    """Map-style data set: `data[i]` is (float32 tensor `[c, *S]`, int label).

    A sample depends only on (seed, split, i) and is made on access. Sample i has the label i modulo the number of
    classes.

    Parameters
    ----------
    split
        "train" or "test"; they have no sample in common.
    count
        Number of samples, at least 1. A shorter data set consists of the first samples of a longer one.
    seed
        Seed of the samples, not negative.

    Raises
    ------
    InputError
        If there is no such split, the count is below 1, or the seed is negative.
    """

    class_names: tuple[str, ...]
    preprocessing: Medium
    noise: float  # standard deviation of the noise in the input's values

    def __init__(self, split: str, count: int, *, seed: int = 0) -> None:
        check_request("samples", split, count, seed)
        self.split, self.count, self.seed = split, count, seed

    def __len__(self) -> int:
        """Return the number of samples."""
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return input and label of a sample."""
        sample = self.sample(index)
        return torch.from_numpy(sample.values), sample.label

    def sample(self, index: int) -> PlantedSample:
        """Make a sample, with its truth."""
        rng, label = self._random(index)
        values, planted = self._made(rng, label)
        return PlantedSample(values.astype(np.float32), label, (np.abs(planted) > self.noise).any(0))

    def shown(self, index: int) -> np.ndarray:
        """Return where what is planted lies, bool `[*S]`."""
        return self.sample(index).mask

    def _random(self, index: int) -> tuple[np.random.Generator, int]:
        if not 0 <= index < self.count:
            # an IndexError, because it ends Python's loops over a map-style data set
            raise IndexError(f"There is no sample {index}; there are {self.count}, from 0 to {self.count - 1}.")
        name = [ord(letter) for letter in type(self).__name__]
        return np.random.default_rng([*name, self.seed, SPLITS.index(self.split), index]), index % len(self.class_names)

    @abstractmethod
    def _made(self, rng: np.random.Generator, label: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the values of a sample of a class, and those of what is planted alone, `[c, *S]` each."""


def story(sample: PlantedSample, explanation: Any, scene: str) -> tuple[str, ...]:
    """Describe an explanation of a sample in three sentences with its numbers; `scene` says what was planted."""
    layer = explanation.layers[0]
    strongest = layer.supporting[0]
    positive = strongest.heatmap.clip(min=0)
    inside = positive[sample.mask].sum() / positive.sum()
    return (
        scene,
        f"The model says '{explanation.best.name}' ({explanation.best.probability:.0%}).",
        f"Its strongest concept in {layer.layer} is channel {strongest.concept}, {strongest.share:.0%} of the layer's "
        f"relevance, and {inside:.0%} of that concept's positive relevance lies where this was planted "
        f"({sample.mask.mean():.0%} of the input).",
    )
