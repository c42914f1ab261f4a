"""`mine` and `add_patches`: checks, then one pass, then patches, then a folder that appears at once."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from crp.attribution.layers import receptive_boxes
from crp.concepts import ChannelConcept, ConceptKind
from crp.errors import InputError, LibraryError
from crp.images import Preprocessing, scaled_picture
from crp.library.building import new_library
from crp.library.checksums import replace_file
from crp.library.manifest import layer_folder, write_manifest
from crp.library.patches import MODES, encoded, write_patches
from crp.library.store import Library, open_library
from crp.library.tables import write_table

from .blocks import blocks
from .estimate import estimate
from .patches import PatchMaker, requests
from .scores import Score
from .statistics import LEADING
from .subjects import (
    DataSubject,
    ModelSubject,
    check_composite,
    check_data,
    check_shapes,
    data_subject,
    model_subject,
)
from .surroundings import surroundings
from .survey import Surveyor, run_survey, sizes_of
from .tally import Survey, Tally
from .targets import TargetRule, check_rule, rule_name

if TYPE_CHECKING:
    # zennit is loaded by crp.attribution alone, which prepares torchvision for it
    from zennit.core import Composite

logger = logging.getLogger(__name__)

CHANNELS = ChannelConcept()

# Of the pass over the data set.
_PRECISIONS = {None: None, "bfloat16": torch.bfloat16}

# Longest side of a stored patch, in pixels: what fits a page of them, several in a row.
PATCH_SIZE = 96


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
    precision: str | None = None,
    relevance_score: str = "sum/divided",
    activation_score: str = "max",
    block_size: int = 32,
    workers: int = 0,
    device: str | torch.device | None = None,
    patches: int = 8,
    patch_concepts: Mapping[str, Iterable[int]] | None = None,
    class_names: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
    source: Mapping[str, Any] | None = None,
    progress: bool = True,
    overwrite: bool = False,
) -> Library:
    """Find the samples that show each concept of a model, and keep them in a library on disk.

    One pass over the data set in absolute blocks, then one forward pass for each reference sample that patches are cut
    from. The library is the same, byte for byte, whatever `workers` is. Until it is complete it stands beside `path`;
    after an error or an interruption nothing is left.

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
    precision
        `"bfloat16"` for a faster pass over the data set, or None for the model's own. Lists of references then differ a
        little (docs/performance.md says how much). Scores are stored in float32, and patches are made in the model's
        own precision.
    relevance_score, activation_score
        `"sum"`, `"max"`, `"sum/divided"` or `"max/divided"`; see `crp.mining.scores`.
    block_size
        Samples computed at a time. It is stored, for the last bits of relevance depend on it.
    workers
        Processes that read ahead.
    device
        Where to compute; by default where the model is. The model itself stays where it is.
    patches
        Patches of each concept and mode (at most `k`); 0 for none. Inputs must be `[c, H, W]` for patches.
    patch_concepts
        By layer, the concepts to make patches of; by default all. Others are added later by `add_patches`.
    class_names
        One for each output.
    preprocessing
        How pictures became the samples; used to show samples as pictures, and stored for the atlas. By default the
        smallest value of a sample is shown black, the largest white.
    source
        Plain values that say where model and data set come from; stored as they are.
    progress
        Whether to show progress bars. The estimate of time and disk is logged after the first block.
    overwrite
        Whether a library at `path` may be replaced.

    Returns
    -------
    Library
        Opened.

    Raises
    ------
    InputError
        If an argument does not fit: layer, score, target rule, class names, data set.
    SampleError
        If a sample cannot be used; names it.
    ModelError
        If the model cannot be explained.
    LibraryError
        If the path is taken or cannot be written.
    """
    path = Path(path)
    layers = list(dict.fromkeys([layers] if isinstance(layers, str) else layers))
    if not layers:
        raise InputError("No layers are given; at least one is needed.")
    for name, value in (("k", k), ("top", top), ("block_size", block_size), ("workers", workers), ("patches", patches)):
        least = 0 if name in ("workers", "patches") else 1
        if not isinstance(value, int) or value < least:
            raise InputError(f"{name} is {value!r}; a whole number of at least {least} is needed.")
    if precision not in _PRECISIONS:
        raise InputError(f"There is no precision {precision!r}: it is 'bfloat16', or None for the model's own.")
    check_rule(targets)
    scores = {"relevance_score": Score(relevance_score), "activation_score": Score(activation_score)}
    patches = min(patches, k)
    threads = torch.get_num_threads()

    with surroundings(threads), new_library(path, overwrite=overwrite) as folder:
        data = data_subject(dataset, labelled=targets == "label")
        to_picture = preprocessing.to_picture if preprocessing is not None else scaled_picture
        if patches:
            _check_pictures(data.reader.like, to_picture)
        subject = model_subject(
            model,
            composite,
            data.reader,
            layers,
            device,
            _PRECISIONS[precision],
            targets=targets,
            classes=len(class_names) if class_names is not None else None,
        )
        if class_names is not None and len(class_names) != subject.classes:
            raise InputError(f"There are {len(class_names)} class names, and the model has {subject.classes} classes.")
        sizes = sizes_of(concept, subject.shapes)
        concepts = _patch_concepts(sizes, patch_concepts, patches)
        fields = _fields(model, data.reader.like, layers) if patches else {}
        expected = estimate(
            len(data.reader),
            subject.classes,
            subject.shapes,
            k,
            {layer: 2 * patches * len(ids) for layer, ids in concepts.items()},
            fields,
            PATCH_SIZE,
        )
        survey = run_survey(
            Surveyor(
                subject.survey, Tally(sizes, subject.classes, k, top), concept=concept, targets=targets, **scores
            ),
            blocks(data.reader, block_size, workers, data.digests),
            len(data.reader),
            after_first=lambda seconds: logger.info("Mining: %s", expected.sentence(seconds)),
            progress=progress,
        )
        own_start = targets if subject.start == "function" else None
        maker = PatchMaker(subject.replica, own_start, concept, data.reader, fields, to_picture, PATCH_SIZE)
        made = maker.make(requests(survey.references, concepts, patches), concepts, progress=progress)
        for layer in layers:
            tables = folder / "layers" / layer_folder(layer)
            tables.mkdir(parents=True)
            write_survey(tables, survey, layer)
            write_patches(tables / "patches.safetensors", made[layer])
        settings = {
            "k": k,
            "top": top,
            "patches": patches,
            "concept": type(concept).__name__,
            "targets": rule_name(targets),
            "block_size": block_size,
            "precision": precision or data.data["dtype"],
            "threads": threads,
            "device": str(torch.device(device).type if device is not None else _device_of(model)),
        }
        shown = {"class_names": class_names, "preprocessing": preprocessing, "source": source}
        write_manifest(folder, described(subject, data, sizes, scores, settings, **shown))
    return open_library(path)


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
    concepts = sorted(set(concepts))
    library.check_concepts(layer, concepts)
    library.check_model(model)
    library.check_concept_kind(concept)
    settings = library.manifest["settings"]
    if not settings["patches"]:
        raise LibraryError(f"The library '{library.path}' was mined with patches=0: mine again with patches.")
    if settings["start"] == "function" and (targets is None or rule_name(targets) != settings["targets"]):
        raise LibraryError(
            f"The library '{library.path}' starts relevance as the function {settings['targets']!r} says: give it as "
            "targets=."
        )
    with surroundings(settings["threads"]):
        data = data_subject(dataset, labelled=False)
        check_data(library, data)
        explained = {"targets": targets or "prediction", "classes": library.manifest["classes"]}
        subject = model_subject(model, composite, data.reader, [layer], device, **explained)
        check_composite(library, subject.composite)
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
            _fields(model, data.reader.like, [layer]),
            preprocessing.to_picture if preprocessing is not None else scaled_picture,
            settings["patch_size"],
        )
        made = maker.make(requests(references, missing, settings["patches"]), missing, progress=progress)
        replace_file(library.path, library.file(layer, "patches"), encoded({**stored, **made[layer]}))


def _check_pictures(sample: Tensor, to_picture: Callable[[Tensor], np.ndarray]) -> None:
    if sample.ndim != 3:
        shape = list(sample.shape)
        raise InputError(
            f"Samples of shape {shape} cannot be shown as pictures; pass patches=0 to mine without patches."
        )
    to_picture(sample)  # refuses a sample that the preprocessing does not fit, before the pass


def _patch_concepts(
    sizes: Mapping[str, int], chosen: Mapping[str, Iterable[int]] | None, patches: int
) -> dict[str, list[int]]:
    """By layer, the concepts to make patches of."""
    if not patches:
        return {layer: [] for layer in sizes}
    if chosen is None:
        return {layer: list(range(size)) for layer, size in sizes.items()}
    for layer, ids in chosen.items():
        if layer not in sizes:
            raise InputError(f"patch_concepts names layer {layer!r}, which is not among the layers to mine.")
        for concept in ids:
            if not 0 <= concept < sizes[layer]:
                raise InputError(
                    f"There is no concept {concept}: layer {layer!r} has the concepts 0 to {sizes[layer] - 1}."
                )
    return {layer: sorted(set(chosen.get(layer, ()))) for layer in sizes}


def _fields(model: nn.Module, sample: Tensor, layers: Sequence[str]) -> dict[str, np.ndarray]:
    """Receptive fields of each layer's positions, int64 `[positions, 4]`, none of them empty."""
    fields = {layer: receptive_boxes(model, tuple(sample.shape), layer).numpy() for layer in layers}
    for field in fields.values():
        # A position that sees nothing but padding has an empty field; its patch shows the whole sample.
        field[(field[:, 2:] <= field[:, :2]).any(1)] = [0, 0, *sample.shape[1:]]
    return fields


def write_survey(tables: Path, survey: Survey, layer: str) -> None:
    """Write references and class statistics of one layer into its folder."""
    arrays = {}
    for mode in MODES:
        found = survey.references[layer, mode]
        arrays |= {f"{mode}.{name}": getattr(found, name) for name in ("sample", "score", "target", "position")}
    write_table(tables / "references.safetensors", arrays)
    write_table(tables / "statistics.safetensors", vars(survey.statistics[layer]))


def described(
    subject: ModelSubject,
    data: DataSubject,
    sizes: Mapping[str, int],
    scores: Mapping[str, Score],
    settings: Mapping[str, Any],
    *,
    class_names: Sequence[str] | None,
    preprocessing: Preprocessing | None,
    source: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Put together the manifest of a library (docs/library-format.md)."""
    return {
        "versions": _versions(),
        "model": subject.model,
        "data": data.data,
        "classes": subject.classes,
        "class_names": list(class_names) if class_names is not None else None,
        "layers": [
            {"name": layer, "shape": list(subject.shapes[layer]), "concepts": size} for layer, size in sizes.items()
        ],
        "composite": subject.composite,
        "preprocessing": preprocessing.to_json() if preprocessing is not None else None,
        "source": dict(source) if source is not None else None,
        "settings": {
            **settings,
            "patch_size": PATCH_SIZE,
            "start": subject.start,
            **{name: score.name for name, score in scores.items()},
        },
        "definitions": {name: score.definition for name, score in scores.items()},
    }


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("crp-atlas", "torch", "zennit", "numpy", "Pillow")}


def _device_of(model: nn.Module) -> str:
    return next(model.parameters()).device.type
