"""`mine` and `add_patches`: checks, a plan, one pass over the data set, then patches.

The library appears at its path at once, when it is complete.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from crp.class_names import as_class_names
from crp.concepts import ChannelConcept, ConceptKind
from crp.errors import InputError, LibraryError
from crp.files import user_path
from crp.indices import concept_ids
from crp.library.building import check_free
from crp.library.checksums import replace_with_checksum
from crp.library.manifest import write_manifest
from crp.library.patches import MODES, encoded
from crp.library.store import Library, open_library
from crp.mining.durable.extending import check_extends
from crp.mining.durable.processes import Processes, joined
from crp.mining.durable.stages import Pass, make_patches, surveyed_references
from crp.mining.durable.work import Work, open_work, stored_identity, work_folder
from crp.models import check_shapes, ready_model
from crp.preprocessing import Preprocessing, shown_input

from .block_stream import SampleReader
from .class_sums import LEADING
from .dataset import check_data, data_subject
from .mined_model import model_subject
from .mining_plan import MiningPlan, Shown, device_of, plan_mining_run, receptive_fields
from .patch_maker import PatchMaker, requests
from .runtime import peak_memory, surroundings, tensor_cores
from .scores import Score
from .settings import Settings, chosen_shard
from .survey import Surveyor
from .targets import TargetRule, rule_name
from .vector_writer import VectorWriter

if TYPE_CHECKING:
    # zennit is loaded by crp.attribution alone, which prepares torchvision for it
    from zennit.core import Composite

logger = logging.getLogger(__name__)

CHANNELS = ChannelConcept()

# The last bits of relevance depend on the number of threads, so it is a setting of the library: the same on all
# machines and whoever starts the process (torchrun says 1). More cores are used by more processes.
THREADS = 4

# Seconds between checkpoints: what a kill costs at most.
CHECKPOINT = 60.0


def mine(
    model: nn.Module,
    dataset: object,
    *,
    layers: Sequence[str],
    path: str | os.PathLike[str],
    composite: Composite | None = None,
    concept: ConceptKind = CHANNELS,
    targets: TargetRule = "label",
    k: int = 16,
    top: int = LEADING,
    class_references: int | None = None,
    vectors: bool = False,
    precision: str | None = None,
    relevance_score: str = "sum/divided",
    activation_score: str = "max",
    block_size: int = 32,
    threads: int | None = None,
    workers: int = 0,
    device: str | torch.device | None = None,
    patches: int = 8,
    patch_concepts: Mapping[str, Iterable[int]] | None = None,
    class_names: Sequence[str] | Mapping[int, str] | None = None,
    preprocessing: Preprocessing | None = None,
    source: Mapping[str, Any] | None = None,
    skip_bad: bool = False,
    extend: str | os.PathLike[str] | None = None,
    distributed: bool = False,
    shard: tuple[int, int] | None = None,
    checkpoint: float = CHECKPOINT,
    progress: bool = True,
    overwrite: bool = False,
    restart: bool = False,
) -> Library | None:
    """Find the samples that show each concept of a model, and keep them in a library on disk.

    One pass over the data set in absolute blocks, then one forward pass for each reference sample that patches are cut
    from. Until the library is complete, all that was done is in a folder beside it, `PATH.partial`: after an error, an
    interruption, a kill or a power cut the same call goes on from there. The library is the same, byte for byte,
    however often that happened, and whatever `workers`, processes and shards there were.

    Parameters
    ----------
    model
        Its output is `[N, classes]`, or `[N]` (a regression). A model that gives a dict or a tuple is one after
        `crp.select_output`; another shape needs `targets` that start relevance. It is not changed, and explained in
        evaluation mode.
    dataset
        Map-style; an item is a float tensor `[c, *S]`, or `(tensor, label)`. A label is a class, a list of classes, or
        a vector of 0 and 1 for each class. It must answer the same when asked twice.
    layers
        Names of the layers (`model.named_modules()`).
    path
        Folder of the library.
    composite
        zennit composite; by default `crp.attribution.composite_for(model)`.
    concept
        What a concept is: `crp.concepts.ChannelConcept()`, or another object with its interface.
    targets
        What is explained of each sample: `"label"` (each of its labels, if it has several), `"prediction"` (the largest
        output), `"top3"` (each of the three largest), or a function of `(prediction [N, ...], labels)` that returns
        classes, `[N]` or `[N, T]` with -1 for none, or `crp.mining.Question`s, which also say what relevance starts
        as. `labels` are int64 `[N]`, `[N, L]` with -1 for none where samples have several, and -1 where there are none.
        Otherwise the relevance that starts is the model's output for that class, with its sign (of a regression: its
        value). What is explained of a sample counts for statistics each by itself; a concept's references hold a
        sample at most once, with the class for which it scores most there.
    k
        References of each concept and mode.
    top
        The statistics count how often a concept was among that many leading ones of a sample.
    class_references
        References of each concept and mode for each class, of the samples explained for it; 0 for none. They take
        `classes * concepts * class_references * 60` bytes of memory, and twice that of disk. By default 3, or as many
        as fit into 256 MB.
    vectors
        Whether to keep each sample's concept vectors (`Library.vectors`): `4 * C` bytes for each sample and layer.
    precision
        `"bfloat16"` for a faster pass over the data set, or `"tf32"` for one of a float32 model on an NVIDIA GPU; None
        for the model's own. Lists of references then differ a little (docs/performance.md says how much). Scores are
        stored in float32, and patches are made in the model's own precision.
    relevance_score, activation_score
        `"sum"`, `"max"`, `"sum/divided"` or `"max/divided"`; see `crp.mining.scores`.
    block_size
        Samples computed at a time. It is stored, for the last bits of relevance depend on it.
    threads
        Threads of each process; stored, for the same reason. By default 4, or as many as the interrupted run or the
        library to extend had. Use more cores with more processes.
    workers
        Processes that read ahead.
    device
        Where to compute; by default where the model is. The model itself stays where it is.
    patches
        Patches of each concept and mode (at most `k`); 0 for none. Inputs must be `[c, H, W]`, or signals `[c, T]`, for
        patches: of a signal a patch is a window.
    patch_concepts
        By layer, the concepts to make patches of; by default all. Others are added later by `add_patches`.
    class_names
        A name for each output: a list, or a dict of index to name (`model.config.id2label`).
    preprocessing
        How pictures became the samples; used to show samples as pictures, and stored for the atlas. By default the
        smallest value of a sample is shown black, the largest white.
    source
        Plain values that say where model and data set come from; stored as they are.
    skip_bad
        Whether samples that cannot be read, or that the model fails on, are skipped. The library lists them, and all
        else in it is as if there had been another sample in their place.
    extend
        A library of the first samples of `dataset`, mined with the same settings: what it knows of them is not computed
        again. The result is the library of the whole data set.
    distributed
        Whether to share the work with the other processes that torchrun started, all of which must make this call.
    shard
        `(i, n)`: make only the i-th of n parts of the pass over the data set, 1 to n, in runs of their own. When all
        are done, `merge` (or this call without `shard`) makes the library.
    checkpoint
        Seconds after which what was done is kept on disk: at most that much is lost.
    progress
        Whether to show progress bars. The estimate of time and disk is logged after the first block.
    overwrite
        Whether a library at `path` may be replaced.
    restart
        Whether to begin anew where an interrupted run left its work.

    Returns
    -------
    Library
        Opened; None from a shard.

    Raises
    ------
    InputError
        If an argument does not fit: layer, score, target rule, class names, data set.
    SampleError
        If a sample cannot be used; names it.
    ModelError
        If the model cannot be explained.
    LibraryError
        If the path is taken or cannot be written, another process mines to it, an interrupted run there mined something
        else, or the library to extend does not fit.
    """
    path = user_path(path)
    layers = list(dict.fromkeys([layers] if isinstance(layers, str) else layers))
    if not layers:
        raise InputError("No layers are given; at least one is needed.")
    if precision == "tf32" and "cuda" not in (kind := str(device or device_of(model))):
        raise InputError(f"The precision 'tf32' is one of NVIDIA GPUs, and the device is {kind}.")
    settings = Settings(
        k=k,
        top=top,
        class_references=class_references,
        vectors=vectors,
        patches=patches,
        block_size=block_size,
        threads=threads,
        workers=workers,
        precision=precision,
        skip_bad=skip_bad,
        targets=targets,
        concept=concept,
        relevance_score=Score(relevance_score),
        activation_score=Score(activation_score),
        device=device,
        shard=chosen_shard(shard, distributed=distributed, restart=restart),
    )
    check_free(path, overwrite=overwrite)
    settings = replace(settings, threads=threads or _stored_threads(path, extend, restart) or THREADS)
    names = None if class_names is None else as_class_names(class_names)
    shown = Shown(names, preprocessing, source)
    with surroundings(settings.threads), joined(distributed) as processes:
        plan = plan_mining_run(model, dataset, layers, composite, settings, patch_concepts, shown)
        state = check_extends(extend, plan.manifest, plan.data.reader, skip_bad) if extend is not None else None
        shared = Sharing(processes, checkpoint, progress and processes.first)
        with open_work(
            path,
            plan.identity,
            shard=settings.shard,
            processes=processes,
            overwrite=overwrite,
            restart=restart,
        ) as work:
            if work.surveyed() is None:
                _survey(plan, work, state, shared)
            if settings.shard is not None:
                return None
            _finish(plan, work, shared)
    return open_library(path)


@dataclass(frozen=True)
class Sharing:
    """How a run is shared and how often it saves: its processes, seconds between checkpoints, progress bar or not."""

    processes: Processes
    every: float
    progress: bool


def _survey(plan: MiningPlan, work: Work, state: Path | None, shared: Sharing) -> None:
    """Make the pass over the data set, from the `state` of a library to extend if there is one."""
    settings, reader = plan.settings, plan.data.reader
    keeping = VectorWriter(work.library, len(reader), plan.sizes) if settings.vectors else nullcontext()
    with keeping as writer, tensor_cores(tf32=settings.precision == "tf32"):
        if settings.vectors and state is not None and shared.processes.first:
            known = open_library(state.parent).manifest["data"]["length"]
            # its last, incomplete block is computed again
            writer.take(state.parent, known, stop=known // settings.block_size * settings.block_size)
        surveyor = Surveyor(
            plan.subject.survey,
            plan.tally(),
            concept=settings.concept,
            targets=settings.targets,
            **settings.scores,
            vectors=writer,
        )
        Pass(
            work,
            surveyor,
            plan.data,
            settings.block_size,
            shard=settings.shard,
            workers=settings.workers,
            skip_bad=settings.skip_bad,
            expected=plan.estimate(),
            **vars(shared),
        ).run(state)


def _finish(plan: MiningPlan, work: Work, shared: Sharing) -> None:
    """Make the patches; then the first process writes the manifest and moves the library to its place."""
    settings, processes = plan.settings, shared.processes
    references = surveyed_references(work.library, plan.sizes, settings.k)
    make_patches(work, plan.patch_maker(), references, plan.concepts, settings.patches, **vars(shared))
    if processes.first:
        logger.info("Peak memory: %s.", peak_memory())
        _complete(work, plan.data.reader)
    processes.wait()


def _stored_threads(path: Path, extend: str | os.PathLike[str] | None, restart: bool) -> int | None:
    """What an interrupted run, or the library to extend, computed with."""
    stored = None if restart else stored_identity(work_folder(path))
    if stored is not None:
        return stored["manifest"]["settings"]["threads"]
    return None if extend is None else open_library(extend).manifest["settings"]["threads"]


def _complete(work: Work, reader: SampleReader) -> None:
    """Write the manifest, the last file, and give the library its place."""
    skipped = work.surveyed()
    manifest = stored_identity(work.folder)["manifest"]
    manifest["skipped"] = [
        {"sample": sample, "name": reader.failed(sample, fact).name, "fact": fact}
        for sample, fact in sorted(skipped.items())
    ]
    if skipped:
        logger.warning("%d of %d samples were skipped; the library lists them.", len(skipped), len(reader))
    write_manifest(work.library, manifest)
    work.publish()


def add_patches(
    library: Library,
    model: nn.Module,
    dataset: object,
    layer: str,
    concepts: Iterable[int],
    *,
    composite: Composite | None = None,
    concept: ConceptKind = CHANNELS,
    targets: TargetRule | None = None,
    device: str | torch.device | None = None,
    progress: bool = True,
) -> None:
    """Make the patches of more concepts of a layer, and keep them in the library.

    Concepts that have patches are left as they are. The library ends up the same, byte for byte, in whatever order
    concepts are added. Two processes that add to one layer at the same time do no damage, but one's patches are lost.

    Parameters
    ----------
    library
        The library.
    model, dataset, composite, concept
        Those that were mined; what the library knows of them is compared.
    layer
        One of the library's layers.
    concepts
        Ids of concepts.
    targets
        The function that was given to `mine`, if it said what relevance starts as: a library keeps no more than its
        name.
    device
        Where to compute; by default where the model is.
    progress
        Whether to show a progress bar.

    Raises
    ------
    InputError
        If there is no such layer or concept.
    LibraryError
        If model, data set, composite or kind of concept are others than those mined, or the library cannot be written.
    """
    library.shape(layer)
    concepts = sorted(concept_ids(concepts, library.limits(layer).concepts, f"layer '{layer}'"))
    model = ready_model(model, composite)
    model.check(library, concept)
    settings = library.manifest["settings"]
    if not settings["patches"]:
        raise LibraryError(f"The library '{library.path}' was mined with patches=0: mine again with patches.")
    if settings["start"] == "function" and (targets is None or rule_name(targets) != settings["targets"]):
        raise LibraryError(
            f"The library '{library.path}' starts relevance as the function {settings['targets']!r} says: give it as "
            "targets=."
        )
    with surroundings(settings["threads"]):
        data = data_subject(dataset, labelled=False, skip_bad=bool(library.manifest.get("skipped")))
        check_data(library, data)
        explained = {"targets": targets or "prediction", "classes": library.manifest["classes"]}
        subject = model_subject(model, None, data.reader, [layer], device, **explained)
        check_shapes(library, subject.shapes, concept)
        stored = library.stored_patches(layer)
        missing = {layer: [concept for concept in concepts if concept not in stored]}
        references = {(layer, mode): library.references(layer, mode) for mode in MODES}
        preprocessing = library.preprocessing
        maker = PatchMaker(
            subject.replica,
            targets if settings["start"] == "function" else None,
            concept,
            data.reader,
            receptive_fields(model.model, data.reader.like, [layer]),
            partial(shown_input, preprocessing=preprocessing),
            settings["patch_size"],
            settings["block_size"],
        )
        made = maker.make(requests(references, missing, settings["patches"]), missing, progress=progress)
        replace_with_checksum(library.path, library.file(layer, "patches"), encoded({**stored, **made[layer]}))
