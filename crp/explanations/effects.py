"""What the model answers without single concepts: `MeasuredEffects`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from crp.attribution import RelevanceFlow
from crp.attribution.removal import Removal, explained_value
from crp.attribution.starts import Logit, Start
from crp.concepts import Kinds
from crp.errors import ModelError
from crp.values import ConceptEffect

if TYPE_CHECKING:
    from crp.library import Library


class MeasuredEffects:
    """The model's output without each of some concepts, for the one sample of a flow.

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
        self._ways: dict[str, list[Removal]] = {}
        self._predictions: dict[tuple[str, int], list[Tensor]] = {}
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
                problems[f"Layer '{layer}' has too many means to keep: its concepts are removed as zero alone."] = None
            else:
                problems["The library holds no means of concepts: concepts are removed as zero alone."] = None
        self.unmeasured = " ".join(problems)

    def of(self, layer: str, concepts: Sequence[int], start: Start, before: float) -> list[ConceptEffect | None]:
        """Return the effect of each concept on what is explained, which is `before` with all concepts."""
        if layer not in self._ways:
            return [None] * len(concepts)
        self._measure(layer, [index for index in concepts if (layer, index) not in self._predictions])
        found = []
        for index in concepts:
            numbers = []
            for prediction in self._predictions[layer, index]:
                has_probability = isinstance(start, Logit) and prediction.shape[1] > 1
                probability = float(prediction[0].softmax(0)[start.target]) if has_probability else None
                numbers += [float(explained_value(start, prediction)), probability]
            found.append(ConceptEffect(before, *numbers))
        return found

    def _measure(self, layer: str, concepts: Sequence[int]) -> None:
        if concepts:
            ways = self._ways[layer]
            replaced = torch.cat([way.replaced([[index] for index in concepts]) for way in ways])
            outputs = ways[0].upper.outputs(replaced).double().unflatten(0, (len(ways), -1))
            for place, index in enumerate(concepts):
                self._predictions[layer, index] = list(outputs[:, place])
