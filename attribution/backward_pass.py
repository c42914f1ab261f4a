"""A backward pass through the graph of a forward pass: whose rules it follows, and which have a shorter form."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from torch import Tensor

from crp.attribution.backward_graph import jacobian_products
from crp.attribution.forward_pass import fast_layout
from crp.attribution.norm_squares import NormSquares
from crp.attribution.purposes import Purpose
from crp.attribution.rule_operator import RuleCall


@dataclass(frozen=True)
class BackwardPass:
    """A backward pass, to begin with all conditions that share its start.

    Attributes
    ----------
    purpose
        Whose rules it follows.
    shorter
        The calls of rules that have a shorter form in it (`positive_outputs.py`).
    squares
        What is taken from relevance for ranking, and which rules a backward pass uses.
    """

    purpose: Purpose
    shorter: Collection[RuleCall]
    squares: NormSquares

    def pursued(self) -> AbstractContextManager[None]:
        """Use its rules inside the context."""
        return self.squares.purpose.pursued(self.purpose, self.shorter)

    def propagate(self, output: Tensor, inputs: Sequence[Tensor], relevance: Tensor) -> list[Tensor | None]:
        """Carry relevance of several conditions, `[K, N, ...]`, from `output` to `inputs`."""
        with self.pursued():
            squares = self.squares if self.purpose is Purpose.RANKING else None
            # in the layout of the forward pass; otherwise each module would convert the gradient again
            return jacobian_products(output, inputs, fast_layout(relevance, 2), squares)
