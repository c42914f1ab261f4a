"""Kinds of concept named by a string, as on the command line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from crp.concepts import ChannelConcept, ConceptKind, HeadConcept, PositionConcept, TokenConcept
from crp.concepts.direction_files import load_directions
from crp.errors import InputError, nearest

_PLAIN = {"channels": ChannelConcept, "positions": PositionConcept, "tokens": TokenConcept}


def kind_named(name: str) -> ConceptKind:
    """Return a kind of concept.

    Parameters
    ----------
    name
        `"channels"`, `"positions"`, `"tokens"`, `"heads:12"` or `"directions:FILE"` (`load_directions`).

    Raises
    ------
    InputError
        If there is no such kind, or the file cannot be read.

    Examples
    --------
    >>> kind_named("heads:12")
    HeadConcept(heads=12)
    """
    kind, separator, value = name.partition(":")
    if kind in _PLAIN and not separator:
        return _PLAIN[kind]()
    if kind == "heads" and value.isdecimal() and int(value) > 0:
        return HeadConcept(int(value))
    if kind == "directions" and value:
        return load_directions(value)
    raise InputError(
        f"There is no kind of concept {name!r}: {nearest(name, [*_PLAIN, 'heads:12', 'directions:FILE'])}"
    )


def kinds_named(names: Sequence[str], layers: Iterable[str]) -> ConceptKind | dict[str, ConceptKind]:
    """Return the kind of concept of all layers, or of each.

    Parameters
    ----------
    names
        Kinds as `kind_named` reads them, each for one layer as `LAYER=KIND`. One without a layer is that of all others,
        which otherwise have channels.
    layers
        The layers.

    Raises
    ------
    InputError
        If there is no such kind or layer, or a layer gets two kinds.

    Examples
    --------
    >>> kinds_named(["b=tokens", "heads:2"], ["a", "b"])
    {'a': HeadConcept(heads=2), 'b': TokenConcept()}
    """
    layers = list(layers)
    own: dict[str, str] = {}
    for name in names:
        layer, kind = _split(name)
        if layer in own:
            raise InputError(f"Two kinds of concept are given for {f'layer {layer!r}' if layer else 'all layers'}.")
        if layer and layer not in layers:
            raise InputError(f"{name!r} names no layer: {nearest(layer, layers)}")
        own[layer] = kind
    others = kind_named(own.pop("", "channels"))
    return {layer: kind_named(own[layer]) if layer in own else others for layer in layers} if own else others


def layers_named(names: Iterable[str]) -> tuple[str, ...]:
    """List the layers that kinds are given for."""
    return tuple(layer for layer, _ in map(_split, names) if layer)


def _split(name: str) -> tuple[str, str]:
    """Separate `LAYER=KIND`; the layer is empty if there is none. The name of a file, after a colon, may hold a =."""
    head, colon, file = name.partition(":")
    layer, _, kind = head.rpartition("=")
    return layer, f"{kind}{colon}{file}"
