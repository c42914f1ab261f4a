"""Gives an explanation its patches, which are read together, and made together if the library does not have them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from crp.explanations.explanation import ConceptPart, Explanation, LayerExplanation, Patch
from crp.graphs.node_patches import concepts_in, with_patches

if TYPE_CHECKING:
    from crp.library import Library
    from crp.library.patch_segments import PatchKey

# One patch is kept for each concept among the strongest few of some cell: how many per cell, and how many in all.
_NAMED_IN_CELL, _GLIMPSES = 6, 32
_MODES = ("relevance", "activation")


def illustrated(explanation: Explanation, library: Library, count: int) -> Explanation:
    """Give each concept of an explanation its patches.

    Parameters
    ----------
    explanation
        An explanation without patches.
    library
        The library, which makes patches that are missing if it can.
    count
        Largest number of patches of each concept and mode.
    """
    library.make_patches(_wanted(explanation, library, count))
    return _filled(explanation, library, count)


def _wanted(explanation: Explanation, library: Library, count: int) -> dict[str, list[PatchKey]]:
    wanted: dict[str, list[PatchKey]] = defaultdict(list)
    for view in (explanation, *explanation.beside):
        for layer in view.layers:
            files = library.patch_files(layer.layer)
            wanted[layer.layer] += files.keys([part.concept for part in layer.ranked], _MODES, count)
            wanted[layer.layer] += files.keys(_named(layer), _MODES[:1], 1)
        for layer, concepts in concepts_in(view.graph, library).items() if view.graph else ():
            wanted[layer] += library.patch_files(layer).keys(concepts, _MODES[:1], 1)
    return wanted


def _filled(explanation: Explanation, library: Library, count: int) -> Explanation:
    graph = explanation.graph
    return replace(
        explanation,
        layers=tuple(_of_layer(layer, library, count) for layer in explanation.layers),
        graph=None if graph is None else with_patches(graph, library),
        beside=tuple(_filled(other, library, count) for other in explanation.beside),
    )


def _of_layer(layer: LayerExplanation, library: Library, count: int) -> LayerExplanation:
    files = library.patch_files(layer.layer)
    concepts = [part.concept for part in layer.ranked]
    patches = library.patches_of(layer.layer, [(one, mode) for one in concepts for mode in _MODES], count=count)
    most = {one: len(files.keys([one], _MODES, count)) for one in concepts}

    def filled(part: ConceptPart) -> ConceptPart:
        relevance, activation = (patches[part.concept, mode] for mode in _MODES)
        missing = most[part.concept] - len(relevance) - len(activation)
        return replace(
            part, relevance_patches=relevance, activation_patches=activation, patches_missing=missing
        )

    found = library.patches_of(layer.layer, [(one, _MODES[0]) for one in _named(layer)], count=1)
    return replace(
        layer,
        supporting=tuple(map(filled, layer.supporting)),
        opposing=tuple(map(filled, layer.opposing)),
        glimpses=dict(_first(found)),
    )


def _first(found: dict[tuple[int, str], tuple[Patch, ...]]) -> Iterator[tuple[int, Patch]]:
    for (concept, _), patches in found.items():
        if patches:
            yield concept, patches[0]


def _named(layer: LayerExplanation) -> list[int]:
    """List the concepts without a card that are among the strongest of some cell, in ascending order."""
    concept_map = layer.concept_map
    if concept_map is None:
        return []
    magnitude = np.abs(concept_map.table).reshape(-1, concept_map.table.shape[2])
    magnitude[:, [part.concept for part in layer.ranked]] = 0
    named = np.unique(np.argsort(-magnitude, axis=1, kind="stable")[:, :_NAMED_IN_CELL])
    strongest = sorted(named.tolist(), key=lambda index: -magnitude[:, index].max())[:_GLIMPSES]
    return sorted(index for index in strongest if magnitude[:, index].any())
