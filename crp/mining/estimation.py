"""How long mining will take and how much disk it needs, said after its first block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from crp.library.patches import MODES

# Bytes of a stored pixel: one of the heatmap, about 0.7 of the JPEG (measured on photos at quality 90).
_BYTES_PER_PIXEL = 1.7
# A reference is a sample, a target and a position of 8 bytes and a score of 4; one of a class has no target. Both stand
# in the library's state, too.
_BYTES_PER_REFERENCE = 2 * 28
_BYTES_PER_CLASS_REFERENCE = 2 * 20
# For each class and concept: five statistics, and in the state four sums of two digits each, and a count.
_BYTES_PER_CLASS = 8 * (5 + 4 * 2 + 1)
# Of each sample: explained class, prediction and label, and whether it was mined; of each layer two powers of two.
_BYTES_PER_SAMPLE, _BYTES_PER_VECTORS = 25, 4


@dataclass(frozen=True)
class Estimate:
    """Upper bounds, for people: how much is to be done.

    Attributes
    ----------
    samples
        Length of the data set.
    patches
        How many patches will be made at most.
    bytes
        What the library will take on disk at most.
    """

    samples: int
    patches: int
    bytes: int

    def sentence(self, seconds: float) -> str:
        """Time and disk, given the seconds that one sample took (a patch takes about as long)."""
        return (
            f"{self.samples} samples in about {_duration(self.samples * seconds)}, then at most {self.patches} patches "
            f"in about {_duration(self.patches * seconds)}; at most {self.bytes / 1e6:.1f} MB on disk."
        )


def estimate(
    samples: int,
    classes: int,
    shapes: Mapping[str, Sequence[int]],
    k: int,
    patches: Mapping[str, int],
    fields: Mapping[str, np.ndarray],
    patch_size: int,
    *,
    class_references: int,
    vectors: bool,
) -> Estimate:
    """Count what will be stored.

    Parameters
    ----------
    samples, classes
        Length of the data set, number of the model's outputs.
    shapes
        Shape `[C, *S]` of each layer's output.
    k
        References of each concept.
    patches
        Number of patches of each layer, all modes together.
    fields
        Receptive fields of each layer that has patches, `[positions, 2 * d]`.
    patch_size
        Longest side of a patch.
    class_references
        References of each concept and class.
    vectors
        Whether concept vectors are kept: two numbers of 2 bytes for each sample and concept.
    """
    size = samples * _BYTES_PER_SAMPLE if vectors else 0
    for layer, shape in shapes.items():
        of_class = len(MODES) * class_references * _BYTES_PER_CLASS_REFERENCE + _BYTES_PER_CLASS
        size += shape[0] * (len(MODES) * k * _BYTES_PER_REFERENCE + classes * of_class)
        if vectors:
            size += samples * (4 * shape[0] + _BYTES_PER_VECTORS)
        if patches[layer]:
            first, last = np.hsplit(fields[layer], 2)
            sides = np.minimum(last - first, patch_size)
            size += int(patches[layer] * _BYTES_PER_PIXEL * sides.prod(axis=1).max())
    return Estimate(samples, sum(patches.values()), size)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
