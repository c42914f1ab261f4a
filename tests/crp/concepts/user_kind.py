"""A kind of concept written from the documentation alone: what is positive in half of the channels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from crp.concepts import ConceptKind, Layout


class SignConcept(ConceptKind):
    """Concept 0 is what is positive in the lower half of the channels, 1 what is positive in the upper half.

    What is negative is the rest.
    """

    def size(self, layout: Layout) -> int:
        """Return 2: the lower and the upper half."""
        return 2

    def parts(self, activation: Tensor, ids: Sequence[int], layout: Layout) -> Tensor:
        """Keep the positive values of one half."""
        channels = layout.split(activation).clamp(min=0)
        upper = torch.arange(layout.channels) >= layout.channels // 2
        halves = [channels * (upper if index else ~upper)[:, None] for index in ids]
        return layout.joined(torch.stack(halves))
