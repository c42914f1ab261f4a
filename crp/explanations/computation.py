"""From a model, an input and a library to the numbers of an atlas.

`explain` is the only place where a prediction's concepts are computed, all from one forward pass. It returns an
`Explanation`, a value that pages and figures draw.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from torch import Tensor, nn

from crp.arguments import layer_names, whole_number
from crp.attribution import INPUT, OUTPUT, RelevanceFlow
from crp.attribution.named_starts import Target
from crp.attribution.removal import follows_output
from crp.attribution.start_places import place_of
from crp.attribution.starts import Difference, Start
from crp.concepts import ChannelConcept, Kinds
from crp.errors import InputError
from crp.explanations.concept_map import ConceptMap
from crp.explanations.effects import MeasuredEffects
from crp.explanations.explained import Explained, best_classes, explained_of, probabilities_of, same
from crp.explanations.explanation import ConceptPart, Explanation, LayerExplanation
from crp.explanations.illustration import illustrated
from crp.explanations.map_computation import concept_maps_in
from crp.explanations.ranked_layers import RankedLayer, ranked_layer
from crp.graphs.composition import apart, graph_in
from crp.graphs.concept_graph import REST, Key
from crp.graphs.finiteness import check_finite
from crp.library.fingerprints import value_fingerprint
from crp.library.profiles import class_shares
from crp.library.store import check_library
from crp.media.any_preprocessing import read_input
from crp.media.medium import Medium
from crp.models import PreparedModel, ready_model
from crp.places import Place
from crp.preprocessing import Preprocessing, shown_input
from crp.values import ClassScore, StartScore

if TYPE_CHECKING:
    from zennit.core import Composite

    from crp.library import Library

logger = logging.getLogger(__name__)

_CHANNELS = ChannelConcept()

# Names and spatial axes of inputs `[c, *S]`, by their number of axes.
_INPUTS = {2: ("signal", "T"), 3: ("image", "H, W"), 4: ("volume", "D, H, W")}
# Coverage and breadth of an explanation's graph: as much as fits into the width of a page.
_GRAPH_COVERAGE, _GRAPH_BREADTH = 0.9, 8
# At most so many modules are named that absorb relevance, each at least this part of what started.
_ABSORBERS, _ABSORBED = 3, 0.01
# Classes named as users of a concept.
_USERS = 5
# Of numbers that start wherever the caller says.
_NO_EFFECTS = "The start is given as fixed numbers, which do not change without a concept: no effects are measured."


def explain(
    model: nn.Module | PreparedModel,
    image: Tensor | np.ndarray | Image.Image | str | os.PathLike[str],
    library: Library,
    *,
    layers: Sequence[str] | None = None,
    target: Target | None = None,
    against: Target | None = None,
    concepts: int = 6,
    patches: int = 8,
    cells: int | None = None,
    graph: bool = True,
    effects: bool = True,
    pairs: int = 8,
    composite: Composite | str | None = None,
    concept: Kinds = _CHANNELS,
    place: Place | np.ndarray | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Explanation:
    """Explain one prediction by the concepts of some layers.

    Parameters
    ----------
    model
        The model that was mined. To explain many pictures, prepare it once with `crp.prepared`.
    image
        Model input `[c, *S]` or `[1, c, *S]`; or a picture (PIL, uint8 array `[H, W, 3]`), the values of a signal or
        volume (an array `[c, *S]`), or the path of a file, which the library's preprocessing turns into model input.
    library
        The library that was mined with this model.
    layers
        Some of the library's layers, in the order in which they are shown; by default all, from the output down.
    target
        What is explained: a class by index or name (by default the predicted one), an expression of classes such as
        "octagon - disc" or "octagon - others", or a start (`crp.attribution.starts`: a mask of a segmentation, a box
        of a detector, a similarity of embeddings, ...). A class of a segmentation is explained where it is predicted.
    against
        Another class or start: why `target` and not this one? It is explained too, and so is the difference of both
        (`Explanation.beside`).
    concepts
        Largest number of supporting concepts of each layer to show, and of opposing ones.
    patches
        Largest number of patches of each kind to show for a concept. Those that the library does not have yet are made
        now if it can (`crp.supply_patches`); otherwise the explanation says how many are missing.
    cells
        Cells of the concept map along its longest side, never more than the layer has positions; by default 16 for a
        signal, 8 for a picture and 6 for a volume.
    graph
        Whether to compute the attribution graph (`crp.compose`). If layers contain one another, it uses the inner ones.
    effects
        Whether to measure, for each concept with a card, the output without it.
    pairs
        With `effects`, the output is also measured without each pair of this many concepts of a layer, those with the
        largest shares. A page shows these measurements when its reader switches concepts off.
    composite
        The composite used for mining, if it was not the default; a prepared model has it already.
    concept
        The kind of concept that was mined, if it was not the channel; or by layer the kind of each.
    place
        Where the object is in the input, booleans `[*S]`, to measure how much relevance lies outside of it. By default
        the mask or box that is explained, if there is one.
    provenance
        More entries for `Explanation.provenance`.

    Returns
    -------
    Explanation

    Raises
    ------
    InputError
        If the image, a layer or the target does not fit.
    LibraryError
        If the library belongs to another model, composite or kind of concept.
    ModelError
        If output or relevance is not finite.

    Notes
    -----
    The concept map is the concept atlas of Achtibat et al. (2023), Fig. 3: each cell shows the concept, of all the
    layer's, with the largest positive relevance in it (`RelevanceFlow.regions`).
    """
    concepts, patches = whole_number("concepts", concepts, 1), whole_number("patches", patches, 0)
    cells = None if cells is None else whole_number("cells", cells, 1)
    pairs = whole_number("pairs", pairs, 0)
    check_library(library)
    place = Place(place) if isinstance(place, np.ndarray) else place
    layers = layer_names(layers or ())
    for layer in layers:
        library.shape(layer)
    data, medium = _model_input(image, library)
    model = ready_model(model, composite, data, library)
    model.check(library, concept)
    with RelevanceFlow(model.replica, None, data, layers or library.layers, layouts=library.layouts) as flow:
        layers = layers or list(reversed(flow.layers))
        first = explained_of(flow, library, target)
        second = None if against is None else explained_of(flow, library, against)
        if second is not None and same(flow, first.start, second.start):
            what = "start" if isinstance(first.score, StartScore) else "class"
            raise InputError(f"target and against are the same {what}, {first.score.name!r}.")
        every = [first] if second is None else [first, second]
        classes = best_classes(flow, library, every)
        shown = _Shown(library, concept, tuple(layers), concepts, cells, graph, pairs, _listed(classes, every))
        measured, unmeasured = None, ""
        if effects and all(follows_output(one.start, flow.prediction) for one in every):
            measured = MeasuredEffects(flow, library, layers, concept)
            unmeasured = measured.unmeasured
        elif effects:
            unmeasured = _NO_EFFECTS
        common = {
            "picture": shown_input(data[0], library.preprocessing),
            "classes": classes,
            "provenance": {**_provenance(library, model.rules, flow, every, unmeasured), **(provenance or {})},
            "medium": medium,
            "probabilities": probabilities_of(flow, library) if classes and classes[0].probability is not None else "",
        }

        def explained(one: Explained, other: Explained | None, **beside: Any) -> Explanation:
            start = one.start if other is None else Difference(one.start, other.start)
            return Explanation(
                target=one.score,
                against=None if other is None else other.score,
                **_explained(flow, shown, measured, start, one.score.index),
                place=place or place_of(start, flow.prediction, tuple(data.shape[2:])),
                **common,
                **beside,
            )

        if second is None:
            found = explained(first, None)
        else:
            found = explained(first, None, beside=(explained(second, None), explained(first, second)))
    return illustrated(found, library, patches)


@dataclass(frozen=True)
class _Shown:
    """What the caller of `explain` asked to be shown."""

    library: Library
    concept: Kinds
    layers: tuple[str, ...]
    concepts: int
    cells: int | None
    graph: bool
    pairs: int
    classes: tuple[int, ...]


def _explained(
    flow: RelevanceFlow, shown: _Shown, measured: MeasuredEffects | None, start: Start, root: int
) -> dict[str, Any]:
    """Explain one start; return fields of `Explanation` by name. `root` is the id of the graph's root."""
    started = flow.output_relevance(start)
    at_input, ledger = flow.down_with_ledger(started)
    departure = ledger.departure()
    arriving = flow.down(started, to=shown.layers)
    _check_arriving(flow, {INPUT: at_input, **arriving})
    heatmap = at_input[0, 0].sum(0)
    total = float(started.double().sum())
    maps = concept_maps_in(flow, shown.concept, {layer: arriving[layer][0] for layer in shown.layers}, shown.cells)
    ranked = [
        ranked_layer(flow, layer, shown.concept, arriving[layer][0], shown.concepts) for layer in shown.layers
    ]
    heatmaps = {(OUTPUT, root): _array(heatmap)}

    def drawn(nodes: Mapping[str, list[int]]) -> Mapping[Key, np.ndarray]:
        """Compute heatmaps of cards and of nodes of the graph together, which takes fewer passes."""
        for one in ranked:
            heatmaps.update(one.heatmaps(flow, [index for index in nodes.get(one.layer, ()) if index != REST]))
        return heatmaps

    graph = None
    if shown.graph:
        graph = graph_in(
            [flow],
            apart(shown.layers),
            root,
            start=start,
            library=shown.library,
            concept=shown.concept,
            coverage=_GRAPH_COVERAGE,
            breadth=_GRAPH_BREADTH,
            arriving={layer: relevance[0] for layer, relevance in arriving.items()},
            heatmaps=drawn,
        )
    else:
        drawn({})
    layers = [_explained_layer(flow, shown, one, total, start, measured, maps[one.layer], heatmaps) for one in ranked]
    return {
        "heatmap": _array(heatmap),
        "layers": tuple(layers),
        "absorbed": 1 - float(heatmap.double().sum()) / total if total else math.nan,
        "absorbers": ledger.absorbers(_ABSORBERS, _ABSORBED),
        "departure": departure and astuple(departure),
        "graph": graph,
    }


def _check_arriving(flow: RelevanceFlow, arriving: Mapping[str, Tensor]) -> None:
    """Refuse relevance that is not finite, and name the uppermost layer where it is not."""
    above = "at the output"
    for layer in (*reversed(flow.layers), INPUT):
        if layer in arriving:
            where = "at the input" if layer == INPUT else f"at layer {layer!r}"
            check_finite(arriving[layer], where, above)
            above = where


def _listed(classes: Sequence[ClassScore], explained: Sequence[Explained]) -> tuple[int, ...]:
    """List the classes that a page names: the best ones and those that are explained."""
    targets = [one.score for one in explained if isinstance(one.score, ClassScore)]
    return tuple(dict.fromkeys(score.index for score in [*classes, *targets]))


def _explained_layer(
    flow: RelevanceFlow,
    shown: _Shown,
    ranked: RankedLayer,
    started: float,
    start: Start,
    measured: MeasuredEffects | None,
    concept_map: ConceptMap | None,
    heatmaps: Mapping[Key, np.ndarray],
) -> LayerExplanation:
    library, layer, relevance, share, cards = shown.library, ranked.layer, ranked.relevance, ranked.share, ranked.cards
    parts, ablations, overlooked = {}, (None, None), {}
    if cards:
        library.concept_ids(layer, cards)
        statistics = library.statistics(layer)
        effects = [None] * len(cards)
        if measured is not None:
            strongest = sorted(cards, key=lambda index: -abs(share[index]))
            ablations = measured.ablations(layer, strongest, shown.pairs, start, shown.classes)
            effects = measured.of(layer, cards, start, started)  # measured with the pairs, in one batch
            if flow.first_order:
                overlooked = measured.overlooked(layer, ranked.parts, cards, start, started)
        for index, effect in zip(cards, effects, strict=True):
            parts[index] = ConceptPart(
                layer=layer,
                concept=index,
                relevance=float(relevance[index]),
                share=float(share[index]),
                heatmap=heatmaps[layer, index],
                classes=class_shares(statistics, index, library.class_names, _USERS),
                effect=effect,
            )
    outside = float(ranked.parts.rest(ranked.arriving.double()).sum())
    return LayerExplanation(
        layer=layer,
        size=len(relevance),
        supporting=tuple(parts[index] for index in ranked.supporting),
        opposing=tuple(parts[index] for index in ranked.opposing),
        rest=0.0 if not share.any() else max(0.0, 1 - math.fsum(abs(part.share) for part in parts.values())),
        coverage=(float(relevance.sum()) + outside) / started if started and not flow.first_order else math.nan,
        concept_map=concept_map,
        relevance=relevance.cpu().numpy(),
        outside=outside,
        first_order=flow.first_order,
        names=library.names[layer],
        naming=library.naming(layer),
        ablations=ablations[0],
        mean_ablations=ablations[1],
        overlooked=overlooked,
    )


def model_input(image: Any, library: Library) -> Tensor:
    """Return the model input `[1, c, *S]` of an image, as `explain` accepts it.

    Raises
    ------
    InputError
        If it has another shape, cannot be read, or the library does not say how pictures become model input.
    """
    return _model_input(image, library)[0]


def _model_input(image: Any, library: Library) -> tuple[Tensor, Medium | None]:
    """Return the model input `[1, c, *S]`, and what it is; None for a picture, and where that is not known."""
    known = library.preprocessing if isinstance(library.preprocessing, Medium) else None
    if isinstance(image, Tensor):
        # Libraries converted from other systems do not store the shape of their samples, which are images.
        axes = len(library.manifest["data"].get("shape") or "cHW")
        data = image if image.ndim == axes + 1 else image[None]
        if data.ndim != axes + 1 or len(data) != 1:
            kind, space = _INPUTS.get(axes, ("input", "*S"))
            raise InputError(f"One {kind} is a tensor [c, {space}] or [1, c, {space}], given {list(image.shape)}.")
        if isinstance(library.preprocessing, Preprocessing) and (said := library.preprocessing.out_of_range(data)):
            logger.warning("%s", said)
        return data, known
    if library.preprocessing is None:
        raise InputError(
            "The library does not know how pictures become model input: give a tensor, or mine with preprocessing=."
        )
    if isinstance(image, str | os.PathLike):
        data, medium = read_input(image, library.preprocessing)
        return data[None], medium
    if not isinstance(image, np.ndarray | Image.Image):
        raise InputError(f"An image is a tensor, a picture, an array or a file's name, given {type(image).__name__}.")
    return library.preprocessing.to_input(image)[None], known


def _provenance(
    library: Library,
    rules: Mapping[str, Any],
    flow: RelevanceFlow,
    explained: Sequence[Explained],
    unmeasured: str,
) -> dict[str, Any]:
    """Collect what is needed to trust an explanation and to repeat it."""
    manifest = library.manifest
    reason = " ".join(filter(None, [rules["reason"], *flow.pass_notes, unmeasured]))
    fingerprints = {"weights": manifest["model"]["weights"], "data": manifest["data"]["fingerprint"]}
    if starts := [one.start for one in explained if isinstance(one.score, StartScore)]:
        fingerprints["start"] = value_fingerprint(*starts)
    return {
        "versions": {name: version(name) for name in ("crp-atlas", "torch", "zennit", "numpy")},
        "fingerprints": fingerprints,
        "settings": {"composite": rules["name"], "reason": reason, **manifest["settings"]},
    }


def _array(values: Tensor) -> np.ndarray:
    return values.detach().float().cpu().numpy()
