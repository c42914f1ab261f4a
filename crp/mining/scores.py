"""How a sample is scored for a concept: options with names."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from crp.concepts import Located
from crp.errors import InputError, nearest
from crp.relevance_shares import stabilised_shares

_DEFINITIONS = {
    "sum": "sum over space",
    "max": "largest signed value over space",
    "sum/divided": "sum over space, divided by the sum over concepts of its absolute value",
    "max/divided": "largest signed value over space, divided by the sum over concepts of its absolute value",
}


@dataclass(frozen=True)
class Score:
    """A score by name: `"sum"` or `"max"` over space, `"/divided"` by its absolute sum over the layer's concepts.

    With `"sum/divided"` on relevance this is RelMax, with `"max"` on activations ActMax, of Achtibat et al. 2023,
    "From attribution maps to human-understandable explanations through Concept Relevance Propagation", Methods.
    """

    name: str

    def __post_init__(self) -> None:
        """Check the name."""
        if self.name not in _DEFINITIONS:
            raise InputError(f"There is no score {self.name!r}: {nearest(str(self.name), list(_DEFINITIONS))}")

    @property
    def definition(self) -> str:
        """Description for the manifest."""
        return _DEFINITIONS[self.name]

    def __call__(self, values: Located, *, negated: bool = False) -> tuple[Tensor, Tensor]:
        """Score every sample for every concept.

        Parameters
        ----------
        values
            Relevance or activation of every concept (`crp.concepts.Parts`).
        negated
            Whether to score the negated values.

        Returns
        -------
        scores
            `[N, concepts]`, of the values' dtype (float32 for bfloat16); within -1 and 1 if divided.
        positions
            Flat position of the largest signed value (the smallest if negated), int64 `[N, concepts]`.
        """
        scores, positions = values.trough() if negated else values.peak()
        if self.name.startswith("sum"):
            scores = values.total
        if negated:
            scores = -scores
        if scores.dtype == torch.bfloat16:
            scores = scores.float()
        if self.name.endswith("/divided"):
            scores = stabilised_shares(scores)
        return scores, positions
