"""What the model answers without single concepts and pairs of them: `MeasuredEffects`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from crp.attribution import RelevanceFlow
from crp.attribution.final_activation import class_probabilities
from crp.attribution.removal import Removal, explained_value
from crp.attribution.starts import Logit, Start
from crp.class_names import class_name
from crp.concepts import Kinds
from crp.concepts.parts import Parts
from crp.errors import ModelError
from crp.explanations.ablations import Ablations
from crp.explanations.explained import probabilities_of
from crp.values import ConceptEffect

if TYPE_CHECKING:
    from crp.library import Library

# Of the concepts of a layer that are not shown, so many most active ones are removed, too.
_ACTIVE = 4


class MeasuredEffects:
    """The model's output without some concepts, for the one sample of a flow.

    A concept is removed in two ways: its part becomes zero, or its mean over the mined data set. Both are measured in
    one batch of the part of the model above the layer, once for all starts that are explained.

    Parameters
    ----------
    flow
        An open flow with one sample.
    library
        Holds the means.
    layers
        Names of the layers.
    concept
        The kind of concept.

    Attributes
    ----------
    unmeasured
        Why there are no effects, or none at means, in some layers, as sentences; empty if all are measured.
    """

    def __init__(self, flow: RelevanceFlow, library: Library, layers: Sequence[str], concept: Kinds) -> None:
        self._names, self._independent = library.output_names, probabilities_of(flow, library) == "sigmoid"
        self._ways: dict[str, list[Removal]] = {}
        self._predictions: dict[tuple[str, tuple[int, ...]], list[Tensor]] = {}
        problems = {}  # in order, each once
        flow.follow_upper_parts(layers)
        for layer in layers:
            try:
                removal = flow.removal(layer, concept)
            except ModelError as error:
                problems[str(error)] = None
                continue
            self._ways[layer] = [removal]
            if library.mean_sizes.get(layer):
                self._ways[layer].append(removal.filled_with(library.means(layer)))
            elif library.mean_sizes:
                problems[f"Layer '{layer}' has too many means to store: its concepts are only set to zero."] = None
            else:
                problems["The library holds no means of concepts: concepts are only set to zero."] = None
        self.unmeasured = " ".join(problems)

    def of(self, layer: str, concepts: Sequence[int], start: Start, before: float) -> list[ConceptEffect | None]:
        """Return the effect of each concept on what is explained, which is `before` with all concepts."""
        if layer not in self._ways:
            return [None] * len(concepts)
        self._measure(layer, [(index,) for index in concepts])
        found = []
        for index in concepts:
            numbers = []
            for prediction in self._predictions[layer, (index,)]:
                has_probability = isinstance(start, Logit) and prediction.shape[1] > 1
                probability = None
                if has_probability:
                    probability = float(class_probabilities(prediction[0], self._independent)[start.target])
                numbers += [float(explained_value(start, prediction)), probability]
            found.append(ConceptEffect(before, *numbers))
        return found

    def overlooked(
        self, layer: str, parts: Parts, shown: Sequence[int], start: Start, before: float
    ) -> dict[int, ConceptEffect]:
        """Find concepts that are not shown and change what is explained by more than any that is shown.

        Relevance that is a first-order effect misses a concept that holds most of what a norm divides by: the output
        hardly depends on how strong it is, and very much on whether it is there. Such concepts are among the most
        active ones, and a few of these are removed.

        Parameters
        ----------
        layer, parts
            A layer and the parts of its output.
        shown
            The concepts that are shown.
        start, before
            As for `of`.

        Returns
        -------
        dict
            Their effects, the largest first.
        """
        located = parts.activation()
        size = torch.maximum(located.peak()[0].abs(), located.trough()[0].abs())[0].double()
        size[list(shown)] = 0
        active = [index for index in size.argsort(descending=True, stable=True)[:_ACTIVE].tolist() if size[index] > 0]
        effects = self.of(layer, [*shown, *active], start, before)
        if not effects or effects[0] is None:
            return {}
        most = max((abs(effect.fall) for effect in effects[: len(shown)]), default=0.0)
        found = dict(zip(active, effects[len(shown) :], strict=True))
        ranked = sorted(found.items(), key=lambda item: -abs(item[1].fall))
        return {index: effect for index, effect in ranked if abs(effect.fall) > most}

    def ablations(
        self, layer: str, concepts: Sequence[int], pairs: int, start: Start, classes: Sequence[int]
    ) -> tuple[Ablations | None, Ablations | None]:
        """Return the outputs without each of some concepts, and without each pair of some of them.

        Parameters
        ----------
        layer, concepts
            Concepts of a layer.
        pairs
            The first so many are removed in pairs, too.
        start
            What is explained.
        classes
            The classes that are listed in any case; none if the output does not hold logits of classes.

        Returns
        -------
        tuple
            With the concepts as zero, and at their means; None for what cannot be measured.
        """
        ways = self._ways.get(layer, ())
        removed = [(index,) for index in concepts] + [tuple(sorted(pair)) for pair in combinations(concepts[:pairs], 2)]
        if ways:
            self._measure(layer, removed)
        found = [self._answers(layer, removed, place, start, classes) for place in range(len(ways))]
        return (*found, None, None)[:2]

    def _answers(
        self, layer: str, removed: Sequence[tuple[int, ...]], way: int, start: Start, classes: Sequence[int]
    ) -> Ablations:
        whole = self._ways[layer][way].upper.prediction.double()
        outputs = torch.stack([whole, *(self._predictions[layer, row][way] for row in removed)])
        values = torch.stack([explained_value(start, output)[0] for output in outputs])
        listed = list(classes)
        logits = others = outputs.new_zeros(len(outputs), 0)
        if listed:
            logits = outputs[:, 0]
            listed = list(dict.fromkeys([*listed, *logits.argmax(1).tolist()]))
            others = logits.clone()
            others[:, listed] = -torch.inf
            logits = logits[:, listed]
        count = outputs.shape[-1]
        return Ablations(
            removed=[(), *removed],
            values=values.cpu().numpy(),
            classes=[(index, class_name(self._names, index, count)) for index in listed],
            logits=logits.cpu().numpy(),
            others=others.logsumexp(1).cpu().numpy(),
            independent=self._independent,
        )

    def _measure(self, layer: str, removed: Sequence[tuple[int, ...]]) -> None:
        missing = [row for row in removed if (layer, row) not in self._predictions]
        if missing:
            ways = self._ways[layer]
            for some in ways[0].split(missing):
                replaced = torch.cat([way.replaced([list(row) for row in some]) for way in ways])
                sums = [pair for way in range(len(ways)) for pair in _sums(some, way * len(some))]
                outputs = ways[0].upper.outputs(replaced, sums).double().unflatten(0, (len(ways), -1))
                for place, row in enumerate(some):
                    self._predictions[layer, row] = list(outputs[:, place])


def _sums(removed: Sequence[tuple[int, ...]], first: int) -> list[tuple[int, int] | None]:
    """Find, for each pair of concepts, the conditions that remove one of them; None for all else, and without these.

    `first` is the number of the first of the conditions.
    """
    places = {row[0]: first + place for place, row in enumerate(removed) if len(row) == 1}
    return [
        (places[row[0]], places[row[1]]) if len(row) == 2 and places.keys() >= set(row) else None for row in removed
    ]
