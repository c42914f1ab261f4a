"""The two long stages of mining, each of which may end at any moment and goes on from what is on disk.

1. The pass over the data set. Only closed blocks, which are full, go into checkpoints. When all are done, their tally
   is kept in the library as its state, with which a longer data set begins; the last, open block is then added to it.
2. The patches, in groups that depend on the references alone.

Any number of processes shares the work of both, and the result is the same bytes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from crp.files import write_file
from crp.library.manifest import layer_folder
from crp.library.patches import MODES, write_patches
from crp.library.references import References, read_references
from crp.library.tables import write_table
from crp.mining.block_stream import Block, blocks
from crp.mining.dataset import DataSubject
from crp.mining.estimation import Estimate
from crp.mining.patch_maker import PatchMaker, ranked, requests
from crp.mining.survey import Surveyor, run_survey
from crp.mining.tally import Survey

from .checkpoints import EXTENDED, Checkpoint, blocks_of, read_parts, write_part
from .processes import Processes
from .segments import SegmentWriter, finished, read_finished
from .spans import Spans, count, difference, part
from .work import Shard, Work

logger = logging.getLogger(__name__)

# In a library: the tally of its closed blocks.
STATE = "state.safetensors"


@dataclass(frozen=True)
class Pass:
    """The pass over the data set, as one process makes it.

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
    processes, shard
        Who this is.
    workers
        Processes that read ahead.
    skip_bad
        Whether samples that cannot be used are skipped.
    expected
        What is to be done, said after the first block.
    every
        Seconds between checkpoints.
    progress
        Whether to show a bar.
    """

    work: Work
    surveyor: Surveyor
    data: DataSubject
    block_size: int
    processes: Processes
    shard: Shard | None
    workers: int
    skip_bad: bool
    expected: Estimate
    every: float
    progress: bool

    def run(self, extended: Path | None = None) -> None:
        """Make what is missing of it; at the end the library holds all tables but patches. A shard leaves its part.

        Parameters
        ----------
        extended
            State of a library of the data set's first samples, to begin with.

        Raises
        ------
        SampleError
            If a sample cannot be used; names it.
        LibraryError
            If the system refuses to write.
        """
        closed, processes = [(0, len(self.data.reader) // self.block_size)], self.processes
        if extended is not None and processes.first:
            self._begin_with(extended)
        processes.wait()
        parts = read_parts(self.work.parts)
        done = blocks_of(parts)
        if self.shard is None:
            missing = part(difference(closed, done), processes.rank, processes.count)
            taken = parts if processes.first else []
        else:
            new = difference(closed, blocks_of(known for known in parts if known.owner == EXTENDED))
            missing = difference(part(new, self.shard.place - 1, self.shard.count), done)
            taken = [known for known in parts if known.owner == self.work.owner]
        checkpoint = Checkpoint(self.work.parts, self.work.owner, self.surveyor, taken, self.every)
        if done and processes.first:
            samples = count(done) * self.block_size
            logger.info("Going on: %d of %d samples are done.", samples, len(self.data.reader))
        processes.wait()  # all have seen the same parts before anybody writes
        self._over(missing, checkpoint.add, announce=processes.first)
        if self.shard is not None or processes.count > 1:
            checkpoint.save()
        processes.wait()
        if self.shard is None and processes.first:
            for other in read_parts(self.work.parts):
                if difference(other.blocks, checkpoint.blocks) == other.blocks:
                    checkpoint.take(other)
            self._over(difference(closed, checkpoint.blocks), checkpoint.add)
            self._finish(closed, checkpoint.skipped)
        processes.wait()

    def _begin_with(self, state: Path) -> None:
        first = self.work.parts / f"{EXTENDED}.0.safetensors"
        if not any(self.work.parts.glob("*.safetensors")):
            write_file(first, state.read_bytes())

    def _finish(self, closed: Spans, skipped: Mapping[int, str]) -> None:
        library, length = self.work.library, len(self.data.reader)
        write_part(library / STATE, self.surveyor.tally, closed, skipped)
        skipped = dict(skipped)
        last = [(closed[0][1], -(-length // self.block_size))]
        self._over(last, lambda block: skipped.update(block.skipped), announce=not count(closed))
        self.surveyor.sync()
        survey = self.surveyor.tally.result()
        for layer in survey.statistics:
            write_survey(library / "layers" / layer_folder(layer), survey, layer)
        self.work.set_surveyed(skipped)
        for file in self.work.parts.glob("*.safetensors"):
            file.unlink()

    def _over(self, numbers: Spans, after_each: Callable[[Block], None], *, announce: bool = False) -> None:
        def say(seconds: float) -> None:
            if announce:
                sharing = self.processes.count if self.shard is None else self.shard.count
                logger.info("Mining: %s", self.expected.sentence(seconds / sharing))

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
                after_first=say,
                after_each=after_each,
                skip_bad=self.skip_bad,
                progress=self.progress,
            )


def make_patches(
    work: Work,
    maker: PatchMaker,
    references: Mapping[tuple[str, str], References],
    concepts: Mapping[str, Iterable[int]],
    patches: int,
    *,
    processes: Processes,
    every: float,
    progress: bool,
) -> None:
    """Make the patches that are missing; at the end the library holds them all.

    Parameters
    ----------
    work
        The work folder.
    maker
        Makes them.
    references
        Of all samples, by layer and mode.
    concepts
        By layer, the concepts to make patches of.
    patches
        How many of each concept and mode.
    processes
        Those that share the work.
    every
        Seconds between two times that finished ones are written.
    progress
        Whether to show a bar.

    Raises
    ------
    LibraryError
        If the system refuses to write.
    """
    wanted = requests(references, concepts, patches)
    numbers = {request: number for number, request in enumerate(wanted)}
    done = finished(work.segments)
    missing = [group for group in maker.groups(wanted) if any(numbers[request] not in done for request in group)]
    mine = missing[processes.rank :: processes.count]
    processes.wait()  # all have seen the same segments before anybody writes
    writer = SegmentWriter(work.segments, work.owner, every)
    with tqdm(total=sum(map(len, mine)), desc="patches", unit="patch", disable=not progress) as bar:
        for group in mine:
            writer.add((numbers[request], patch) for request, patch in maker.of_group(group))
            bar.update(len(group))
    writer.write()
    processes.wait()
    if processes.first:
        done = finished(work.segments)
        for layer, ids in concepts.items():
            of_layer = [number for number, request in enumerate(wanted) if request.layer == layer]
            made = read_finished(done, wanted, of_layer)
            layer_patches = ranked(((wanted[number], patch) for number, patch in made.items()), ids)
            write_patches(work.library / "layers" / layer_folder(layer) / "patches.safetensors", layer_patches)


def write_survey(tables: Path, survey: Survey, layer: str) -> None:
    """Write references and class statistics of one layer into its folder, which is made."""
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


def surveyed_references(library: Path, sizes: Mapping[str, int], k: int) -> dict[tuple[str, str], References]:
    """The references of a library that is not complete yet, by layer and mode."""
    return {
        (layer, mode): read_references(library / "layers" / layer_folder(layer) / "references.safetensors", mode, shape)
        for layer, shape in ((layer, (size, k)) for layer, size in sizes.items())
        for mode in MODES
    }
