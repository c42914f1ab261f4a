"""Estimate of the time and disk space of mining, logged after the first block."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from crp.library.patches import MODES

# Bytes of a stored pixel: one of the heatmap, about 0.7 of the JPEG (measured on photos at quality 90).
_BYTES_PER_PIXEL = 1.7
# A reference is a sample, a target and a position of 8 bytes each and a score of 4 bytes; a reference of a class has no
# target. Both are also in the library's state.
_BYTES_PER_REFERENCE = 2 * 28
_BYTES_PER_CLASS_REFERENCE = 2 * 20
# For each class and concept: five statistics; in the state four sums of two digits each and a count.
_BYTES_PER_CLASS = 8 * (5 + 4 * 2 + 1)
# For each sample: explained class, prediction, label and a flag; and for each layer two exponents.
_BYTES_PER_SAMPLE, _BYTES_PER_VECTORS = 25, 4


@dataclass(frozen=True)
class Estimate:
    """Upper bounds of the work and the disk space.

    Attributes
    ----------
    samples
        Length of the data set.
    patches
        Largest number of patches that are made now.
    bytes
        Largest size of the library on disk.
    """

    samples: int
    patches: int
    bytes: int

    def sentence(self, seconds: float) -> str:
        """Describe time and disk space, given the seconds that one sample takes (a patch takes about as long)."""
        words = f"{self.samples} samples in about {_duration(self.samples * seconds)}"
        if self.patches:
            words += f", then at most {self.patches} patches in about {_duration(self.patches * seconds)}"
        return f"{words}; at most {self.bytes / 1e6:.1f} MB on disk."


def estimate(
    samples: int,
    classes: int,
    sizes: Mapping[str, int],
    k: int,
    patches: Mapping[str, int],
    fields: Mapping[str, np.ndarray],
    patch_size: int,
    *,
    class_references: int,
    vectors: bool,
    now: int,
) -> Estimate:
    """Estimate what will be stored.

    Parameters
    ----------
    samples, classes
        Length of the data set, number of the model's outputs.
    sizes
        Number of concepts of each layer.
    k
        References of each concept.
    patches
        Number of patches of each layer, for all modes together, once all have been made.
    fields
        Boxes from which patches are cut, of each layer that has any, `[positions, 2 * d]`.
    patch_size
        Longest side of a patch.
    class_references
        References of each concept and class.
    vectors
        Whether concept vectors are stored: two numbers of 2 bytes for each sample and concept.
    now
        Number of patches that mining makes itself.
    """
    size = samples * _BYTES_PER_SAMPLE if vectors else 0
    for layer, concepts in sizes.items():
        of_class = len(MODES) * class_references * _BYTES_PER_CLASS_REFERENCE + _BYTES_PER_CLASS
        size += concepts * (len(MODES) * k * _BYTES_PER_REFERENCE + classes * of_class)
        if vectors:
            size += samples * (4 * concepts + _BYTES_PER_VECTORS)
        if patches[layer]:
            first, last = np.hsplit(fields[layer], 2)
            sides = np.minimum(last - first, patch_size)
            size += int(patches[layer] * _BYTES_PER_PIXEL * sides.prod(axis=1).max())
    return Estimate(samples, now, size)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
