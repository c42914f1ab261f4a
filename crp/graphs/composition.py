"""Attribution graphs: which lower concepts compose a class or a concept.

`compose` computes a `ConceptGraph` with `RelevanceFlow` alone, layer by layer from the root down. In each layer,
relevance is masked to each of the kept concepts and carried to the layers directly below, while the graph's other
layers block it. There, the concepts that receive the most relevance are kept. Which layers are directly below is read
from the autograd graph of the forward pass, so skip connections, branches and control flow need no tracing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from crp.arguments import layer_names, whole_number
from crp.attribution import OUTPUT, RelevanceFlow, Replica
from crp.attribution.condition_passes import conditional_heatmaps, in_passes
from crp.attribution.forward_pass import check_tensor
from crp.attribution.named_starts import Target, output_names
from crp.attribution.starts import Start
from crp.concepts import ChannelConcept, Kinds, Layout, concept_names, kind_at
from crp.errors import InputError, shortened
from crp.graphs.concept_graph import NO_CONCEPT, REST, ConceptGraph, GraphEdge, GraphNode, Key
from crp.graphs.finiteness import check_finite
from crp.graphs.node_patches import with_patches
from crp.graphs.root import LEAST_REST, Root, root_of
from crp.library.store import check_library
from crp.models import PreparedModel, ready_model

if TYPE_CHECKING:
    from zennit.core import Composite

    from crp.library import Library

_CHANNELS = ChannelConcept()


def compose(
    model: nn.Module | PreparedModel,
    data: Tensor,
    layers: Sequence[str],
    *,
    target: Target,
    of: Key | None = None,
    coverage: float = 0.8,
    breadth: int = 6,
    composite: Composite | str | None = None,
    library: Library | None = None,
    concept: Kinds = _CHANNELS,
    batch: int = 8,
) -> ConceptGraph:
    """Find how lower concepts compose a class, or one concept, in one or many samples.

    Parameters
    ----------
    model
        Any model. To compute many graphs, prepare it once with `crp.prepared`.
    data
        Samples `[N, c, *S]`. With several samples, for example of one class, the graph's numbers are means over them.
    layers
        Layers of the graph. None may contain another.
    target
        What is explained: a class by index or name, an expression of classes ("octagon - disc"), or a start
        (`crp.attribution.starts`).
    of
        (layer, concept): decompose the relevance of this concept for `target`; by default that of the class itself.
        Layers that are not below it are left out.
    coverage
        For each concept, keep the strongest edges that together carry this fraction of the absolute relevance that
        leaves it. With 1, all are kept, also those whose relevance adds up to 0.
    breadth
        Largest number of concepts in a layer; what belongs to no concept counts as one of them. If there are more,
        those with the strongest incoming edges are kept.
    composite
        Rules and canonizers; by default those that fit the model. A prepared model has its composite already.
    library
        Provides a patch for each concept of its layers, and the name of the class.
    concept
        The kind of concept, or by layer the kind of each.
    batch
        Samples in one forward pass.

    Returns
    -------
    ConceptGraph

    Raises
    ------
    InputError
        If layers contain one another, no layer is below `of`, or a number is out of range.
    LibraryError
        If the library belongs to another model, composite or kind of concept.

    Notes
    -----
    The attribution graph of Achtibat et al. (2023), Fig. 3d, with each shared concept as one node and with edges of
    both signs. If the rules are linear (`RelevanceFlow.linear`), and not of first order (`ConceptGraph.first_order`),
    edges from all upper concepts add up to a concept's relevance. Otherwise the difference is part of the rest.
    """
    layers = layer_names(layers)
    if of is not None:
        layers = layer_names([*layers, of[0]])
    inner = apart(layers)
    for layer in layers:
        if layer not in inner:
            within = next(other for other in layers if other.startswith(f"{layer}."))
            raise InputError(f"Layers of a graph must not contain one another, but '{layer}' contains '{within}'.")
    if not isinstance(coverage, int | float) or not 0 < coverage <= 1:
        raise InputError(f"coverage is {shortened(coverage)}; it must be above 0 and at most 1.")
    breadth, batch = whole_number("breadth", breadth, 1), whole_number("batch", batch, 1)
    check_tensor(data)
    model = ready_model(model, composite, data, library)
    if library is not None:
        check_library(library)
        model.check(library, concept)
    flows = _Flows(model.replica, data, layers, batch, library.layouts if library else {})
    if isinstance(target, Start) and len(data) > batch:
        for flow in flows:
            target.relevance(flow.prediction[:1])  # refuses one mask, reference or class per sample
            break
    graph = graph_in(flows, layers, target, of=of, coverage=coverage, breadth=breadth, library=library, concept=concept)
    return graph if library is None else with_patches(graph, library)


def apart(layers: Sequence[str]) -> list[str]:
    """Select the layers that contain no other of the given layers.

    >>> apart(["layer4", "layer4.0.conv1", "fc"])
    ['layer4.0.conv1', 'fc']
    """
    return [layer for layer in layers if not any(other.startswith(f"{layer}.") for other in layers)]


def graph_in(
    flows: Iterable[RelevanceFlow],
    layers: Sequence[str],
    target: Target,
    *,
    of: Key | None = None,
    start: Start | None = None,
    coverage: float = 0.8,
    breadth: int = 6,
    library: Library | None = None,
    concept: Kinds = _CHANNELS,
    arriving: Mapping[str, Tensor] | None = None,
    heatmaps: Callable[[Mapping[str, list[int]]], Mapping[Key, np.ndarray]] | None = None,
) -> ConceptGraph:
    """Compute the graph from forward passes that are already open.

    Parameters
    ----------
    flows
        Iterated once for each layer: a list, or an iterable that opens the flows again each time.
    layers
        Some of the flows' layers. None may contain another.
    start
        The relevance that starts at the output, if it is not that of the class `target`, which then identifies the
        root.
    arriving
        Relevance that was already computed, by layer, `[N, *shape]`, of a graph of the whole prediction in one flow.
    heatmaps
        Computes conditional heatmaps of concepts of the graph, given by layer, under the same condition. Those that it
        does not return are computed here.

    Other parameters are described in `compose`.
    """
    for flow in flows:
        # Inside the loop, because a flow that was opened by the iteration is closed after it.
        root = root_of(flow, target, start, of, concept, library, arriving or {})
        below = _directly_below(flow, root.layer, layers)
        explained = root.start.name(output_names(library.output_names if library else (), flow.prediction))
        inner, first_order = [layer for layer in below if layer != OUTPUT], flow.first_order
        given = {} if library is None else library.names
        names = {
            layer: given[layer] if layer in given else concept_names(kind_at(layer, concept), flow.layout(layer))
            for layer in inner
        }
        break
    if of is not None and not below[root.layer]:
        raise InputError(f"No layer of the graph is below '{root.layer}'.")
    kept: dict[str, list[int]] = {root.layer: [root.id]}
    incoming: dict[str, dict[int, float]] = {layer: {} for layer in below}
    arriving: dict[Key, float] = {}
    sent: dict[Key, dict[Key, float]] = {}
    passed, leaving = {}, {}
    for upper, lower in below.items():
        if upper != root.layer:
            received = incoming[upper]
            strongest = sorted(received.keys() - {REST}, key=lambda index: (-received[index], index))
            rest = received.keys() & {REST}
            kept[upper] = sorted([*strongest[: max(1, breadth - len(rest))], *rest])
        level = _level(flows, root, upper, kept[upper], lower, set(below) - {upper}, whole=coverage == 1)
        for row, index in enumerate(kept[upper]):
            node = upper, index
            arriving[node] = float(level.arriving[index])
            edges = {}
            for layer in lower:
                *values, rest = level.sent[layer][row].tolist()
                edges |= {(layer, other): value for other, value in enumerate(values)} | {(layer, REST): rest}
            passed[node] = math.fsum(edges.values())
            leaving[node] = math.fsum(abs(value) for value in edges.values())
            sent[node] = _covering(edges, coverage * leaving[node])
            if coverage == 1:
                sent[node] |= dict.fromkeys(level.cancelling[row], 0.0)
            for (layer, other), value in sent[node].items():
                incoming[layer][other] = incoming[layer].get(other, 0) + abs(value)
    samples, started = _started(flows, root)  # from sums to means, and to shares of the prediction
    edges = [
        GraphEdge(
            upper=upper,
            lower=lower,
            relevance=value / samples,
            share=value / started if started else math.nan,
            part=value / arriving[lower] if arriving[lower] else math.nan,
        )
        for upper, lowers in sent.items()
        for lower, value in lowers.items()
        if lower in arriving
    ]
    pictures = _heatmaps(flows, root, kept, heatmaps(kept) if heatmaps else {}) if samples == 1 else {}
    nodes = []
    for key, relevance in arriving.items():
        layer, index = key
        into = math.fsum(edge.relevance for edge in edges if edge.lower == key)
        out = math.fsum(abs(edge.relevance) for edge in edges if edge.upper == key) * samples
        nodes.append(
            GraphNode(
                layer=layer,
                concept=index,
                relevance=relevance / samples,
                share=relevance / started if started else math.nan,
                rest=relevance / samples - into,
                passed=passed[key] / samples,
                carried=out / leaving[key] if leaving[key] else math.nan,
                heatmap=pictures.get(key),
                name=explained if layer == OUTPUT else _name(names[layer], index),
            )
        )
    return ConceptGraph(
        layers=tuple(below),
        nodes=tuple(nodes),
        edges=tuple(edges),
        started=started / samples,
        coverage=coverage,
        breadth=breadth,
        samples=samples,
        first_order=first_order,
    )


class _Flows:
    """Forward passes over batches of samples, opened again for each iteration; a single batch stays open."""

    def __init__(
        self, replica: Replica, data: Tensor, layers: Sequence[str], batch: int, layouts: Mapping[str, Layout]
    ) -> None:
        self._replica, self._layers, self._layouts = replica, layers, layouts
        self._batches = data.split(batch)
        self._single = self._open(data) if len(self._batches) == 1 else None

    def _open(self, data: Tensor) -> RelevanceFlow:
        return RelevanceFlow(self._replica, None, data, self._layers, layouts=self._layouts)

    def __iter__(self) -> Iterator[RelevanceFlow]:
        if self._single is not None:
            yield self._single
            return
        for batch in self._batches:
            with self._open(batch) as flow:
                yield flow


@dataclass(frozen=True)
class _Level:
    """What arrives at a layer, and what its kept concepts send down; sums over the samples.

    `cancelling` has a list for each kept concept: the lower concepts to which it sends relevance that adds up to 0.
    """

    arriving: Tensor
    sent: dict[str, Tensor]
    cancelling: list[list[Key]]


def _directly_below(flow: RelevanceFlow, root: str, layers: Sequence[str]) -> dict[str, list[str]]:
    """List the layers that relevance reaches directly from the root and from every layer below, from the top down."""
    chosen = [layer for layer in reversed(flow.layers) if layer in layers and layer != root]
    order = [layer for layer in chosen if flow.reaches(root, layer)]
    return {
        upper: [
            lower
            for lower in order[order.index(upper) + 1 if upper != root else 0 :]
            if flow.reaches(upper, lower, around=set(order) - {upper, lower})
        ]
        for upper in (root, *order)
    }


def _level(
    flows: Iterable[RelevanceFlow],
    root: Root,
    upper: str,
    ids: list[int],
    lower: list[str],
    others: set[str],
    *,
    whole: bool,
) -> _Level:
    arriving: Tensor | float = 0.0
    sent: dict[str, Tensor | float] = dict.fromkeys(lower, 0.0)
    held: dict[str, Tensor | bool] = dict.fromkeys(lower, False)
    for flow in flows:
        relevance, totals = root.at(flow, upper)
        above = "at the output" if upper == OUTPUT else f"at layer {upper!r}"
        check_finite(relevance, above, "at the output")
        arriving = arriving + totals
        if not (lower and ids):
            continue
        rows: dict[str, list[Tensor]] = {layer: [] for layer in lower}
        holding: dict[str, list[Tensor]] = {layer: [] for layer in lower}
        for some in in_passes(flow, ids):
            reached = root.down(flow, relevance, upper, some, to=lower, blocked=others - {OUTPUT})
            for layer, found in reached.items():
                check_finite(found, f"at layer {layer!r}", above)
                rows[layer].append(root.totals(flow, layer, found))
                if whole:
                    holding[layer].append(root.held(flow, layer, found, rows[layer][-1]))
        for layer in lower:
            sent[layer] = sent[layer] + torch.cat(rows[layer])
            if whole:
                held[layer] = torch.cat(holding[layer]) | held[layer]
    cancelling: list[list[Key]] = [[] for _ in ids]
    for layer in lower if whole and ids else ():
        concepts = sent[layer].shape[1] - 1
        for row, index in (held[layer] & (sent[layer] == 0)).nonzero().tolist():
            cancelling[row].append((layer, index if index < concepts else REST))
    return _Level(arriving, sent, cancelling)


def _covering(edges: Mapping[Key, float], goal: float) -> dict[Key, float]:
    """Keep the fewest edges whose absolute relevance reaches the goal, the strongest first.

    Those to what belongs to no concept are kept, too, unless they are rounding errors or next to nothing.
    """
    kept, carried = {}, 0.0
    for key, value in sorted(edges.items(), key=lambda edge: -abs(edge[1])):
        # With a tolerance, because the running sum of all edges may differ from the goal in its last digit.
        if carried >= goal * (1 - 1e-12) or value == 0:
            break
        kept[key] = value
        carried += abs(value)
    least = LEAST_REST * math.fsum(abs(value) for value in edges.values())
    return kept | {key: value for key, value in edges.items() if key[1] == REST and abs(value) > least}


def _name(names: Sequence[str], index: int) -> str:
    if index == REST:
        return NO_CONCEPT
    return names[index] if names else ""


def _started(flows: Iterable[RelevanceFlow], root: Root) -> tuple[int, float]:
    """Count the samples and add up the relevance started at their outputs."""
    sums = [(len(flow.prediction), float(root.output(flow).double().sum())) for flow in flows]
    return sum(samples for samples, _ in sums), math.fsum(relevance for _, relevance in sums)


def _heatmaps(
    flows: Iterable[RelevanceFlow], root: Root, kept: Mapping[str, list[int]], known: Mapping[Key, np.ndarray]
) -> dict[Key, np.ndarray]:
    """Compute the conditional heatmaps of all kept concepts of one input; none for an input without spatial axes."""
    (flow,) = flows
    if len(flow.input_shape) < 3:
        return {}
    found = dict(known)
    for layer, ids in kept.items():
        missing = [index for index in ids if (layer, index) not in found]
        if not missing:
            continue
        relevance, _ = root.at(flow, layer)
        heatmaps = conditional_heatmaps(
            flow, missing, lambda some, relevance=relevance, layer=layer: root.down(flow, relevance, layer, some)
        )
        check_finite(heatmaps, f"at the input for single concepts of layer {layer!r}", "at the layer itself")
        for index, heatmap in zip(missing, heatmaps, strict=True):
            found[layer, index] = heatmap.float().cpu().numpy()
    return found
