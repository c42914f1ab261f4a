"""A backward pass to the input in a graph of its own, whose transpose carries regions of the input up to layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from crp.attribution.backward_graph import Node, graph_below
from crp.attribution.ruled_module import ModuleCall

# From where relevance starts, to where it arrives, relevance of several conditions.
Propagate = Callable[[Tensor, Sequence[Tensor], Tensor], list[Tensor | None]]


@dataclass(frozen=True)
class Cut:
    """The output of a module through which all relevance flows on its way to the input.

    Attributes
    ----------
    relevance
        Relevance there.
    above
        The layers above it.
    """

    relevance: Tensor
    above: frozenset[str]


class UpwardGraph:
    """One backward pass from some layers to the input, and its transpose for all of these layers.

    Relevance is linear in what leaves any layer on its way. So the pass starts at the uppermost layers alone, and the
    transposes of the others are derivatives with respect to the relevance that leaves there.

    Parameters
    ----------
    sources
        Where relevance leaves from each layer.
    inner
        The layers that relevance reaches from another of them.
    end
        The model input, a leaf of the graph.
    propagate
        Multiplies several conditions by a transposed Jacobian.
    chunk
        How many conditions share a pass.

    Attributes
    ----------
    heatmap
        Relevance at the input.
    layers
        Relevance that leaves from each layer, by name; those that the pass does not reach are missing.
    cuts
        The places through which all relevance flows and that have axes of space, from the top down.
    """

    def __init__(
        self, sources: Mapping[str, Tensor], inner: Collection[str], end: Tensor, propagate: Propagate, chunk: int
    ) -> None:
        self._propagate, self.chunk = propagate, chunk
        uppermost = {layer: source for layer, source in sources.items() if layer not in inner}
        self.layers = {layer: torch.zeros_like(source, requires_grad=True) for layer, source in uppermost.items()}
        self.cuts: list[Cut] = []
        handles = [
            sources[layer].register_hook(lambda leaving, layer=layer: self.layers.__setitem__(layer, leaving))
            for layer in inner
        ]
        handles += [
            node.register_prehook(lambda arriving: self.cuts.append(Cut(arriving[0], frozenset(self.layers))))
            for node in _cut_nodes([*uppermost.values()], end)
            if isinstance(getattr(node, "call", None), ModuleCall) and node.call.output.ndim > 2
        ]
        try:
            (self.heatmap,) = torch.autograd.grad(
                [*uppermost.values()],
                end,
                [self.layers[layer] for layer in uppermost],
                create_graph=True,
                retain_graph=True,
            )
        finally:
            for handle in handles:
                handle.remove()

    def up(self, regions: Tensor, goals: Sequence[Tensor], start: Tensor | None = None) -> list[Tensor]:
        """Carry regions up to layers or cuts.

        Parameters
        ----------
        regions
            Weights of the relevance at `start`, `[R, *start]`.
        goals
            Relevance at layers or cuts, where the regions arrive.
        start
            Relevance at a cut; by default the heatmap.

        Returns
        -------
        list of Tensor
            `[R, *shape]` for each goal.
        """
        start = self.heatmap if start is None else start
        if len(regions) <= self.chunk:
            return self._up(regions.to(start), goals, start)
        arrived = [goal.new_empty(len(regions), *goal.shape) for goal in goals]
        for first in range(0, len(regions), self.chunk):
            some = slice(first, first + self.chunk)
            for whole, found in zip(arrived, self._up(regions[some].to(start), goals, start), strict=True):
                whole[some] = found
        return arrived

    def _up(self, regions: Tensor, goals: Sequence[Tensor], start: Tensor) -> list[Tensor]:
        found = self._propagate(start, goals, regions)
        return [
            goal.new_zeros(len(regions), *goal.shape) if part is None else part
            for goal, part in zip(goals, found, strict=True)
        ]


def _cut_nodes(sources: Sequence[Tensor], end: Tensor) -> list[Node]:
    """List the nodes that lie on every path from the sources down to a leaf, from the top down."""
    users: dict[Node, list[Node]] = {}
    leaf = None
    for node in graph_below(*sources):
        if getattr(node, "variable", None) is end:
            leaf = node
        for below, _ in node.next_functions:
            if below is not None:
                users.setdefault(below, []).append(node)
    on_path, waiting = set(), [leaf]
    while waiting:
        node = waiting.pop()
        if node not in on_path:
            on_path.add(node)
            waiting += users.get(node, [])
    ready = [node for node in dict.fromkeys(source.grad_fn for source in sources) if node in on_path]
    missing = Counter(below for node in on_path for below, _ in node.next_functions if below in on_path)
    edges = dict(missing) | dict.fromkeys(ready, 1)
    crossing, found = len(ready), []
    while ready:
        node = ready.pop()
        crossing -= edges[node]
        if crossing == 0:  # all edges from what was visited to what was not led here
            found.append(node)
        for below, _ in node.next_functions:
            if below in on_path:
                crossing += 1
                missing[below] -= 1
                if not missing[below]:
                    ready.append(below)
    return found
