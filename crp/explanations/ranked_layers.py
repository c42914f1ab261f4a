"""The concepts of a layer ranked by their relevance for one prediction, and their heatmaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from crp.attribution import RelevanceFlow
from crp.attribution.condition_passes import conditional_heatmaps
from crp.concepts import Kinds, Parts
from crp.graphs.concept_graph import Key
from crp.graphs.finiteness import check_finite
from crp.relevance_shares import shares


@dataclass(frozen=True)
class RankedLayer:
    """The concepts of a layer by their relevance.

    Attributes
    ----------
    layer
        Its name.
    parts
        The parts of its output.
    arriving
        Relevance that arrives there, `[1, *shape]`.
    relevance
        That of each concept, float64 `[n]`.
    share
        Shares of the layer, float64 `[n]`.
    supporting, opposing
        The concepts that get cards, the strongest first.
    """

    layer: str
    parts: Parts
    arriving: Tensor
    relevance: Tensor
    share: np.ndarray
    supporting: list[int]
    opposing: list[int]

    @property
    def cards(self) -> list[int]:
        """All concepts that get cards."""
        return self.supporting + self.opposing

    def heatmaps(self, flow: RelevanceFlow, others: Sequence[int]) -> dict[Key, np.ndarray]:
        """Compute the heatmaps of the cards and of other concepts, float32 `[*S]`, in the same passes."""
        concepts = list(dict.fromkeys([*self.cards, *others]))
        if not concepts:
            return {}
        found = conditional_heatmaps(
            flow, concepts, lambda some: flow.down(self.parts.carried(self.arriving, some), start=self.layer)
        )
        check_finite(found, f"at the input for single concepts of layer {self.layer!r}", "at the layer itself")
        arrays = found.detach().float().cpu().numpy()
        return {(self.layer, index): heatmap for index, heatmap in zip(concepts, arrays, strict=True)}


def ranked_layer(flow: RelevanceFlow, layer: str, concept: Kinds, arriving: Tensor, count: int) -> RankedLayer:
    """Rank the concepts of a layer by the relevance that arrives there, `[1, *shape]`.

    At most `count` supporting and as many opposing ones get cards.
    """
    parts = flow.parts(layer, concept)
    relevance = parts.total(arriving.double())[0]
    order = relevance.argsort(descending=True, stable=True).tolist()
    supporting = [index for index in order[:count] if relevance[index] > 0]
    opposing = [index for index in order[::-1][:count] if relevance[index] < 0]
    return RankedLayer(layer, parts, arriving, relevance, shares(relevance.cpu().numpy()), supporting, opposing)
