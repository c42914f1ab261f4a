"""The rows of the contract: kinds of concept, each with its parts written once more in the plainest way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from crp.concepts import (
    ChannelConcept,
    ConceptKind,
    Directions,
    Groups,
    HeadConcept,
    LeastSquares,
    NonNegative,
    PositionConcept,
    SparseAutoencoder,
    TokenConcept,
    all_but,
)
from tests.crp.concepts.kinds_by_methods import OldPairs, PairMethods
from tests.crp.concepts.small_nets import ChannelsLast, Convolutions, Transformer
from tests.crp.concepts.user_kind import Bands


@dataclass(frozen=True)
class Row:
    """A kind of concept at a layer.

    `part` returns the part of concept j of an activation `[N, *shape]`; `active` how active it is, `[N, P]`; `last`
    whether channels are on the last axis.
    """

    net: type[nn.Module]
    layer: str
    kind: ConceptKind
    count: int
    part: Callable[[Tensor, int], Tensor]
    active: Callable[[Tensor, int], Tensor]
    last: bool = True
    masks: bool = False

    def share(self, activation: Tensor, concept: int) -> Tensor:
        """Which fraction of the relevance of each unit belongs to the concept."""
        if self.masks:
            return self.part(torch.ones_like(activation), concept)
        return torch.where(activation == 0, 0, self.part(activation, concept) / activation)

    def positions(self, values: Tensor) -> Tensor:
        """`[N, *shape]` -> `[N, P, C]`."""
        return values.flatten(1, -2) if self.last else values.flatten(2).transpose(1, 2)


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).double()


ORTHONORMAL = torch.linalg.qr(random(5, 3))[0].T
POSITIVE = random(3, 5).abs()
DICTIONARY = random(9, 6)
AUTOENCODER = SparseAutoencoder(random(6, 9), random(9) / 4, random(6) / 4)
TOP = SparseAutoencoder(random(6, 9), random(9) / 4, random(6) / 4, k=2)


def kept(axis: int, index: int | slice) -> Callable[[Tensor, int], Tensor]:
    """Mask all but one place on an axis."""

    def part(values: Tensor, concept: int) -> Tensor:
        found = torch.zeros_like(values)
        place = index(concept) if callable(index) else concept
        found.movedim(axis, 0)[place] = values.movedim(axis, 0)[place]
        return found

    return part


def one_position(values: Tensor, concept: int) -> Tensor:
    found = torch.zeros_like(values)
    found.flatten(2)[:, :, concept] = values.flatten(2)[:, :, concept]
    return found


def lengths(part: Callable[[Tensor, int], Tensor], last: bool = True) -> Callable[[Tensor, int], Tensor]:
    def active(values: Tensor, concept: int) -> Tensor:
        own = part(values, concept)
        return (own.flatten(1, -2) if last else own.flatten(2).transpose(1, 2)).norm(dim=-1)

    return active


def along(directions: Tensor, coefficients: Callable[[Tensor], Tensor], last: bool = True) -> dict[str, Callable]:
    """Part and activation of directions, from a function of activations `[P, C]`."""

    def active(values: Tensor, concept: int) -> Tensor:
        rows = values.flatten(1, -2) if last else values.flatten(2).transpose(1, 2)
        return torch.stack([coefficients(sample)[:, concept] for sample in rows])

    def part(values: Tensor, concept: int) -> Tensor:
        found = active(values, concept)[..., None] * directions[concept]
        return found.view(values.shape) if last else found.transpose(1, 2).reshape(values.shape)

    return {"part": part, "active": active, "last": last}


def encoded(autoencoder: SparseAutoencoder) -> Callable[[Tensor], Tensor]:
    def coefficients(a: Tensor) -> Tensor:
        found = np.maximum(0, (a - autoencoder.shift).numpy() @ autoencoder.weight.numpy() + autoencoder.bias.numpy())
        if autoencoder.k is not None:
            found[found < np.sort(found, axis=1)[:, -autoencoder.k, None]] = 0
        return torch.from_numpy(found)

    return coefficients


def channels_first(values: Tensor, concept: int) -> Tensor:
    return values[:, concept].flatten(1)


def channels_last(values: Tensor, concept: int) -> Tensor:
    return values[..., concept].flatten(1)


def paired_values(values: Tensor, concept: int) -> Tensor:
    return values[:, 2 * concept : 2 * concept + 2].sum(1).flatten(1)


def frequencies(values: Tensor, band: int) -> Tensor:
    """Project a grid of 2 x 4 onto waves: `[N, 2, 4, C]`. Those with u / 2 + v / 4 of at least 1 are band 1."""
    found = torch.zeros_like(values)
    for u, v in [(1, 2), (1, 3)] if band else [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1)]:
        wave = torch.cos(torch.pi * u * (torch.arange(2).double() + 0.5) / 2)[:, None, None]
        wave = wave * torch.cos(torch.pi * v * (torch.arange(4).double() + 0.5) / 4)[:, None]
        found += wave * (values * wave).sum((1, 2), keepdim=True) / (wave**2).sum()
    return found


HEAD = kept(2, lambda head: slice(3 * head, 3 * head + 3))
GROUPED = {"pair": [0, 2], "weighted": {1: 1.0, 4: -0.5}, "others": all_but([0, 1])}
LATENT = along(DICTIONARY, encoded(TOP))
GROUPED_LATENTS = {0: {1: 1.0, 5: 1.0}, 1: {0: 0.5, 2: 1.0, 7: -1.0}}
PAIR = kept(1, lambda pair: slice(2 * pair, 2 * pair + 2))
WEIGHTS = {0: {0: 1, 2: 1}, 1: {1: 1.0, 4: -0.5}, 2: {2: 1, 3: 1, 4: 1}}

ROWS = {
    "channels first": Row(
        Convolutions, "high", ChannelConcept(), 5, kept(1, None), channels_first, last=False, masks=True
    ),
    "channels last": Row(ChannelsLast, "high", ChannelConcept(), 5, kept(3, None), channels_last, masks=True),
    "channels of tokens": Row(Transformer, "high", ChannelConcept(), 6, kept(2, None), channels_last, masks=True),
    "positions": Row(
        Convolutions, "high", PositionConcept(), 16, one_position, lengths(one_position, False), last=False, masks=True
    ),
    "tokens": Row(Transformer, "high", TokenConcept(), 5, kept(1, None), lengths(kept(1, None)), masks=True),
    "heads": Row(Transformer, "attention.proj..input", HeadConcept(2), 2, HEAD, lengths(HEAD), masks=True),
    "orthonormal directions": Row(
        Convolutions, "high", Directions(ORTHONORMAL), 3, **along(ORTHONORMAL, lambda a: a @ ORTHONORMAL.T, last=False)
    ),
    "overcomplete directions": Row(
        Transformer, "high", Directions(DICTIONARY, LeastSquares()), 9,
        **along(DICTIONARY, lambda a: torch.linalg.lstsq(DICTIONARY.T, a.T, driver="gelsd").solution.T),
    ),
    "factors of NMF": Row(
        Convolutions, "high", Directions(POSITIVE, NonNegative(steps=60)), 3,
        **along(POSITIVE, lambda a: NonNegative(steps=60)(a, POSITIVE), last=False),
    ),
    "latents": Row(
        Transformer, "high", Directions(DICTIONARY, AUTOENCODER), 9, **along(DICTIONARY, encoded(AUTOENCODER))
    ),
    "TopK latents": Row(Transformer, "high", Directions(DICTIONARY, TOP), 9, **along(DICTIONARY, encoded(TOP))),
    "groups of channels": Row(
        ChannelsLast, "high", Groups(ChannelConcept(), GROUPED), 3,
        lambda a, j: sum(weight * kept(3, None)(a, c) for c, weight in WEIGHTS[j].items()),
        lambda a, j: sum(weight * channels_last(a, c) for c, weight in WEIGHTS[j].items()),
        masks=True,
    ),
    "groups of latents": Row(
        Transformer, "high", Groups(Directions(DICTIONARY, TOP), {str(j): of for j, of in GROUPED_LATENTS.items()}), 2,
        lambda a, j: sum(weight * LATENT["part"](a, c) for c, weight in GROUPED_LATENTS[j].items()),
        lambda a, j: sum(weight * LATENT["active"](a, c) for c, weight in GROUPED_LATENTS[j].items()),
    ),
    "with five methods": Row(Convolutions, "high", PairMethods(), 3, PAIR, paired_values, last=False, masks=True),
    "of zennit-crp's style": Row(Convolutions, "high", OldPairs(), 3, PAIR, paired_values, last=False, masks=True),
    "of a user": Row(ChannelsLast, "high", Bands(2), 2, frequencies, lengths(frequencies)),
}  # fmt: skip
