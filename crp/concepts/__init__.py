"""Kinds of concept. A concept is a part of a layer's output.

================  =========================================================================================
`ConceptKind`     base class of all kinds: divides a layer's output into parts and a rest
`ChannelConcept`  the default: one channel of a convolution, or one unit of a linear layer
`PositionConcept` one position with all its channels; `TokenConcept` one token of a transformer
`HeadConcept`     one attention head, at the input of the attention's output projection
`Directions`      vectors of channels: concept activation vectors, factors of NMF, latents of an autoencoder, with the
                  encoders `LeastSquares`, `NonNegative` and `SparseAutoencoder`
`Groups`          weighted sums of concepts of any kind
`Layout`          what the axes of a layer's output mean
`Parts`           a kind told the layout and the activation: relevance, conditions, positions
`MeanParts`       the mean part of each concept over a data set
`parts_of`        makes `Parts` for any kind, also for the classes of zennit-crp
`all_but`         for conditions: all concepts of a layer except some
`concept_names`   the names that a kind gives the concepts of a layer
================  =========================================================================================

To add a kind of concept, write a subclass of `ConceptKind` in a new file in this folder.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from crp.compat import OLD_NAMES, import_zennit_safely, old_names
from crp.errors import InputError, nearest
from crp.layout import Layout

from .by_methods import MaskedParts, MaskingMethods
from .channel import ChannelConcept
from .directions import Directions
from .encoders import LeastSquares, NonNegative, SparseAutoencoder
from .groups import Groups
from .heads import HeadConcept
from .parts import Located, MeanParts, Parts
from .positions import PositionConcept, TokenConcept
from .protocol import ConceptKind
from .selection import all_but, others_of, weights_of

import_zennit_safely()  # code written for zennit-crp may import this module first, and then torchvision

__all__ = [
    "AnyKind",
    "ChannelConcept",
    "ConceptKind",
    "Directions",
    "Groups",
    "HeadConcept",
    "Kinds",
    "Layout",
    "LeastSquares",
    "Located",
    "MaskingMethods",
    "MeanParts",
    "NonNegative",
    "Parts",
    "PositionConcept",
    "SparseAutoencoder",
    "TokenConcept",
    "all_but",
    "concept_count",
    "concept_names",
    "kind_at",
    "mean_count",
    "others_of",
    "parts_of",
    "weights_of",
    *OLD_NAMES[__name__],
]

__getattr__ = old_names(__name__)


# A kind of concept, also one with the methods of zennit-crp's.
AnyKind = ConceptKind | MaskingMethods
# One kind for all layers, or one for each layer.
Kinds = AnyKind | Mapping[str, AnyKind]


def kind_at(layer: str, concept: Kinds) -> AnyKind:
    """Return the kind of concept of a layer: `concept` itself, or its entry.

    Raises
    ------
    InputError
        If `concept` is a mapping without the layer.
    """
    if not isinstance(concept, Mapping):
        return concept
    if layer not in concept:
        raise InputError(f"No kind of concept is given for layer '{layer}': {nearest(layer, [*concept])}")
    return concept[layer]


def parts_of(kind: AnyKind, activation: Tensor, layout: Layout, layer: str = "") -> Parts:
    """Tell a kind of concept the layout and the activation of a layer.

    Parameters
    ----------
    kind
        A `ConceptKind`, or an object with `MaskingMethods`, as the classes of zennit-crp. These see tensors as the
        layer gives them.
    activation
        Output of the layer, `[N, *shape]`.
    layout
        What its axes mean.
    layer
        Its name, for messages.
    """
    if isinstance(kind, ChannelConcept):
        return MaskedParts(kind, activation, layout, layer)
    if isinstance(kind, ConceptKind):
        return Parts(kind, activation, layout, layer)
    return MaskedParts(kind, activation, Layout(layout.shape), layer)


def mean_count(kind: AnyKind, layout: Layout) -> int:
    """Return of how many numbers the mean parts of a layer are made (`crp.values.ConceptMeans`)."""
    return parts_of(kind, torch.zeros(1, *layout.shape), layout).averages().shape[1]


def concept_count(kind: AnyKind, layout: Layout) -> int:
    """Return the number of concepts in a layer."""
    return kind.size(layout if isinstance(kind, ConceptKind) else layout.shape)


def concept_names(kind: AnyKind, layout: Layout) -> tuple[str, ...]:
    """Return the name of every concept of a layer, empty strings for those without; `()` if none has a name."""
    if not isinstance(kind, ConceptKind):
        return ()
    names = tuple(_encodable(kind.name(concept, layout)) for concept in range(kind.size(layout)))
    return names if any(names) else ()


def _encodable(name: str) -> str:
    """Replace what no file can hold (lone surrogates)."""
    return str(name).encode("utf-8", "replace").decode()
