"""Checkpoints of the pass over the data set: parts, each the tally of some blocks, that merge to the same in any order.

A part is one file: the arrays of `Tally.arrays`, with the blocks they are of and the samples that were skipped there.
Each process writes its own, over and over. One that takes in others is written before these are removed, so parts may
overlap after a kill: then the largest ones that do not are used, and the rest is as if it had not been computed.
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

# The part with which a longer data set begins: the state of the library that is extended.
EXTENDED = "extended"

_BLOCKS, _SKIPPED = "blocks", "skipped"


@dataclass(frozen=True)
class Part:
    """A checkpoint: its file, its blocks, and the samples skipped there with what is wrong with them."""

    file: Path
    blocks: Spans
    skipped: dict[int, str]

    @property
    def owner(self) -> str:
        """Who wrote it."""
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
            # all are looked at before any is merged
            for name, form in like.items():
                table.check(name, *form)
            tally.merge(_Reading(table, like))


class _Reading(Mapping):
    """Arrays of a file, each read when it is asked for."""

    def __init__(self, table: Table, forms: Mapping[str, tuple[type, tuple[int, ...]]]):
        self._table, self._forms = table, forms

    def __getitem__(self, name: str) -> np.ndarray:
        return self._table.array(name, *self._forms[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._forms)

    def __len__(self) -> int:
        return len(self._forms)


def write_part(file: Path, tally: Tally, blocks: Spans, skipped: Mapping[int, str]) -> None:
    """Write a part as a whole or not at all; `LibraryError` if the system refuses."""
    told = np.frombuffer(json.dumps({str(key): skipped[key] for key in sorted(skipped)}).encode(), dtype=np.uint8)
    places = np.array(union(blocks), dtype=np.int64).reshape(-1, 2)
    write_table(file, {**tally.arrays(), _BLOCKS: places, _SKIPPED: told})


def read_part(file: Path) -> Part:
    """Read what a part is about.

    Raises
    ------
    LibraryError
        If the file is damaged.
    """
    with open_table(file) as table:
        blocks = table.array(_BLOCKS, np.int64, (None, 2))
        told = table.array(_SKIPPED, np.uint8, (None,)).tobytes()
    try:
        skipped = {int(sample): str(fact) for sample, fact in json.loads(told).items()}
    except (ValueError, AttributeError, RecursionError) as error:
        raise damaged(file, f"its list of skipped samples: {error}") from error
    return Part(file, [(start, stop) for start, stop in blocks.tolist()], skipped)


def read_parts(folder: Path) -> list[Part]:
    """The parts to use: no two of one block. A damaged one is reported and left out: its blocks are computed again."""
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
    """All blocks of some parts."""
    return union(span for part in parts for span in part.blocks)


class Checkpoint:
    """What one process has done, saved from time to time.

    Parameters
    ----------
    folder
        Of the parts.
    owner
        Beginning of the file's name.
    surveyor
        Whose tally is to be saved.
    taken
        Parts to go on from: they are merged into the tally, and removed when it is saved.
    every
        Seconds between two times.
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
        """Note that a block has been merged into the tally; save, if it is time."""
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
        """Write the part, then remove those it holds."""
        self._surveyor.sync()  # vectors of the blocks that the part says are done
        write_part(self._file, self._surveyor.tally, self.blocks, self.skipped)
        for part in self._taken:
            part.file.unlink(missing_ok=True)
        self._taken = []
        self._saved = time.monotonic()
