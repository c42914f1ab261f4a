"""Kinds of concept named by a string, as on the command line."""

from __future__ import annotations

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
