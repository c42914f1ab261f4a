"""What starts in the layer in the backward pass that makes a patch's heatmap."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Protocol

import torch
from torch import Tensor

from crp.attribution import RelevanceFlow
from crp.concepts import ChannelConcept, Kinds, kind_at

from .patch_requests import Explained, Request, known_sign


class Starts(Protocol):
    """What starts in the layer for some requests."""

    def at(self, layer: str, requests: Sequence[Request], samples: Sequence[int]) -> Tensor:
        """Return what starts for each request in its sample's row of the flow, `[M, *shape]`."""

    def factor(self, request: Request) -> float:
        """Return what the heatmap is multiplied by after the pass."""


class StartsByLayer:
    """What starts for requests in several layers, each by its kind of concept.

    Parameters
    ----------
    flow
        The forward pass of the samples.
    concept
        The kind of concept, or by layer the kind of each.
    explained
        Requests by sample and target; the samples are in the order of the flow.
    started
        Returns the relevance that starts at the output, `[1, N, ...]`.
    """

    def __init__(
        self, flow: RelevanceFlow, concept: Kinds, explained: Explained, started: Callable[[], Tensor]
    ) -> None:
        layers = {request.layer for own in explained.values() for request in own}
        channels = {layer for layer in layers if isinstance(kind_at(layer, concept), ChannelConcept)}
        self._starts: dict[str, Starts] = {}
        for starts, own in ((UnitStarts, channels), (PartStarts, layers - channels)):
            requests = {key: [one for one in all_of if one.layer in own] for key, all_of in explained.items()}
            self._starts |= dict.fromkeys(own, starts(flow, concept, requests, started))

    def at(self, layer: str, requests: Sequence[Request], samples: Sequence[int]) -> Tensor:
        """Return what starts; see `Starts`."""
        return self._starts[layer].at(layer, requests, samples)

    def factor(self, request: Request) -> float:
        """Return what the heatmap is multiplied by; see `Starts`."""
        return self._starts[request.layer].factor(request)


class UnitStarts:
    """For channels, whose position is a single unit of the layer: only the sign of its value matters.

    Heatmaps are stored relative to their largest value, and rules are linear. So a unit starts with 1, and a position
    that is a reference in several modes needs one backward pass. With rules that are not linear, it starts with its
    sign.
    """

    def __init__(
        self, flow: RelevanceFlow, concept: Kinds, explained: Explained, started: Callable[[], Tensor]
    ) -> None:
        self._flow, self._concept, self._linear = flow, concept, flow.linear
        self._signs = self._read_signs(explained, started)

    def at(self, layer: str, requests: Sequence[Request], samples: Sequence[int]) -> Tensor:
        """Return 1, or the sign, at the unit of each request."""
        parts, like = self._flow.parts(layer, self._concept), self._flow.activation(layer)
        values = [1.0 if self._linear else self._signs[one] for one in requests]
        ones = torch.tensor(values, dtype=self._flow.prediction.dtype, device=like.device)
        ones = ones.view(-1, *[1] * (like.ndim - 1)).expand(-1, *like.shape[1:])
        return parts.at_positions(ones, [one.concept for one in requests], [one.position for one in requests])

    def factor(self, request: Request) -> float:
        """Return the sign of the value from which the heatmap starts: 1, -1, or 0."""
        return self._signs[request] if self._linear else 1.0

    def _read_signs(self, explained: Explained, started: Callable[[], Tensor]) -> dict[Request, float]:
        signs, unknown = {}, defaultdict(list)
        for place, own in enumerate(explained.values()):
            for request in own:
                if (sign := known_sign(request)) is None:
                    unknown[request.mode, request.layer].append((place, request))
                else:
                    signs[request] = sign

        def read(mode: str, layer: str, values: Tensor) -> None:
            places, wanted = zip(*unknown[mode, layer], strict=True)
            flat = self._flow.layout(layer).split(values)
            found = flat[list(places), [one.concept for one in wanted], [one.position for one in wanted]]
            signs.update(zip(wanted, found.sign().tolist(), strict=True))

        for mode, layer in unknown:
            if mode == "activation":
                read(mode, layer, self._flow.activation(layer))
        if reached := [layer for mode, layer in unknown if mode == "relevance"]:
            self._flow.sweep(started(), reached, partial(read, "relevance"))
        return signs


class PartStarts:
    """For any other kind: the relevance of the concept at the position, or in mode `"activation"` its part there."""

    def __init__(
        self, flow: RelevanceFlow, concept: Kinds, explained: Explained, started: Callable[[], Tensor]
    ) -> None:
        self._flow, self._concept, self._started = flow, concept, started
        self._layers = {request.layer for own in explained.values() for request in own}

    def at(self, layer: str, requests: Sequence[Request], samples: Sequence[int]) -> Tensor:
        """Return relevance, or for requests by activation the part of the activation."""
        found = torch.zeros(len(requests), *self._flow.activation(layer).shape[1:], device=self._flow.device)
        found = found.to(self._flow.prediction.dtype)
        parts = self._flow.parts(layer, self._concept)
        for by_activation in (False, True):
            rows = [row for row, one in enumerate(requests) if (one.mode == "activation") is by_activation]
            if not rows:
                continue
            chosen = torch.tensor([samples[row] for row in rows], device=found.device)
            ids, positions = zip(*[(requests[row].concept, requests[row].position) for row in rows], strict=True)
            own = parts.of_samples(chosen)
            if by_activation:
                found[rows] = own.active_at(ids, positions)
            else:
                found[rows] = own.at_positions(self._arriving[layer][chosen], ids, positions)
        return found

    def factor(self, request: Request) -> float:
        """Return 1: what starts has its sign."""
        return 1.0

    @cached_property
    def _arriving(self) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        self._flow.sweep(self._started(), list(self._layers), found.__setitem__)
        return found
