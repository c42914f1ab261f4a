"""What a graph decomposes, and the relevance of concepts under its condition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from crp.attribution import OUTPUT, RelevanceFlow
from crp.attribution.named_starts import Target, start_of
from crp.attribution.starts import Logit, Start
from crp.concepts import Kinds
from crp.graphs.concept_graph import REST, Key
from crp.indices import concept_id

if TYPE_CHECKING:
    from crp.library import Library

# An edge to what belongs to no concept is drawn from this part of all relevance that leaves a concept on.
LEAST_REST = 1e-3
# Concepts whose relevance is separated at once.
_TOGETHER = 64


@dataclass(frozen=True)
class Root:
    """The root of a graph: what starts at the output, and the concept `of` that relevance is masked to, if any.

    `target` is the class, or 0 if something else than one class starts. `arriving` is relevance that is known already,
    by layer, `[N, *shape]`; none if a concept is decomposed.
    """

    target: int
    start: Start
    of: Key | None
    concept: Kinds
    arriving: Mapping[str, Tensor]

    @property
    def layer(self) -> str:
        """Where it lies."""
        return OUTPUT if self.of is None else self.of[0]

    @property
    def id(self) -> int:
        """The class, or the concept."""
        return self.target if self.of is None else self.of[1]

    def output(self, flow: RelevanceFlow) -> Tensor:
        """Return the relevance that starts at the output, `[1, N, ...]`."""
        return flow.output_relevance(self.start)

    def at(self, flow: RelevanceFlow, layer: str) -> tuple[Tensor, Tensor]:
        """Return relevance at a layer under the condition, `[N, *shape]`, and its sum for each concept, `[n + 1]`.

        The last sum is that of what belongs to no concept (`REST` is -1).
        """
        relevance = self.output(flow)
        if layer != OUTPUT and self.of is not None:
            relevance = flow.down(relevance, to=self.layer)
            if layer != self.layer:
                relevance = self.down(flow, relevance[0], self.layer, [self.id], to=layer)
        elif layer in self.arriving:
            relevance = self.arriving[layer][None]
        elif layer != OUTPUT:
            relevance = flow.down(relevance, to=layer)
        if layer == OUTPUT:
            # The root of a whole prediction is one node, even if relevance started at several classes.
            return relevance[0], relevance[0].double().sum().repeat(self.target + 1)
        return relevance[0], self.totals(flow, layer, relevance)[0]

    def totals(self, flow: RelevanceFlow, layer: str, relevance: Tensor) -> Tensor:
        """Sum relevance `[K, N, *shape]` for each concept, and what belongs to none, over the samples: `[K, n + 1]`."""
        relevance, parts = relevance.double(), flow.parts(layer, self.concept)
        rest = torch.stack([parts.rest(each).sum() for each in relevance])
        return torch.cat([parts.total(relevance).sum(1), rest[:, None]], 1)

    def held(self, flow: RelevanceFlow, layer: str, relevance: Tensor, totals: Tensor) -> Tensor:
        """Say which concepts hold any of the relevance, and whether what belongs to none does: bool `[K, n + 1]`.

        That of a concept may add up to 0 and still be carried on, for example if two positions cancel.
        """
        relevance, parts = relevance.double(), flow.parts(layer, self.concept)
        held = totals != 0
        for row, each in enumerate(relevance):
            silent = (~held[row, :-1]).nonzero().flatten()
            for ids in silent.split(_TOGETHER) if len(silent) and each.any() else ():
                held[row, ids] = parts.carried(each, ids.tolist()).flatten(1).any(1)
            # Sums of many parts leave a rounding error.
            held[row, -1] = parts.rest(each).abs().sum() > LEAST_REST * each.abs().sum()
        return held

    def down(self, flow: RelevanceFlow, relevance: Tensor, start: str, ids: Sequence[int], **to: Any) -> Any:
        """Carry the relevance `[N, *shape]` of some concepts down from a layer; at the output, all of it.

        `ids` are in ascending order, so that `REST` comes first.
        """
        if start == OUTPUT:
            return flow.down(relevance[None], start=start, **to)
        parts = flow.parts(start, self.concept)
        masked = [parts.rest(relevance)[None]] if REST in ids else []
        if concepts := [index for index in ids if index != REST]:
            masked.append(parts.carried(relevance, concepts))
        return flow.down(torch.cat(masked), start=start, **to)


def root_of(
    flow: RelevanceFlow,
    target: Target,
    start: Start | None,
    of: Key | None,
    concept: Kinds,
    library: Library | None,
    arriving: Mapping[str, Tensor],
) -> Root:
    """Look up what is explained and the concept that the caller named."""
    if start is None:
        start = start_of(target, library.output_names if library else (), flow.prediction)
        target = start.target if isinstance(start, Logit) else 0
    if of is not None:
        layer, index = of
        of = layer, concept_id(index, flow.parts(layer, concept).size, f"layer {layer!r}")
    return Root(target, start, of, concept, arriving)
