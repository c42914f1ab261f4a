"""The two long stages of mining. Each can be interrupted at any moment and resumes from what is on disk.

1. The pass over the data set. Checkpoints hold complete blocks only. When all of these are done, their tally is stored
   in the library as its state, from which a longer data set can be mined. The last, incomplete block is added after
   that.
2. The patches that are made now. They are stored in the library as segments until it is complete.

Any number of processes can share the work, and the result is the same bytes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from crp.files import write_file
from crp.library.manifest import layer_folder
from crp.library.patch_files import PatchFiles
from crp.library.patches import MODES, write_patches
from crp.library.references import read_references
from crp.library.tables import write_table
from crp.mining.block_stream import Block, blocks
from crp.mining.dataset import DataSubject
from crp.mining.estimation import Estimate
from crp.mining.patch_filling import fill
from crp.mining.patch_maker import PatchMaker
from crp.mining.patch_requests import Request
from crp.mining.survey import Surveyor, run_survey
from crp.mining.tally import Survey

from .checkpoints import EXTENDED, Checkpoint, blocks_of, read_parts, write_part
from .processes import Processes
from .spans import Spans, count, difference, part
from .work import Shard, Work

logger = logging.getLogger(__name__)

# File in a library: the tally of its complete blocks.
STATE = "state.safetensors"


@dataclass(frozen=True)
class Sharing:
    """How a run is shared and how often it saves.

    Attributes
    ----------
    processes
        The processes that share the run.
    every
        Seconds between checkpoints.
    progress
        Whether to show progress bars.
    """

    processes: Processes
    every: float
    progress: bool


@dataclass(frozen=True)
class Pass:
    """The part of the pass over the data set that one process makes.

    Attributes
    ----------
    work
        The work folder.
    surveyor
        Reduces blocks; its tally is empty.
    data
        The data set.
    block_size
        Samples of a block.
    shard
        The shard to compute; None for the whole data set.
    workers
        Processes that read samples ahead.
    skip_bad
        Whether to skip unusable samples.
    expected
        Estimate of time and disk space, logged after the first block.
    sharing
        Processes, checkpoints and progress bars.
    """

    work: Work
    surveyor: Surveyor
    data: DataSubject
    block_size: int
    shard: Shard | None
    workers: int
    skip_bad: bool
    expected: Estimate
    sharing: Sharing

    def run(self, extended: Path | None = None) -> None:
        """Compute the missing blocks. A shard writes its part; a whole run writes all tables except the patches.

        Parameters
        ----------
        extended
            State of a library of the data set's first samples, from which to start.

        Raises
        ------
        SampleError
            If a sample cannot be used; names it.
        LibraryError
            If the system refuses to write.
        """
        complete, processes = [(0, len(self.data.reader) // self.block_size)], self.sharing.processes
        if extended is not None and processes.first:
            self._begin_with(extended)
        processes.wait()
        parts = read_parts(self.work.parts)
        done = blocks_of(parts)
        if self.shard is None:
            missing = part(difference(complete, done), processes.rank, processes.count)
            taken = parts if processes.first else []
        else:
            new = difference(complete, blocks_of(known for known in parts if known.owner == EXTENDED))
            missing = difference(part(new, self.shard.place - 1, self.shard.count), done)
            taken = [known for known in parts if known.owner == self.work.owner]
        checkpoint = Checkpoint(self.work.parts, self.work.owner, self.surveyor, taken, self.sharing.every)
        if done and processes.first:
            samples = count(done) * self.block_size
            logger.info("Resuming: %d of %d samples are done.", samples, len(self.data.reader))
        processes.wait()  # until all processes have read the same parts
        self._over(missing, checkpoint.add, announce=processes.first)
        if self.shard is not None or processes.count > 1:
            checkpoint.save()
        processes.wait()
        if self.shard is None and processes.first:
            for other in read_parts(self.work.parts):
                if difference(other.blocks, checkpoint.blocks) == other.blocks:
                    checkpoint.take(other)
            self._over(difference(complete, checkpoint.blocks), checkpoint.add)
            self._finish(complete, checkpoint.skipped)
        processes.wait()

    def _begin_with(self, state: Path) -> None:
        first = self.work.parts / f"{EXTENDED}.0.safetensors"
        if not any(self.work.parts.glob("*.safetensors")):
            write_file(first, state.read_bytes())

    def _finish(self, complete: Spans, skipped: Mapping[int, str]) -> None:
        library, length = self.work.library, len(self.data.reader)
        write_part(library / STATE, self.surveyor.tally, complete, skipped)
        skipped = dict(skipped)
        last = [(complete[0][1], -(-length // self.block_size))]
        doing = "last samples" if count(complete) else "samples"
        self._over(last, lambda block: skipped.update(block.skipped), doing=doing, announce=not count(complete))
        self.surveyor.sync()
        survey = self.surveyor.tally.result()
        for layer in survey.statistics:
            write_survey(library / "layers" / layer_folder(layer), survey, layer)
        self.work.set_surveyed(skipped)
        for file in self.work.parts.glob("*.safetensors"):
            file.unlink()

    def _over(
        self,
        numbers: Spans,
        after_each: Callable[[Block], None],
        *,
        doing: str = "samples",
        announce: bool = False,
    ) -> None:
        """Survey some blocks; with `announce`, log the estimate after the first one."""

        def log_estimate(seconds: float) -> None:
            if announce:
                parts = self.sharing.processes.count if self.shard is None else self.shard.count
                logger.info("Mining: %s", self.expected.sentence(seconds / parts))

        if not count(numbers):
            return
        reader, size = self.data.reader, self.block_size
        with reader.naming():
            run_survey(
                self.surveyor,
                blocks(
                    reader,
                    size,
                    self.workers,
                    self.data.digests,
                    numbers=numbers,
                    skip_bad=self.skip_bad,
                    pinned=self.surveyor.device.type == "cuda",
                ),
                sum(min(stop * size, len(reader)) - start * size for start, stop in numbers),
                doing=doing,
                after_first=log_estimate,
                after_each=after_each,
                skip_bad=self.skip_bad,
                progress=self.sharing.progress,
            )


def make_patches(
    work: Work,
    maker: PatchMaker,
    sizes: Mapping[str, int],
    concepts: Mapping[str, Sequence[int]],
    count: int,
    now: int,
    k: int,
    sharing: Sharing,
) -> None:
    """Make the patches that are made while mining.

    Parameters
    ----------
    work
        The work folder.
    maker
        Makes the patches.
    sizes
        Number of concepts of each layer.
    concepts
        By layer, the concepts to make patches of.
    count, now
        Number of patches of each concept and mode that the library will have, and how many of them are made now.
    k
        Number of references.
    sharing
        Processes, checkpoints and progress bars.

    Raises
    ------
    LibraryError
        If the system refuses to write.
    """
    processes, files = sharing.processes, {}
    for layer, size in sizes.items():
        tables = work.library / "layers" / layer_folder(layer)
        read = partial(read_references, tables / "references.safetensors", shape=(size, k))
        files[layer] = PatchFiles(tables, read, count)
        if processes.first and not files[layer].table.exists():
            write_patches(files[layer].table, {})
    processes.wait()
    wanted = {layer: files[layer].keys(ids, count=now) for layer, ids in concepts.items()}

    def own(groups: list[list[Request]]) -> list[list[Request]]:
        processes.wait()  # until all processes have read the same segments
        return groups[processes.rank :: processes.count]

    fill(maker, files, wanted, chosen=own, every=sharing.every, progress=sharing.progress)
    processes.wait()
    if processes.first:
        for layer, ids in concepts.items():
            # one segment, so that the bytes do not depend on interruptions
            files[layer].settle(write_file, ids if now == count else (), most=1)


def write_survey(tables: Path, survey: Survey, layer: str) -> None:
    """Write references, class statistics and means of one layer into its folder, which is created."""
    tables.mkdir(parents=True, exist_ok=True)
    arrays, by_class = {}, {}
    for mode in MODES:
        found = survey.references[layer, mode]
        arrays |= {f"{mode}.{name}": getattr(found, name) for name in ("sample", "score", "target", "position")}
        by_class |= {
            f"{mode}.{name}": array for name, array in survey.class_references.get((layer, mode), {}).items()
        }
    write_table(tables / "references.safetensors", arrays)
    if by_class:
        write_table(tables / "class_references.safetensors", by_class)
    write_table(tables / "statistics.safetensors", vars(survey.statistics[layer]))
    if layer in survey.means:
        found = survey.means[layer]
        write_table(tables / "means.safetensors", {"numbers": found.numbers, "samples": np.array([found.samples])})
