"""`mine`: options are checked, a plan is made, then the pass over the data set and the patches are computed.

The library appears at its path when it is complete, in one step.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from crp.arguments import layer_names, seconds, way_to_probabilities
from crp.class_names import as_class_names
from crp.concepts import AnyKind, Kinds, Layout
from crp.errors import InputError
from crp.files import user_path
from crp.library.building import check_free
from crp.library.manifest import write_manifest
from crp.library.names_file import keep_names
from crp.library.store import Library, open_library
from crp.mining.durable.extending import check_extends
from crp.mining.durable.processes import joined
from crp.mining.durable.stages import Pass, Sharing, make_patches
from crp.mining.durable.work import Work, open_work, stored_identity, work_folder
from crp.models import PreparedModel, rules_in
from crp.preprocessing import Preprocessing

from .class_sums import LEADING
from .conservation import measured_conservation
from .mining_plan import MiningPlan, Shown, device_of, plan_mining_run
from .more_patches import Supply
from .runtime import peak_memory, surroundings, tensor_cores
from .scores import Score
from .settings import CHANNELS, CHECKPOINT, THREADS, Settings, chosen_shard
from .survey import Surveyor
from .targets import TargetRule
from .vector_writer import VectorWriter

if TYPE_CHECKING:
    # zennit is loaded by crp.attribution alone, which prepares torchvision for it
    from zennit.core import Composite

logger = logging.getLogger(__name__)


def mine(
    model: nn.Module,
    dataset: object,
    *,
    layers: Sequence[str] | Mapping[str, AnyKind],
    path: str | os.PathLike[str],
    composite: Composite | str | None = None,
    concept: Kinds = CHANNELS,
    layouts: Mapping[str, Layout] | None = None,
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
    patches_now: str | None = None,
    patch_concepts: Mapping[str, Iterable[int]] | None = None,
    class_names: Sequence[str] | Mapping[int, str] | None = None,
    preprocessing: Preprocessing | None = None,
    source: Mapping[str, Any] | None = None,
    probabilities: str | None = None,
    skip_bad: bool = False,
    extend: str | os.PathLike[str] | None = None,
    distributed: bool = False,
    shard: tuple[int, int] | None = None,
    checkpoint: float = CHECKPOINT,
    progress: bool = True,
    overwrite: bool = False,
    restart: bool = False,
) -> Library | None:
    """Find the samples that show each concept of a model, and store them in a library on disk.

    The data set is read once, in fixed blocks. Patches are made when they are needed, or now (`patches_now`). Until the
    library is complete, finished work is kept in a folder beside it, `PATH.partial`. After an error, an interruption, a
    kill or a power cut, the same call resumes from there. The library is the same, byte for byte, however often that
    happened, and for any number of `workers`, processes and shards.

    Parameters
    ----------
    model
        A model whose output is `[N, classes]`, or `[N]` (a regression). If it returns a dict or a tuple, wrap it with
        `crp.select_output`; other shapes need a function as `targets`. The model is not changed, and it is explained in
        evaluation mode.
    dataset
        Map-style. An item is a float tensor `[c, *S]` or a picture of Pillow, alone or as `(data, label)`, or a dict
        with `image` and `label`: so `ImageFolder` of torchvision and Hugging Face `datasets` fit as they are. Pictures
        need `preprocessing`. A label is a class, a list of classes, or a vector with 0 or 1 for each class. An item
        must have the same values each time it is read.
    layers
        Names of the layers (as in `model.named_modules()`); or by name the kind of concept of each:
        `{"blocks.2": TokenConcept(), "blocks.3": directions}`.
    path
        Folder of the library.
    composite
        A zennit composite, or the name of a set of rules that `crp.composite_for` makes, such as `"epsilon-plus-flat"`;
        by default the set that fits the model, or that of the library to extend.
    concept
        The kind of concept of all layers (a `crp.concepts.ConceptKind`), or by layer the kind of each.
    layouts
        By layer, what the axes of its output mean (`crp.concepts.Layout`); otherwise this is observed in a pass.
    targets
        What is explained of each sample: `"label"` (each of its labels, if it has several), `"prediction"` (the largest
        output), `"top3"` (each of the three largest), a start (`crp.attribution.starts`), the same in every sample and
        the only class of the library, or a function of `(prediction [N, ...], labels)`. The function
        returns classes, `[N]` or `[N, T]` padded with -1, or `crp.mining.AttributionTarget`s, which also hold the
        relevance to start. `labels` are int64 `[N]`, or `[N, L]` if samples have several, with -1 for none. Unless a
        function starts it, relevance starts as the model's output for the class, with its sign (of a regression: its
        value). Statistics count every pair of sample and target; a concept's list of references holds a sample at most
        once, with the class for which it scores highest.
    k
        References of each concept and mode.
    top
        The statistics count how often a concept is among this many leading concepts of a sample.
    class_references
        References of each concept, mode and class, among the samples explained for the class; 0 for none. They take
        `classes * concepts * class_references * 60` bytes of memory, and twice that on disk. By default 3, or as many
        as fit into 256 MB.
    vectors
        Whether to store each sample's concept vectors (`Library.vectors`): `4 * C` bytes per sample and layer.
    precision
        `"bfloat16"` for a faster pass over the data set, `"tf32"` for a float32 model on an NVIDIA GPU, None for the
        model's own precision. Lists of references then differ: of those by relevance, 91 and 96 % of the samples in
        bfloat16 are those of float32 in two trained networks (docs/performance.md). Scores are stored in float32, and
        patches are made in the model's own precision.
    relevance_score, activation_score
        `"sum"`, `"max"`, `"sum/divided"` or `"max/divided"`; see `crp.mining.scores`.
    block_size
        Samples computed at a time. It is stored, because the last bits of relevance depend on it.
    threads
        Threads of each process; stored for the same reason. By default 4, or the number used by the interrupted run or
        the library to extend. Use more processes to use more cores.
    workers
        Processes that read samples ahead.
    device
        Where to compute; by default where the model is. The model itself is not moved.
    patches
        Patches of each concept and mode (at most `k`); 0 for none. Patches need inputs `[c, T]`, `[c, H, W]` or
        `[c, D, H, W]`: they are windows, crops or boxes.
    patches_now
        Which of them are made now: `"all"`, `"first"` (the best one of each concept and mode) or `"none"`, which is the
        default. The library that is returned makes others when they are needed (`supply_patches`, `add_patches`).
    patch_concepts
        By layer, the concepts whose patches are made now, all of them unless `patches_now` is `"first"`.
    class_names
        A name for each output: a list, or a dict of index to name (`model.config.id2label`). By default those of the
        data set (`classes`, `class_names`, or its column of labels), if it has one for each output.
    preprocessing
        How pictures become the samples, or became them. It is used to show samples as pictures, too, and stored for the
        atlas. By default the smallest value of a sample is shown black and the largest white.
    source
        Plain values that describe where model and data set come from; stored unchanged.
    probabilities
        How logits become probabilities of classes on pages, stored for the atlas: `"softmax"`, or `"sigmoid"` where a
        sample may have several classes. By default, it is `"sigmoid"` if one of the first 32 samples has several labels
        or none, and is left to the model otherwise (`crp.prepared`).
    skip_bad
        Whether to skip samples that cannot be read or on which the model fails. The library lists them. Everything else
        in it is as if other samples had been in their places.
    extend
        A library of the first samples of `dataset`, mined with the same settings. Its samples are not computed again.
        The result is the library of the whole data set.
    distributed
        Whether to share the work with the other processes that torchrun started. All of them must make this call.
    shard
        `(i, n)`: compute only part i of n (1 to n) of the pass over the data set. After all parts, `merge`, or this
        call without `shard`, makes the library.
    checkpoint
        Seconds between checkpoints: an interruption loses at most this much work.
    progress
        Whether to show progress bars. Estimates of time and disk space are logged after the first block.
    overwrite
        Whether a library at `path` may be replaced. The names that people gave to its concepts are kept.
    restart
        Whether to discard what an interrupted run left and start again.

    Returns
    -------
    Library
        The opened library, which makes patches when they are needed; None for a shard.

    Raises
    ------
    InputError
        If an argument is invalid: layer, score, target rule, class names, data set.
    SampleError
        If a sample cannot be used; names it.
    ModelError
        If the model cannot be explained.
    LibraryError
        If the path is taken or cannot be written, another process is mining to it, an interrupted run there mined
        something else, or the library to extend does not fit.
    """
    path = user_path(path)
    if isinstance(layers, Mapping):
        if concept is not CHANNELS:
            raise InputError("Kinds of concept are given twice, as layers= and as concept=.")
        concept, layers = dict(layers), list(layers)
    layers = layer_names(layers)
    checkpoint = seconds("checkpoint", checkpoint)
    if isinstance(model, PreparedModel):
        raise InputError("mine prepares the model itself: give the model, not what crp.prepared returned.")
    if not layers:
        raise InputError("No layers are given; at least one is needed.")
    if precision == "tf32" and "cuda" not in (kind := str(device or device_of(model))):
        raise InputError(f"The precision 'tf32' needs an NVIDIA GPU, but the device is {kind}.")
    settings = Settings(
        k=k,
        top=top,
        class_references=class_references,
        vectors=vectors,
        patches=patches,
        patches_now=patches_now or ("none" if patch_concepts is None else "all"),
        block_size=block_size,
        threads=threads,
        workers=workers,
        precision=precision,
        skip_bad=skip_bad,
        targets=targets,
        concept=concept,
        layouts=layouts,
        relevance_score=Score(relevance_score),
        activation_score=Score(activation_score),
        device=device,
        shard=chosen_shard(shard, distributed=distributed, restart=restart),
    )
    check_free(path, overwrite=overwrite)
    if composite is None and extend is not None:
        composite = rules_in(open_library(extend).manifest)
    settings = replace(settings, threads=threads or _stored_threads(path, extend, restart) or THREADS)
    names = None if class_names is None else as_class_names(class_names)
    shown = Shown(names, preprocessing, source, probabilities=way_to_probabilities(probabilities))
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
            _finish(plan, work, shared, extend)
    library = open_library(path)
    library.samples = dataset
    if settings.patches:
        library.supply = Supply(plan.patch_maker(), settings.threads, progress)
    return library


def _survey(plan: MiningPlan, work: Work, state: Path | None, shared: Sharing) -> None:
    """Make the pass over the data set, starting from `state` if a library is extended."""
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
            layouts=plan.subject.layouts,
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
            sharing=shared,
        ).run(state)


def _finish(plan: MiningPlan, work: Work, shared: Sharing, extend: str | os.PathLike[str] | None) -> None:
    """Make the patches; then the first process writes the manifest and moves the library to its place."""
    settings, processes = plan.settings, shared.processes
    count, now = settings.patches, settings.made_now
    make_patches(work, plan.patch_maker(), plan.sizes, plan.concepts, count, now, settings.k, shared)
    if processes.first:
        logger.info("Peak memory: %s.", peak_memory())
        if extend is not None:
            keep_names(user_path(extend), work.library)
        _complete(work, plan)
    processes.wait()


def _stored_threads(path: Path, extend: str | os.PathLike[str] | None, restart: bool) -> int | None:
    """Look up the number of threads of the interrupted run, or of the library to extend."""
    stored = None if restart else stored_identity(work_folder(path))
    if stored is not None:
        return stored["manifest"]["settings"]["threads"]
    return None if extend is None else open_library(extend).manifest["settings"]["threads"]


def _complete(work: Work, plan: MiningPlan) -> None:
    """Write the manifest, which is the last file, and move the library to its path."""
    skipped, reader, subject = work.surveyed(), plan.data.reader, plan.subject
    manifest = stored_identity(work.folder)["manifest"]
    manifest["skipped"] = [
        {"sample": sample, "name": reader.failed(sample, fact).name, "fact": fact}
        for sample, fact in sorted(skipped.items())
    ]
    if len(skipped) < len(reader):
        manifest["conservation"] = measured_conservation(
            subject.replica, reader, plan.settings.targets, subject.classes, skipped.keys(), plan.settings.block_size
        )
    if skipped:
        logger.warning("%d of %d samples were skipped; the library lists them.", len(skipped), len(reader))
    write_manifest(work.library, manifest)
    work.publish()
