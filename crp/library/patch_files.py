"""The patches of one layer on disk: which of them have been made, reading them, and adding others."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import numpy as np

from crp.errors import LibraryError

from .patch_segments import FOLDER, PatchKey, read_segment, segment_files, segment_keys, write_segment
from .patches import MODES, LayerPatches, StoredPatch, encoded, read_patches, stored_concepts
from .references import References
from .tables import damaged

logger = logging.getLogger(__name__)

# If a layer has more segments, they are joined to one.
MOST = 16

# The row of each patch, by the segment that holds it.
Segments = Mapping[Path, Mapping[PatchKey, int]]


class PatchFiles:
    """The patches of one layer.

    The table `patches.safetensors` holds concepts with all of their patches. Others lie in segments, until the layer
    has all of its patches. Other processes may add segments and complete the layer at any time.

    Parameters
    ----------
    tables
        Folder of the layer's tables.
    read
        Returns the references of a mode.
    count
        Number of patches of each concept and mode, if it has as many references.
    """

    def __init__(self, tables: Path, read: Callable[[str], References], count: int) -> None:
        self.table = tables / "patches.safetensors"
        self._tables, self._read, self._count = tables, read, count
        self._rows: Segments = {}
        self._damaged: set[Path] = set()
        # patches that could not be written, because the library is read-only
        self._kept: dict[PatchKey, StoredPatch] = {}

    @cached_property
    def references(self) -> Mapping[str, References]:
        """The references by mode."""
        return {mode: self._read(mode) for mode in MODES}

    @cached_property
    def expected(self) -> np.ndarray:
        """Number of patches of each concept and mode that a complete layer has, int64 `[C, 3]`."""
        filled = [(self.references[mode].sample[:, : self._count] >= 0).sum(1) for mode in MODES]
        return np.stack(filled, 1)

    def made(self) -> np.ndarray:
        """Return the number of patches of each concept and mode that have been made, int64 `[C, 3]`."""
        count = np.zeros_like(self.expected)
        known, whole = self._known(), self._whole()
        count[whole] = self.expected[whole]
        for concept, mode, _ in known:
            count[concept, mode] += concept not in whole
        return count

    def missing(self, wanted: Iterable[PatchKey]) -> list[PatchKey]:
        """Return those of some patches that have not been made, in order."""
        known, whole = self._known(), set(self._whole())
        return sorted({key for key in wanted if key[0] not in whole and key not in known})

    def keys(self, concepts: Iterable[int], modes: Iterable[str] = MODES, count: int | None = None) -> list[PatchKey]:
        """List the patches of some concepts that a complete layer has; with `count`, the best ones of each mode."""
        most = self._count if count is None else count
        places = [MODES.index(mode) for mode in modes]
        return [
            (concept, place, rank)
            for concept in concepts
            for place in places
            for rank in range(min(most, int(self.expected[concept, place])))
        ]

    def read(self, concepts: Iterable[int] | None = None) -> LayerPatches:
        """Read the patches of some concepts, by default of all that have any.

        Of a concept and mode, they are the best ones without a gap.

        Raises
        ------
        LibraryError
            If a file is damaged.
        """
        chosen = None if concepts is None else set(concepts)
        while True:
            listed = segment_files(self._tables)
            try:
                found = read_patches(self.table, chosen)
                return found | self._in_segments(found.keys(), chosen)
            except (LibraryError, FileNotFoundError):
                # another process has joined segments, or completed the layer
                if segment_files(self._tables) == listed:
                    raise

    def whole(self) -> list[int]:
        """List the concepts all of whose patches have been made, in ascending order; not those that have none."""
        made = self.made()
        listed = set(stored_concepts(self.table))
        return [
            concept
            for concept in range(len(made))
            if concept in listed or (made[concept].any() and (made[concept] == self.expected[concept]).all())
        ]

    def add(self, made: Mapping[PatchKey, StoredPatch]) -> None:
        """Add patches; if the library cannot be written, they are kept in memory, which is logged."""
        try:
            write_segment(self._tables, made)
        except LibraryError as error:
            if not self._kept:
                logger.warning("%s Patches are kept in memory only.", error)
            self._kept |= made

    def complete(self) -> bool:
        """Whether the files hold all patches of the layer."""
        return not self._kept and bool((self.made() == self.expected).all())

    def settle(self, replace: Callable[[Path, bytes], object], concepts: Iterable[int], most: int = MOST) -> None:
        """Move the patches of some concepts to the table if all have been made, and join segments if there are many.

        No other process may do so at the same time.

        Parameters
        ----------
        replace
            Replaces a file.
        concepts
            The concepts that the table will list.
        most
            Largest number of segments that are not joined.
        """
        files, concepts = segment_files(self._tables), list(concepts)
        segments, listed = self._segments(), set(stored_concepts(self.table))
        known = self._keys(segments)
        if not self.missing(self.keys(concepts)):
            if not listed.issuperset(concepts):
                replace(self.table, encoded({key: {} for key in concepts} | self.read(listed.union(concepts))))
            known = {key for key in known if key[0] not in listed.union(concepts)}
        elif len(files) <= most:
            return
        joined = write_segment(self._tables, self._patches(segments, known)) if known else None
        for file in files:
            if file != joined:
                file.unlink(missing_ok=True)
        with suppress(OSError):  # it still holds segments
            (self._tables / FOLDER).rmdir()

    def _known(self) -> set[PatchKey]:
        """List the patches that are in segments or in memory."""
        return self._keys(self._segments())

    def _keys(self, segments: Segments) -> set[PatchKey]:
        return {*self._kept, *(key for rows in segments.values() for key in rows)}

    def _segments(self) -> Segments:
        """List the segments that there are now; in another thread there may be others at the same time."""
        while True:
            # a file may vanish, because another process has joined segments or completed the layer
            with suppress(FileNotFoundError):
                segments = {file: self._rows.get(file) or self._rows_of(file) for file in segment_files(self._tables)}
                self._rows = segments
                return segments

    def _rows_of(self, file: Path) -> dict[PatchKey, int]:
        """Return the row of each patch in a segment; none if it is damaged, which is logged: they are made again."""
        try:
            return {key: row for row, key in enumerate(segment_keys(file, self.expected))}
        except LibraryError:
            if file not in self._damaged:
                logger.warning("The file '%s' of finished patches is damaged: they are made again.", file)
            self._damaged.add(file)
            return {}

    def _whole(self) -> list[int]:
        """List the concepts of the table. Segments are read before, as they are removed once the table is written."""
        listed = stored_concepts(self.table)
        if any(not 0 <= concept < len(self.expected) for concept in listed):
            raise damaged(self.table, f"it has patches of other concepts than the {len(self.expected)} of the layer")
        return listed

    def _in_segments(self, whole: Iterable[int], chosen: set[int] | None) -> LayerPatches:
        segments = self._segments()
        known = self._keys(segments)
        wanted = {key for key in known if key[0] not in whole and (chosen is None or key[0] in chosen)}
        # without gaps: an interrupted run may have made the patches of some ranks only
        wanted = {key for key in wanted if all((*key[:2], rank) in wanted for rank in range(key[2]))}
        found = self._patches(segments, wanted)
        layer: dict[int, dict[str, tuple[StoredPatch, ...]]] = {}
        for concept, mode, rank in sorted(found):
            modes = layer.setdefault(concept, dict.fromkeys(MODES, ()))
            modes[MODES[mode]] += (found[concept, mode, rank],)
        return layer

    def _patches(self, segments: Segments, wanted: set[PatchKey]) -> dict[PatchKey, StoredPatch]:
        by_file: dict[Path, dict[PatchKey, int]] = defaultdict(dict)
        for file, rows in segments.items():
            for key in rows.keys() & wanted:
                by_file[file][key] = rows[key]
            wanted = wanted - rows.keys()
        found = {key: self._kept[key] for key in wanted}
        for file, rows in by_file.items():
            found |= read_segment(file, rows, self.references)
        return found
