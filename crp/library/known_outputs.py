"""Outputs of the mined model for an input that any machine can make again.

A fingerprint of the weights says nothing about the code that uses them: with another activation, stride or eps of its
norms, a model has the same weights and computes something else. So a library also holds what the model gave for one
input, a test pattern, which follows from the shape of the samples and two numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .fingerprints import SAMPLED, sampled_indices

KEY = "known_outputs"
# 2**64 divided by the golden ratio: its multiples modulo 2**64 are spread evenly, those of squares irregularly.
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
# Digits of the largest value that are stored.
_DIGITS = 6


@dataclass(frozen=True)
class KnownOutputs:
    """What a model gave for the test pattern.

    Attributes
    ----------
    least, greatest
        Range of the values of the pattern: that of a sample.
    shape
        Shape of the output for the pattern, without the axis of samples.
    values
        Up to 64 evenly spaced values of the flattened output, before a final softmax or sigmoid.
    tolerance
        How far another machine's values may be from these, as a part of the largest of them in magnitude.
    """

    least: float
    greatest: float
    shape: tuple[int, ...]
    values: tuple[float, ...]
    tolerance: float

    def pattern(self, shape: Sequence[int]) -> np.ndarray:
        """Make the test pattern in the shape of a sample; see `pattern_values`."""
        return pattern_values(shape, self.least, self.greatest)

    def difference(self, values: np.ndarray) -> float:
        """Return the largest difference of other values from these, as a part of the largest of these in magnitude."""
        known = np.array(self.values)
        return float(np.abs(known - values).max() / np.abs(known).max())

    def to_json(self) -> dict[str, Any]:
        """Return the entry of the manifest."""
        return {**asdict(self), "shape": list(self.shape), "values": list(self.values)}


def pattern_values(shape: Sequence[int], least: float, greatest: float) -> np.ndarray:
    """Make an input without structure, float64 of any shape, the same bytes on every machine.

    Value `i` lies at the fraction `i**2 / golden ratio`, modulo 1, between `least` and `greatest`. No random generator
    is used.
    """
    index = np.arange(1, math.prod(shape) + 1, dtype=np.uint64)
    fraction = (index * index * _GOLDEN >> np.uint64(11)) * 2.0**-53
    return (least + (greatest - least) * fraction).reshape(shape)


def chosen_values(output: np.ndarray) -> np.ndarray:
    """Return up to 64 evenly spaced values of a flattened output, float64."""
    flat = output.reshape(-1).astype(np.float64)
    return flat[sampled_indices(flat.size)]


def shortened_values(values: np.ndarray) -> tuple[float, ...]:
    """Round values to six digits of the largest, so that rounding errors do not change what is stored.

    >>> shortened_values(np.array([123.45678, -0.0000004]))
    (123.457, 0.0)
    """
    places = _DIGITS - 1 - math.floor(math.log10(np.abs(values).max()))
    return tuple(round(value, places) + 0.0 for value in values.tolist())


def known_outputs_in(manifest: Mapping[str, Any]) -> KnownOutputs | None:
    """Read the known outputs of a manifest; None if it holds none."""
    stored = manifest["model"].get(KEY)
    if stored is None or "omitted" in stored:
        return None
    return KnownOutputs(**{**stored, "shape": tuple(stored["shape"]), "values": tuple(stored["values"])})


def why_none(manifest: Mapping[str, Any]) -> str:
    """Say why a manifest holds no known outputs, as the end of a sentence."""
    stored = manifest["model"].get(KEY)
    return "an earlier version made the library" if stored is None else stored["omitted"]


def recognised(manifest: Mapping[str, Any]) -> str:
    """Say by what a library recognises its model."""
    known = known_outputs_in(manifest)
    if known is None:
        return f"by its weights, not by what it computes ({why_none(manifest)})"
    count = len(known.values)
    return f"by its weights and {count} output{'s' if count > 1 else ''} for a test pattern"


def are_known_outputs(stored: object) -> bool:
    """Return whether an entry of a manifest is what `to_json` makes, or says why there is none."""
    if stored is None:
        return True
    if not isinstance(stored, dict):
        return False
    if "omitted" in stored:
        return isinstance(stored["omitted"], str)
    numbers, values, shape = ("least", "greatest", "tolerance"), stored.get("values"), stored.get("shape")
    return (
        {*stored} == {*numbers, "values", "shape"}
        and all(type(stored[name]) is float for name in numbers)
        and isinstance(shape, list)
        and all(type(size) is int and 0 < size < 1 << 62 for size in shape)
        and isinstance(values, list)
        and len(values) == min(SAMPLED, math.prod(shape))
        and all(type(value) is float for value in values)
        and any(values)
        and stored["least"] <= stored["greatest"]
        and 0 < stored["tolerance"] < 1
    )


def difference_of_outputs(stored: object, given: object) -> str:
    """Describe how the known outputs of two manifests differ beyond rounding, as the end of a sentence; or empty.

    Where one of them holds none, there is nothing to compare.
    """
    theirs, ours = (known_outputs_in({"model": {KEY: entry}}) for entry in (stored, given))
    if theirs is None or ours is None:
        return ""
    if (theirs.least, theirs.greatest, theirs.shape) != (ours.least, ours.greatest, ours.shape):
        return "its model gives outputs of another shape, or for another test pattern"
    off = theirs.difference(np.array(ours.values))
    if off <= theirs.tolerance:
        return ""
    return (
        f"its model has the same weights, and its outputs for the test pattern differ by {off:.2g} of the largest "
        f"(allowed: {theirs.tolerance:.2g})"
    )
