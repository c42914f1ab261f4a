"""Which concepts of a class lie outside of its objects: the context that a model uses, over many objects.

The analysis of L-CRP (Dreyer et al. 2023, 'Revealing Hidden Context Bias in Segmentation and Object Detection through
Concept-specific Explanations'): the conditional heatmap of each concept is divided into what lies inside of the object
and what lies outside, and the part outside is averaged over the objects of a class.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor, nn

from crp.attribution import RelevanceFlow
from crp.attribution.found_objects import objects_in
from crp.attribution.start_places import place_of
from crp.attribution.starts import Box, Start
from crp.class_names import class_name
from crp.concepts import ChannelConcept, Kinds
from crp.errors import InputError
from crp.library.store import check_library
from crp.models import PreparedModel, ready_model
from crp.places import Place, context_use
from crp.relevance_shares import shares

if TYPE_CHECKING:
    from crp.library import Library

_CHANNELS = ChannelConcept()


@dataclass(frozen=True, eq=False)
class GivenObject:
    """One object of a picture.

    Attributes
    ----------
    data
        Model input of the picture, `[c, *S]`; the same tensor for all its objects, to compute it once.
    target
        The object's class.
    start
        What is explained of it.
    place
        Where it is, bool `[*S]`; by default the mask or box of the start.
    """

    data: Tensor
    target: int
    start: Start
    place: np.ndarray | None = None


@dataclass(frozen=True)
class ConceptContext:
    """How one class uses one concept, over many objects.

    Attributes
    ----------
    layer, concept
        The concept.
    target, class_name
        The class.
    objects
        Number of objects of the class for which it is among the strongest supporters.
    of
        Number of objects of the class.
    share
        Mean share of the layer over these `objects`.
    context
        Mean part of its positive relevance that lies outside of the object, 0..1.
    spread
        Standard deviation of that part over the objects; NaN for one object.
    """

    layer: str
    concept: int
    target: int
    class_name: str
    objects: int
    of: int
    share: float
    context: float
    spread: float


def concept_contexts(
    model: nn.Module | PreparedModel,
    objects: Iterable[GivenObject],
    library: Library,
    layers: Sequence[str] | None = None,
    *,
    concepts: int = 5,
    concept: Kinds = _CHANNELS,
) -> list[ConceptContext]:
    """Measure the use of context of the strongest supporting concepts of each class.

    Parameters
    ----------
    model
        The model that was mined.
    objects
        Objects, those of one picture after one another.
    library
        The library.
    layers
        Layers of the library; by default all.
    concepts
        Number of supporting concepts of each object and layer that are measured: each takes a backward pass.
    concept
        The kind of concept that was mined.

    Returns
    -------
    list of ConceptContext
        By class and layer; those that use most context first.

    Raises
    ------
    InputError
        If an object has no place.
    """
    measured = MeasuredContexts(model, library, layers, concepts=concepts, concept=concept)
    for _, own in groupby(objects, key=lambda each: id(each.data)):
        measured.add([*own])
    return measured.summary()


class MeasuredContexts:
    """What `concept_contexts` measures, picture by picture: one that fails leaves the others as they are.

    Parameters
    ----------
    model, library, layers, concepts, concept
        As in `concept_contexts`.
    """

    def __init__(
        self,
        model: nn.Module | PreparedModel,
        library: Library,
        layers: Sequence[str] | None = None,
        *,
        concepts: int = 5,
        concept: Kinds = _CHANNELS,
    ) -> None:
        check_library(library)
        self._model, self._library = ready_model(model, library=library), library
        self._model.check(library, concept)
        self._layers = tuple(layers or library.layers)
        for layer in self._layers:
            library.shape(layer)
        self._concepts, self._concept = concepts, concept
        self._found: dict[tuple[int, str, int], list[tuple[float, float]]] = defaultdict(list)
        self._counts: dict[int, int] = defaultdict(int)

    def add(self, objects: Sequence[GivenObject]) -> None:
        """Measure the objects of one picture, all or none.

        Raises
        ------
        InputError
            If an object has no place.
        ModelError
            If the picture cannot be explained.
        """
        if not objects:
            return
        data, layers = objects[0].data[None], self._layers
        with RelevanceFlow(self._model.replica, None, data, layers, layouts=self._library.layouts) as flow:
            rows = [[*_measured(flow, each, layers, self._concepts, self._concept)] for each in objects]
        for each, own in zip(objects, rows, strict=True):
            self._counts[each.target] += 1
            for layer, index, share, context in own:
                self._found[each.target, layer, index].append((share, context))

    def summary(self) -> list[ConceptContext]:
        """Return the concepts by class and layer, those that use most context first."""
        names = self._library.output_names
        rows = [
            _summary(layer, index, target, class_name(names, target), values, self._counts[target])
            for (target, layer, index), values in self._found.items()
        ]
        return sorted(
            rows, key=lambda each: (each.target, self._layers.index(each.layer), -each.context, each.concept)
        )


def found_in(model: nn.Module, pictures: Iterable[Tensor], class_names: Sequence[str] = ()) -> Iterator[GivenObject]:
    """Yield the objects that a model finds in pictures (`crp.attribution.found_objects`); none is no error.

    Parameters
    ----------
    model
        A segmentation, or what `box_logits` made of a detector.
    pictures
        Model inputs `[c, H, W]`.
    class_names
        Names of the classes.
    """
    for data in pictures:
        for each in objects_in(model, data[None], class_names):
            start = each.start
            if isinstance(start, Box):
                start = Box(each.row, start.target, start.label, start.box)
            yield GivenObject(data, each.target, start)


def _measured(
    flow: RelevanceFlow, each: GivenObject, layers: Sequence[str], concepts: int, concept: Kinds
) -> Iterator[tuple[str, int, float, float]]:
    """Yield layer, concept, share of the layer and use of context of the strongest supporters of an object."""
    space = tuple(each.data.shape[1:])
    place = Place(each.place) if each.place is not None else place_of(each.start, flow.prediction, space)
    if place is None:
        raise InputError(f"{each.start.name(())!r} has no place in the input: give the object's mask as place=.")
    started = flow.output_relevance(each.start)
    for layer, arriving in flow.down(started, to=list(layers)).items():
        parts = flow.parts(layer, concept)
        relevance = parts.total(arriving[0].double())[0]
        share = shares(relevance.cpu().numpy())
        best = [index for index in relevance.argsort(descending=True, stable=True).tolist() if relevance[index] > 0]
        if not best:
            continue
        chosen = best[:concepts]
        heatmaps = flow.down(parts.carried(arriving[0], chosen), start=layer)[:, 0].sum(1)
        for index, heatmap in zip(chosen, heatmaps, strict=True):
            use = context_use(heatmap.float().cpu().numpy(), place)
            if not math.isnan(use.context):
                yield layer, index, float(share[index]), use.context


def _summary(
    layer: str, index: int, target: int, name: str, values: list[tuple[float, float]], count: int
) -> ConceptContext:
    share, context = np.array(values).T
    spread = float(context.std(ddof=1)) if len(values) > 1 else math.nan
    return ConceptContext(
        layer, index, target, name, len(values), count, float(share.mean()), float(context.mean()), spread
    )
