"""The part of a library that is about the names of its concepts: those of their kind, and those that people gave."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from crp.errors import InputError, nearest

from .concept_fingerprint import LayerIdentity
from .given_names import Conflict, GivenName, Key, LayerNaming, changed, merged, today
from .names_file import FILE, locked_names, read_names, write_names

logger = logging.getLogger(__name__)

# Refused names that the sentence about them lists.
_LISTED = 5


@dataclass(frozen=True)
class MergedNames:
    """What merging names did.

    Attributes
    ----------
    changes
        How many concepts of the library have another name, note, tags or verdict than before.
    conflicts
        Concepts about which both said different things.
    refused
        Why names were not taken, by concept.
    """

    changes: int
    conflicts: tuple[Conflict, ...]
    refused: Mapping[str, str]


class LibraryNames:
    """What a library does with names; the rest of it is `crp.library.Library`.

    Attributes
    ----------
    kind_names
        By layer, the names that the kind of concept gives; `()` if it names none.
    """

    path: Path
    manifest: dict[str, Any]
    layers: tuple[str, ...]
    kind_names: dict[str, tuple[str, ...]]

    def __init__(self) -> None:
        self._identities: dict[str, LayerIdentity] = {}
        self._sorted: tuple[dict[Key, GivenName], dict[str, str]] | None = None
        self._names: dict[str, tuple[str, ...]] | None = None

    @property
    def names(self) -> dict[str, tuple[str, ...]]:
        """By layer, the name of every concept: a person's label, or what its kind calls it, or empty; `()` if no names.

        Raises
        ------
        LibraryError
            If the file of names is damaged.
        """
        if self._names is None:
            labels: dict[str, dict[int, str]] = {layer: {} for layer in self.layers}
            for (layer, concept), name in self.given_names().items():
                if name.label:
                    labels[layer][concept] = name.label
            self._names = {layer: self._with_labels(layer, labels[layer]) for layer in self.layers}
        return self._names

    def given_names(self) -> dict[Key, GivenName]:
        """Return what people said about concepts of this library, by (layer, concept).

        Names in the library's file that were given to another concept are not among them (`refused_names`); a warning
        says how many.

        Raises
        ------
        LibraryError
            If the file is damaged.
        """
        return {key: name for key, name in self._read()[0].items() if not name.empty}

    def refused_names(self) -> dict[str, str]:
        """Return why names in the library's file are not used, by concept such as "conv5/37"."""
        return dict(self._read()[1])

    def give_name(
        self,
        concept: str,
        label: str | None = None,
        *,
        note: str | None = None,
        tags: Sequence[str] | None = None,
        verdict: str | None = None,
        author: str = "",
    ) -> GivenName:
        """Say something about a concept, and store it in the library; what is None stays as it is.

        Parameters
        ----------
        concept
            Layer and id, such as `"conv5/37"`.
        label
            Its name, one line. An empty text removes the one that it has.
        note, tags, verdict, author
            As in `crp.library.GivenName`.

        Raises
        ------
        InputError
            If there is no such concept or verdict.
        LibraryError
            If the file cannot be read or written.
        """
        layer, index = self.concept_named(concept)
        with locked_names(self.path) as file:
            stored = read_names(file)
            own = stored.get((layer, index))
            if own is None or self._refusal(own):
                own = GivenName(layer, index)
            given = changed(own, label=label, note=note, tags=tags, verdict=verdict, author=author, date=today())
            given = replace(given, fingerprint=self.identity(layer).of(index))
            write_names(file, {**stored, given.key: given}.values())
        self._sorted = self._names = None
        return given

    def merge_names(self, names: Iterable[GivenName]) -> MergedNames:
        """Add names from elsewhere, such as a page's export (`crp.library.read_names`).

        Of two that were given to the same concept, the newer one is kept. Names of concepts that are not this library's
        are refused.

        Raises
        ------
        LibraryError
            If the file cannot be read or written.
        """
        fitting, refused = self._divided(names)
        with locked_names(self.path) as file:
            stored = read_names(file)
            ours = {key: name for key, name in stored.items() if not self._refusal(name)}
            found, conflicts = merged(ours, fitting.values())
            found = {
                key: replace(name, fingerprint=self.identity(key[0]).of(key[1])) for key, name in found.items()
            }
            changes = sum(ours.get(key) is None or ours[key].said != name.said for key, name in found.items())
            if found != ours:
                write_names(file, {**stored, **found}.values())
        self._sorted = self._names = None
        return MergedNames(changes, conflicts, refused)

    def identity(self, layer: str) -> LayerIdentity:
        """Return what tells the concepts of a layer from those of other layers and models."""
        if layer not in self._identities:
            self._identities[layer] = LayerIdentity(self, layer)
        return self._identities[layer]

    def naming(self, layer: str) -> LayerNaming:
        """Return how the concepts of a layer are named; errors as in `given_names`."""
        identity = self.identity(layer)
        given = tuple(name for name in self.given_names().values() if name.layer == layer)
        return LayerNaming(identity.identity, identity.kind, self.kind_names[layer], given)

    def concept_named(self, name: str) -> Key:
        """Read the layer and the id of a concept from "conv5/37".

        Raises
        ------
        InputError
            If the library has no such layer or concept.
        """
        layer, slash, index = name.rpartition("/")
        if not slash or not index.isdecimal():
            raise InputError(f"A concept is named LAYER/ID, such as '{self.layers[0]}/0', given {name!r}.")
        if layer not in self.layers:
            raise InputError(f"The library has no layer {layer!r}: {nearest(layer, self.layers)}")
        return layer, self.concept_id(layer, int(index))

    def _read(self) -> tuple[dict[Key, GivenName], dict[str, str]]:
        if self._sorted is None:
            self._sorted = self._divided(read_names(self.path / FILE).values())
            refused = self._sorted[1]
            if refused:
                total = len(refused) + len(self._sorted[0])
                logger.warning("%s", _refusal_sentence(self.path / FILE, refused, total))
        return self._sorted

    def _divided(self, names: Iterable[GivenName]) -> tuple[dict[Key, GivenName], dict[str, str]]:
        """Divide names into those of concepts of this library and reasons why others are not."""
        fitting, refused = {}, {}
        for name in names:
            if reason := self._refusal(name):
                refused[name.address] = reason
            else:
                fitting[name.key] = name
        return fitting, refused

    def _refusal(self, name: GivenName) -> str:
        if name.layer not in self.layers:
            return "the library does not hold its layer"
        if name.fingerprint is None:
            return "it has no fingerprint"
        if name.concept >= self.limits(name.layer).concepts:
            return "the layer has fewer concepts"
        return self.identity(name.layer).refusal(name.concept, name.fingerprint)

    def _with_labels(self, layer: str, labels: Mapping[int, str]) -> tuple[str, ...]:
        own = self.kind_names[layer]
        if not labels:
            return own
        own = own or ("",) * self.limits(layer).concepts
        return tuple(labels.get(concept, name) for concept, name in enumerate(own))

    # `Library` has these.

    def limits(self, layer: str) -> Any:
        """See `Library`."""
        raise NotImplementedError

    def concept_id(self, layer: str, concept: object) -> int:
        """See `Library`."""
        raise NotImplementedError


def _refusal_sentence(path: Path, refused: Mapping[str, str], total: int) -> str:
    """Say how many names do not belong to the concepts of a library, and why."""
    count = f"{len(refused)} of {total} names" if total > 1 else "The only name"
    verb = "were" if len(refused) > 1 else "was"
    told = [f"{address} ({reason})" for address, reason in refused.items()]
    more = f", and {len(told) - _LISTED} more" if len(told) > _LISTED else ""
    return f"{count} in '{path}' {verb} given to other concepts and not used: {', '.join(told[:_LISTED])}{more}."
