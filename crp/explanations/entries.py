"""Several explanations together: which of them show a concept, and its neighbours in their graphs.

=============  ===========================================================================
`Entry`        a summary of one explanation: classes, shares of its concepts, edges
`appearances`  for each concept the entries that show it
`neighbours`   for each concept its neighbours in the graphs of all entries
=============  ===========================================================================
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from crp.errors import InputError
from crp.explanations.explanation import Explanation, LayerExplanation
from crp.graphs.concept_graph import Key
from crp.values import ClassScore, StartScore, class_from, class_numbers, target_from

# A smaller absolute share is printed as 0.0 %: such a prediction does not use the concept.
LEAST_SHARE = 0.0005
# Sites store shares as multiples of 1 / UNIT.
UNIT = 100_000


@dataclass(frozen=True)
class Entry:
    """A summary of one explanation.

    Attributes
    ----------
    name
        Name of the input.
    page
        Name of its page.
    classes
        The best classes, best first; empty if the model's output has none.
    target
        The class that is explained, or another start.
    shares
        By layer, in the order shown, the concepts with a card and their signed shares, largest absolute share first.
    edges
        Edges of the graph: (upper, lower, signed share of the whole prediction). A class is written as (output, index).
    output
        Name of the layer that the graph uses for classes; empty without a graph.
    label
        Index and name of the true class; None if it is not known.
    uses
        By layer, all concepts with at least `LEAST_SHARE` of it, with or without a card, and their signed shares, in
        the order of their ids.
    deviations
        By layer, how far its shares are from the mean of the explained class (`class_deviation`), where that is known.
    effects
        By concept, how much what is explained falls without it (`ConceptEffect.falls`), of those that were measured.
    """

    name: str
    page: str
    classes: tuple[ClassScore, ...]
    target: ClassScore | StartScore
    shares: Mapping[str, tuple[tuple[int, float], ...]]
    edges: tuple[tuple[Key, Key, float], ...] = ()
    output: str = ""
    label: tuple[int, str] | None = None
    uses: Mapping[str, tuple[tuple[int, float], ...]] = field(default_factory=dict)
    deviations: Mapping[str, float] = field(default_factory=dict)
    effects: Mapping[Key, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Neighbour:
    """A concept (or class, with its name) at the other end of an edge.

    Attributes
    ----------
    layer, concept
        Name of the layer and id of the concept.
    name
        Name of the class; empty for a concept.
    predictions
        Number of graphs in which the edge was drawn.
    share
        Mean signed share of the whole prediction over these graphs.
    """

    layer: str
    concept: int
    name: str
    predictions: int
    share: float


def entry_of(
    explanation: Explanation,
    name: str,
    page: str,
    *,
    label: tuple[int, str] | None = None,
    deviations: Mapping[str, float] | None = None,
) -> Entry:
    """Extract what a site needs from an explanation; the rest is as in `Entry`."""
    graph = explanation.graph
    return Entry(
        name=name,
        page=page,
        classes=explanation.classes,
        target=explanation.target,
        shares={
            layer.layer: tuple((part.concept, part.share) for part in layer.ranked) for layer in explanation.layers
        },
        edges=() if graph is None else tuple((edge.upper, edge.lower, edge.share) for edge in graph.edges),
        output="" if graph is None else graph.root.layer,
        label=label,
        uses={layer.layer: _uses(layer) for layer in explanation.layers},
        deviations=deviations or {},
        effects={
            (part.layer, part.concept): part.effect.falls
            for layer in explanation.layers
            for part in layer.ranked
            if part.effect is not None
        },
    )


def _uses(layer: LayerExplanation) -> tuple[tuple[int, float], ...]:
    shares = layer.shares()
    if shares is None:
        return tuple(sorted((part.concept, part.share) for part in layer.ranked))
    return tuple((int(concept), float(shares[concept])) for concept in np.flatnonzero(np.abs(shares) >= LEAST_SHARE))


def in_units(share: float) -> int:
    """Return a share as a multiple of 1 / UNIT, cut off: rounding it on gives what rounding the share gives."""
    return int(share * UNIT)


def entry_numbers(entry: Entry) -> dict[str, Any]:
    """Turn an entry into plain JSON values.

    There are many `uses`: they are concepts and shares in turn, shares in units (`in_units`).
    """
    return {
        "name": entry.name,
        "page": entry.page,
        "classes": [class_numbers(score) for score in entry.classes],
        "target": class_numbers(entry.target),
        "shares": _by_layer(entry.shares),
        "edges": [[*upper, *lower, share] for upper, lower, share in entry.edges],
        "output": entry.output,
        "label": None if entry.label is None else list(entry.label),
        "uses": [[layer, [n for c, share in uses for n in (c, in_units(share))]] for layer, uses in entry.uses.items()],
        "deviations": dict(entry.deviations),
        "effects": [[*key, list(falls)] for key, falls in entry.effects.items()],
    }


def entry_from(content: Mapping[str, Any]) -> Entry:
    """Read the entry that `entry_numbers` wrote. Shares in `uses` lie in the middle of their units.

    Raises
    ------
    InputError
        If `content` is not an entry.
    """
    try:
        return Entry(
            name=str(content["name"]),
            page=str(content["page"]),
            classes=tuple(class_from(score, len(content["classes"])) for score in content["classes"]),
            target=target_from(content["target"], len(content["classes"])),
            shares=_from_layers(content["shares"]),
            edges=tuple(
                ((str(above), int(upper)), (str(below), int(lower)), float(share))
                for above, upper, below, lower, share in content["edges"]
            ),
            output=str(content["output"]),
            label=None if content["label"] is None else (int(content["label"][0]), str(content["label"][1])),
            uses={str(layer): _uses_from(uses) for layer, uses in content["uses"]},
            deviations={str(layer): float(value) for layer, value in content["deviations"].items()},
            effects={
                (str(layer), int(concept)): tuple(map(float, falls)) for layer, concept, falls in content["effects"]
            },
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"this is not an entry of a site: {type(error).__name__} {error}.") from error


def _uses_from(numbers: Sequence[int]) -> tuple[tuple[int, float], ...]:
    pairs = zip(numbers[::2], numbers[1::2], strict=True)
    return tuple((int(concept), math.copysign(abs(units) + 0.5, units) / UNIT) for concept, units in pairs)


def _by_layer(shares: Mapping[str, Iterable[tuple[int, float]]]) -> list[Any]:
    return [[layer, [list(pair) for pair in of_layer]] for layer, of_layer in shares.items()]


def _from_layers(content: Any) -> dict[str, tuple[tuple[int, float], ...]]:
    return {str(layer): tuple((int(concept), float(share)) for concept, share in shares) for layer, shares in content}


def appearances(entries: Iterable[Entry]) -> dict[Key, list[tuple[Entry, float]]]:
    """Collect the entries that show each concept, with its share in each, the largest absolute share first."""
    found: dict[Key, list[tuple[Entry, float]]] = defaultdict(list)
    for entry in entries:
        for layer, shares in entry.shares.items():
            for concept, share in shares:
                found[layer, concept].append((entry, share))
    return {key: sorted(shown, key=lambda pair: -abs(pair[1])) for key, shown in found.items()}


def neighbours(entries: Iterable[Entry]) -> dict[Key, tuple[tuple[Neighbour, ...], tuple[Neighbour, ...]]]:
    """Collect the neighbours of each concept in the graphs: (above, below).

    Neighbours are sorted by the absolute sum of their shares over all entries.
    """
    sums: dict[tuple[Key, Key], list[float]] = defaultdict(list)
    names: dict[Key, str] = {}
    for entry in entries:
        names[entry.output, entry.target.index] = entry.target.name
        for upper, lower, share in entry.edges:
            sums[upper, lower].append(share)
    above: dict[Key, list[Neighbour]] = defaultdict(list)
    below: dict[Key, list[Neighbour]] = defaultdict(list)
    for (upper, lower), shares in sorted(sums.items(), key=lambda item: -abs(math.fsum(item[1]))):
        count, mean = len(shares), math.fsum(shares) / len(shares)
        above[lower].append(Neighbour(*upper, names.get(upper, ""), count, mean))
        below[upper].append(Neighbour(*lower, names.get(lower, ""), count, mean))
    return {key: (tuple(above[key]), tuple(below[key])) for key in {**above, **below}}
