"""Checkpoints of the pass over the data set: parts, which hold the tally of some blocks and merge in any order.

A part is one file: the arrays of `Tally.arrays`, the blocks they belong to, and the samples skipped there. Each process
rewrites its own part at every checkpoint. A part that includes others is written before these are removed, so parts may
overlap after a kill. Then disjoint parts are used, the largest first, and other blocks are computed again.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crp.errors import LibraryError
from crp.library.tables import Table, damaged, open_table, write_table
from crp.mining.block_stream import Block
from crp.mining.survey import Surveyor
from crp.mining.tally import Tally

from .spans import Spans, count, difference, union

logger = logging.getLogger(__name__)

# The part from which a longer data set starts: the state of the library that is extended.
EXTENDED = "extended"

_BLOCKS, _SKIPPED = "blocks", "skipped"


@dataclass(frozen=True)
class Part:
    """A checkpoint: its file, its blocks, and the skipped samples with the reasons."""

    file: Path
    blocks: Spans
    skipped: dict[int, str]

    @property
    def owner(self) -> str:
        """Name of the process or shard that wrote it."""
        return self.file.name.split(".")[0]

    def merge_into(self, tally: Tally) -> None:
        """Add its samples to a tally of the same layers, classes and settings.

        Raises
        ------
        LibraryError
            If the file is damaged, or of other shapes.
        """
        like = {name: (array.dtype.type, array.shape) for name, array in tally.arrays().items()}
        with open_table(self.file) as table:
            # check all arrays before merging any
            for name, form in like.items():
                table.check(name, *form)
            tally.merge(_Reading(table, like))


class _Reading(Mapping):
    """Arrays of a file, each read on access."""

    def __init__(self, table: Table, forms: Mapping[str, tuple[type, tuple[int, ...]]]):
        self._table, self._forms = table, forms

    def __getitem__(self, name: str) -> np.ndarray:
        return self._table.array(name, *self._forms[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._forms)

    def __len__(self) -> int:
        return len(self._forms)


def write_part(file: Path, tally: Tally, blocks: Spans, skipped: Mapping[int, str]) -> None:
    """Write a part completely or not at all; `LibraryError` if the system refuses."""
    encoded = np.frombuffer(json.dumps({str(key): skipped[key] for key in sorted(skipped)}).encode(), dtype=np.uint8)
    places = np.array(union(blocks), dtype=np.int64).reshape(-1, 2)
    write_table(file, {**tally.arrays(), _BLOCKS: places, _SKIPPED: encoded})


def read_part(file: Path) -> Part:
    """Read which blocks a part covers.

    Raises
    ------
    LibraryError
        If the file is damaged.
    """
    with open_table(file) as table:
        blocks = table.array(_BLOCKS, np.int64, (None, 2))
        encoded = table.array(_SKIPPED, np.uint8, (None,)).tobytes()
    try:
        skipped = {int(sample): str(fact) for sample, fact in json.loads(encoded).items()}
    except (ValueError, AttributeError, RecursionError) as error:
        raise damaged(file, f"its list of skipped samples: {error}") from error
    return Part(file, [(start, stop) for start, stop in blocks.tolist()], skipped)


def read_parts(folder: Path) -> list[Part]:
    """Choose disjoint parts. A damaged part is reported and ignored; its blocks are computed again."""
    found = []
    for file in sorted(folder.glob("*.safetensors")):
        try:
            found.append(read_part(file))
        except LibraryError:
            logger.warning("The checkpoint '%s' is damaged: its samples are computed again.", file)
    used: list[Part] = []
    for part in sorted(found, key=lambda part: -count(part.blocks)):
        if all(difference(part.blocks, other.blocks) == part.blocks for other in used):
            used.append(part)
    return used


def blocks_of(parts: Iterable[Part]) -> Spans:
    """Return the blocks of several parts."""
    return union(span for part in parts for span in part.blocks)


class Checkpoint:
    """The part of one process, saved at regular intervals.

    Parameters
    ----------
    folder
        Folder of the parts.
    owner
        Beginning of the file's name.
    surveyor
        Holds the tally to save.
    taken
        Parts to resume from. They are merged into the tally, and removed after it has been saved.
    every
        Seconds between checkpoints.
    """

    def __init__(self, folder: Path, owner: str, surveyor: Surveyor, taken: Iterable[Part], every: float):
        numbers = [int(file.name.split(".")[1]) for file in folder.glob(f"{owner}.*.safetensors")]
        self._file = folder / f"{owner}.{max(numbers, default=0) + 1}.safetensors"
        self._surveyor = surveyor
        self._every = every
        self._saved = time.monotonic()
        self._taken: list[Part] = []
        self.blocks: Spans = []
        self.skipped: dict[int, str] = {}
        for part in taken:
            self.take(part)

    def add(self, block: Block) -> None:
        """Record that a block has been added to the tally; save if it is time."""
        self.blocks = union([*self.blocks, (block.number, block.number + 1)])
        self.skipped.update(block.skipped)
        if time.monotonic() - self._saved >= self._every:
            self.save()

    def take(self, part: Part) -> None:
        """Merge another part into the tally."""
        part.merge_into(self._surveyor.tally)
        self._taken.append(part)
        self.blocks = union([*self.blocks, *part.blocks])
        self.skipped.update(part.skipped)

    def save(self) -> None:
        """Write the part, then remove the parts that it includes."""
        self._surveyor.sync()  # the vectors of blocks recorded as done have to be on disk
        write_part(self._file, self._surveyor.tally, self.blocks, self.skipped)
        for part in self._taken:
            part.file.unlink(missing_ok=True)
        self._taken = []
        self._saved = time.monotonic()
