"""What an open flow does besides relevance: it runs the model again with concepts removed from a layer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from crp.attribution.removal import Removal
from crp.attribution.replica import Replica
from crp.attribution.upper_part import UpperPart
from crp.concepts import ChannelConcept, Kinds, Layout, Parts, kind_at, others_of, parts_of
from crp.errors import InputError, ModelError, shortened
from crp.values import ConceptMeans

_CHANNELS = ChannelConcept()
# Largest difference, relative to the largest value, of a layer's output in the copy that is explained and in the model:
# rounding, and the eps that zennit's merging of batch norms leaves out.
_SAME, _SAME_BFLOAT16 = 1e-3, 0.1


class Interventions(ABC):
    """The interventions of a `RelevanceFlow`. They run the caller's model without rules, from a layer upwards."""

    replica: Replica
    _input: Tensor
    _uppers: dict[str, UpperPart | ModelError]

    @abstractmethod
    def activation(self, layer: str) -> Tensor:
        """See `RelevanceFlow.activation`."""

    @abstractmethod
    def layout(self, layer: str) -> Layout:
        """See `RelevanceFlow.layout`."""

    def without(
        self,
        layer: str,
        concepts: Sequence[Any],
        *,
        concept: Kinds = _CHANNELS,
        by: str | ConceptMeans | Tensor = "zero",
    ) -> Tensor:
        r"""Compute the model's output with concepts removed from a layer.

        The layer's output becomes :math:`a - \sum_j part_j(a) + \sum_j fill_j`. Only what lies above the layer is run
        again, for all conditions in a batch; what bypasses the layer, and what belongs to no concept, stay as they are.

        Parameters
        ----------
        layer
            A layer's name.
        concepts
            For each of `K` conditions, what is removed: ids, weights by id, or `all_but(ids)`. So `[3, 7]` are two
            conditions, and `[[3, 7]]` is one.
        concept
            The kind of concept.
        by
            What takes the place of the parts: `"zero"`; their means over a data set, from `Library.means`; or other
            samples, `[N, c, *S]` or `[1, c, *S]`, whose parts each sample takes.

        Returns
        -------
        Tensor
            `[K, N, ...]`, before a final softmax, log-softmax or sigmoid.

        Raises
        ------
        InputError
            If the layer has no such concept, or the means or samples do not fit.
        ModelError
            If the model cannot be run from the layer upwards (`removal`).

        Examples
        --------
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False), torch.nn.Linear(2, 1, bias=False))
        >>> for part in model:
        ...     _ = torch.nn.init.ones_(part.weight)
        >>> from crp.attribution import RelevanceFlow
        >>> with RelevanceFlow(model, None, torch.tensor([[1.0, 2.0]]), ["0"]) as flow:     # units 3 and 3, output 6
        ...     flow.without("0", [0, [0, 1]]).tolist(), flow.only("0", [{0: 0.5}]).tolist()
        ([[[3.0]], [[0.0]]], [[[1.5]]])
        """
        return self._removal(layer, concept, by).predictions(concepts)

    def only(
        self,
        layer: str,
        concepts: Sequence[Any],
        *,
        concept: Kinds = _CHANNELS,
        by: str | ConceptMeans | Tensor = "zero",
    ) -> Tensor:
        """Compute the model's output with all but some concepts removed from a layer.

        What belongs to no concept stays. A concept with weight `w` is removed with weight `1 - w`. Arguments, result
        and errors are those of `without`.
        """
        removal = self._removal(layer, concept, by)
        parts = removal.parts
        return removal.predictions([others_of(chosen, parts.size, parts.where) for chosen in concepts])

    def follow_upper_parts(self, layers: Collection[str]) -> None:
        """Prepare the removal of concepts from several layers in one forward pass, instead of one for each layer."""
        missing = {layer: self.own_name(layer) for layer in layers if layer not in self._uppers}
        if missing:
            found, refused = UpperPart.of_layers(self.replica.source, self._input, set(missing.values()))
            self._uppers |= {layer: found.get(own) or refused[own] for layer, own in missing.items()}

    def removal(self, layer: str, concept: Kinds = _CHANNELS) -> Removal:
        """Prepare the removal of concepts from a layer, for the samples of this flow.

        Raises
        ------
        ModelError
            If the part of the model above the layer cannot be run alone, or if canonizers of the composite changed the
            layer's output: relevance is of other values than the model's own.
        """
        self.follow_upper_parts([layer])
        upper = self._uppers[layer]
        if isinstance(upper, ModelError):
            raise upper
        self._check_own(layer, upper.activation)
        held = self.activation(layer)
        if torch.equal(upper.activation, held):
            upper.activation = held  # of a volume, the second copy is much memory
        return Removal(upper, parts_of(kind_at(layer, concept), upper.activation, self.layout(layer), layer))

    def removal_below(self, end: str, layer: str, concept: Kinds = _CHANNELS) -> Removal:
        """Prepare the removal of concepts from a layer, with the output of a layer above it in place of the model's.

        Raises
        ------
        ModelError
            As `removal`; and if `end` does not lie above the layer.
        """
        upper = UpperPart(self.replica.source, self._input, self.own_name(layer), self.own_name(end))
        self._check_own(layer, upper.activation)
        self._check_own(end, upper.prediction)
        return Removal(upper, parts_of(kind_at(layer, concept), upper.activation, self.layout(layer), layer))

    def _check_own(self, layer: str, own: Tensor) -> None:
        """Refuse a layer whose output is not the model's own."""
        held = self.activation(layer)
        allowed = _SAME_BFLOAT16 if held.dtype == torch.bfloat16 else _SAME
        if float((own - held).abs().max()) > allowed * max(float(held.abs().max()), 1e-6):
            raise ModelError(
                f"The canonizers of the composite change the output of layer '{layer}', so its concepts cannot be "
                "removed from the model itself: name the layer after it."
            )

    def _removal(self, layer: str, concept: Kinds, by: object) -> Removal:
        removal = self.removal(layer, concept)
        if isinstance(by, ConceptMeans):
            return removal.filled_with(by)
        if isinstance(by, Tensor):
            return removal.filled_with(self._parts_of_others(removal, layer, by))
        if by != "zero":
            raise InputError(
                "What replaces a concept (by=) must be 'zero', means over a data set (library.means(layer)), or a "
                f"tensor of samples, given {shortened(by)}."
            )
        return removal

    def _parts_of_others(self, removal: Removal, layer: str, samples: Tensor) -> Parts:
        if samples.shape[1:] != self._input.shape[1:]:
            raise InputError(
                f"The samples that replace a concept (by=) must be [N, {', '.join(map(str, self._input.shape[1:]))}], "
                f"like those of the flow, given {list(samples.shape)}."
            )
        upper = UpperPart(self.replica.source, samples, self.own_name(layer))
        return parts_of(removal.parts.kind, upper.activation, removal.parts.layout, layer)

    def own_name(self, layer: str) -> str:
        """Return the layer of the caller's model whose output a layer's concepts divide.

        It is the batch norm that was merged into the layer, if one was, and otherwise the layer itself.
        """
        # the copy's output of a layer that a batch norm was merged into is the batch norm's
        return dict(self.replica.merges).get(layer, layer)
