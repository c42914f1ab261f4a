"""Rankings of a layer's concepts for single predictions: relevance, and what it is compared with."""

from __future__ import annotations

import torch
from torch import Tensor

from crp.attribution.removal import explained_value
from crp.attribution.starts import Start
from crp.attribution.upper_part import UpperPart
from crp.concepts import Parts


def gradient_times_part(upper: UpperPart, parts: Parts, start: Start) -> Tensor:
    """Score concepts by the first-order effect of removing their part, gradient times part, `[N, n]`."""
    gradient = upper.gradients(upper.activation, lambda output: explained_value(start, output))
    return parts.total(gradient * upper.activation)


def integrated_gradients(upper: UpperPart, parts: Parts, start: Start, steps: int = 20) -> Tensor:
    """Score concepts by integrated gradients at the layer, `[N, n]`.

    The gradient is averaged over the straight path from zero to the layer's output, at the middle of each of `steps`
    equal parts (Sundararajan et al., ICML 2017).
    """
    mean = torch.zeros_like(upper.activation)
    for step in range(steps):
        place = upper.activation * ((step + 0.5) / steps)
        mean += upper.gradients(place, lambda output: explained_value(start, output)) / steps
    return parts.total(mean * upper.activation)


def random_scores(samples: int, count: int, seed: int) -> Tensor:
    """Draw scores without meaning, `[N, n]`."""
    return torch.rand(samples, count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
