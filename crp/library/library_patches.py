"""The part of a library that is about patches: reading them, and making those that are missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from crp.errors import InputError, nearest
from crp.sample_names import sample_name
from crp.values import Patch

from .patch_files import PatchFiles
from .patch_segments import PatchKey
from .patches import MODES, LayerPatches, check_patches, decoded
from .references import Limits, References


class PatchSupply(Protocol):
    """Makes patches of a library when they are needed."""

    def make(self, library: Any, wanted: Mapping[str, Sequence[PatchKey]]) -> None:
        """Make patches, by layer, and add them to the library."""


class LibraryPatches:
    """What a library does with patches; the rest of it is `crp.library.Library`.

    Attributes
    ----------
    supply
        Makes patches that are missing (`crp.supply_patches`); None if they stay missing.
    samples
        The mined data set, to name its samples (`sample_name(index)`); None if it is not at hand.
    """

    path: Path
    manifest: dict[str, Any]
    layers: tuple[str, ...]
    class_names: tuple[str, ...]

    def __init__(self) -> None:
        self.supply: PatchSupply | None = None
        self.samples: Any = None
        self._patch_files: dict[str, PatchFiles] = {}

    def patches(self, layer: str, concept: int, mode: str, *, count: int | None = None) -> tuple[Patch, ...]:
        """Read the patches of a concept, best first.

        Those that have not been made yet are made first, if the library can (`supply`); otherwise they are missing.
        With `count`, at most so many are read.

        Raises
        ------
        InputError
            If there is no such layer, concept or mode.
        LibraryError
            If the table is damaged.
        """
        check_mode(mode)
        concept = self.concept_id(layer, concept)
        return self.patches_of(layer, [(concept, mode)], count=count)[concept, mode]

    def patches_of(
        self, layer: str, wanted: Sequence[tuple[int, str]], *, count: int | None = None
    ) -> dict[tuple[int, str], tuple[Patch, ...]]:
        """Read the patches of several pairs of concept and mode of a layer; the rest is as in `patches`."""
        files = self.patch_files(layer)
        if self.supply is not None:
            keys = [key for concept, mode in wanted for key in files.keys([concept], [mode], count)]
            self.make_patches({layer: keys})
        stored = self.stored_patches(layer, {concept for concept, _ in wanted})
        names = self.class_names or (("output",) if self.manifest["classes"] == 1 else ())
        return {
            (concept, mode): tuple(
                decoded(files.table, patch, self.space(layer), names, self.sample_name(patch.sample))
                for patch in stored.get(concept, {}).get(mode, ())[:count]
            )
            for concept, mode in wanted
        }

    def sample_name(self, index: int) -> str:
        """Return the name of a sample in the mined data set (`samples`); empty if it is not known."""
        if self.samples is None or len(self.samples) < (self.manifest["data"].get("length") or 0):
            return ""
        return sample_name(self.samples, index)

    def stored_patches(self, layer: str, concepts: Iterable[int] | None = None) -> LayerPatches:
        """Read encoded patches of some concepts (by default of all that have any); errors as in `patches`."""
        files = self.patch_files(layer)
        stored = files.read(concepts)
        check_patches(files.table, stored, self.limits(layer))
        return stored

    def patch_files(self, layer: str) -> PatchFiles:
        """Return the patches of a layer on disk: which have been made, and which are missing."""
        self.shape(layer)
        if layer not in self._patch_files:
            tables = self.file(layer, "patches").parent
            read = partial(self.references, layer)
            self._patch_files[layer] = PatchFiles(tables, read, self.manifest["settings"]["patches"])
        return self._patch_files[layer]

    def make_patches(self, wanted: Mapping[str, Iterable[PatchKey]]) -> None:
        """Make those of some patches, by layer, that have not been made yet; nothing without a `supply`."""
        if self.supply is not None:
            missing = {layer: self.patch_files(layer).missing(keys) for layer, keys in wanted.items()}
            if any(missing.values()):
                self.supply.make(self, {layer: keys for layer, keys in missing.items() if keys})

    def with_patches(self, layer: str) -> list[int]:
        """List the concepts of a layer all of whose patches have been made, in ascending order."""
        return self.patch_files(layer).whole()

    def patch_counts(self) -> tuple[int, int]:
        """Count the patches that have been made, and those of a library that has all of them."""
        files = [self.patch_files(layer) for layer in self.layers]
        return sum(int(one.made().sum()) for one in files), sum(int(one.expected.sum()) for one in files)

    # `Library` has these.

    def shape(self, layer: str) -> tuple[int, ...]:
        """See `Library`."""
        raise NotImplementedError

    def space(self, layer: str) -> tuple[int, ...]:
        """See `Library`."""
        raise NotImplementedError

    def file(self, layer: str, table: str) -> Path:
        """See `Library`."""
        raise NotImplementedError

    def references(self, layer: str, mode: str) -> References:
        """See `Library`."""
        raise NotImplementedError

    def limits(self, layer: str) -> Limits:
        """See `Library`."""
        raise NotImplementedError

    def concept_id(self, layer: str, concept: object) -> int:
        """See `Library`."""
        raise NotImplementedError


def check_mode(mode: str) -> None:
    """Refuse a mode that does not exist.

    Raises
    ------
    InputError
    """
    if mode not in MODES:
        raise InputError(f"There is no mode {mode!r}: {nearest(str(mode), MODES)}")
