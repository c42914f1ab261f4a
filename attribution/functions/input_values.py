"""The model's input, and what constants make of its values one by one: preprocessing that stands inside the model.

`(x - mean) / std` in front of the first layer is the same input in other units. Relevance for maps passes it unchanged,
so that the heatmap is the one that the model without it gives for preprocessed input. In proportion to the summands,
`x` would get `x / (x - mean)` of the relevance, which is without bounds where a value is near the mean.
"""

from __future__ import annotations

from torch import Tensor


def as_input(tensor: Tensor) -> Tensor:
    """Mark a tensor as the input, perhaps in other units."""
    tensor.input_version = tensor._version
    return tensor


def is_input(tensor: Tensor) -> bool:
    """Return whether a tensor is marked as the input, and neither it nor one that shares its memory changed since."""
    return getattr(tensor, "input_version", None) == tensor._version
