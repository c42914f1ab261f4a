"""Converts the files of zennit-crp's `FeatureVisualization` to a library, and back."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from crp.class_names import as_class_names
from crp.concepts import ChannelConcept
from crp.errors import InputError, LibraryError
from crp.files import user_path
from crp.legacy.stored import load_maximization, load_stat_targets, load_statistics, sub_folder, write_tables
from crp.library.building import new_library
from crp.library.manifest import layer_folder, write_manifest
from crp.library.patches import write_patches
from crp.library.references import References
from crp.library.store import Library, open_library
from crp.mining.block_stream import SampleReader
from crp.mining.class_sums import LEADING
from crp.mining.dataset import data_subject
from crp.mining.durable.stages import write_survey
from crp.mining.mined_model import model_subject
from crp.mining.mining_plan import Shown, described
from crp.mining.scores import Score
from crp.mining.tally import Tally

if TYPE_CHECKING:
    # zennit is loaded by crp.attribution alone, which prepares torchvision for it
    from zennit.core import Composite

    from crp.preprocessing import Preprocessing

# zennit-crp does not look for negative relevance.
_THEIRS = ("relevance", "activation")


def import_zennit_crp(
    path: str | os.PathLike[str],
    model: nn.Module,
    dataset: object,
    layers: Sequence[str],
    out: str | os.PathLike[str],
    *,
    composite: Composite | str = "epsilon-plus-flat",
    max_target: str = "sum",
    abs_norm: bool = True,
    patches: int = 8,
    class_names: Sequence[str] | Mapping[int, str] | None = None,
    preprocessing: Preprocessing | None = None,
    device: str | torch.device | None = None,
    overwrite: bool = False,
) -> Library:
    """Make a library from the files that a run of zennit-crp's `FeatureVisualization` wrote.

    References are copied. The explained class of a reference is read from the statistics files, or from the data set's
    labels if there are none. Patches are not made; use `crp.add_patches`. The class statistics are empty (of no
    samples), because zennit-crp has them only for the best 40 samples of a class.

    Parameters
    ----------
    path
        The path that was given to `FeatureVisualization`.
    model, dataset, composite
        Those that were mined, the data set with `preprocess_fn` applied. The files do not identify them; it is only
        checked that samples, concepts and positions exist. zennit-crp has one composite for relevance at layers and for
        heatmaps, so the default has one set of rules.
    layers
        Names of layers.
    out
        Folder of the library.
    max_target, abs_norm
        Which scores, as given to `FeatureVisualization`.
    patches
        Number of patches of each concept and mode that `crp.add_patches` will make.
    class_names, preprocessing, device, overwrite
        As in `crp.mine`.

    Raises
    ------
    FileNotFoundError
        If a layer's files do not exist.
    LibraryError
        If they are damaged or do not fit model or data set, or `out` is taken.
    """
    score = Score(f"{max_target}/divided" if abs_norm else max_target)
    path, layers = user_path(path), list(layers)
    names = None if class_names is None else as_class_names(class_names)
    with new_library(user_path(out), overwrite=overwrite) as folder:
        data = data_subject(dataset, labelled=False, preprocessing=preprocessing)
        subject = model_subject(model, composite, data.reader, layers, device)
        references = {}
        for layer in layers:
            if subject.layouts[layer].last:
                raise InputError(
                    f"Files of zennit-crp count concepts on the second axis, and layer '{layer}' has its channels on "
                    "the last one: mine it."
                )
            for mode in _THEIRS:
                tables = load_maximization(path / sub_folder("Max", mode, max_target, abs_norm), layer)
                stats = path / sub_folder("Stats", mode, max_target, abs_norm)
                _check_fits(tables, layer, subject.layouts[layer].shape, len(data.reader))
                targets = _explained(tables, stats, layer, data.reader)
                references[layer, mode] = [np.ascontiguousarray(table.T) for table in (*tables, targets)]
        k = max(samples.shape[1] for samples, *_ in references.values())
        sizes = {layer: subject.layouts[layer].channels for layer in layers}
        empty = Tally(sizes, subject.classes, k, LEADING, 0).result()
        filled = {key: _filled_up(k, *found) for key, found in references.items()}
        survey = replace(empty, references={**empty.references, **filled})
        for layer in layers:
            write_survey(folder / "layers" / layer_folder(layer), survey, layer)
            write_patches(folder / "layers" / layer_folder(layer) / "patches.safetensors", {})
        settings = {
            "k": k,
            "top": LEADING,
            "class_references": 0,
            "vectors": False,
            "patches": min(patches, k),
            "concept": ChannelConcept.__name__,
            "targets": "label",
            "block_size": 0,  # not known
            "precision": "not known",
            "threads": torch.get_num_threads(),
            "device": "not known",
        }
        shown = Shown(names, preprocessing, {"imported from": "zennit-crp"})
        scores = {f"{mode}_score": score for mode in _THEIRS}
        write_manifest(folder, described(subject, data, sizes, scores, settings, shown, {layer: {} for layer in sizes}))
    return open_library(out)


def export_zennit_crp(library: Library, path: str | os.PathLike[str]) -> None:
    """Write a library's references as files of zennit-crp, for code that reads them.

    Statistics are not written, because zennit-crp's statistics are the best samples of each class.

    Parameters
    ----------
    library
        The library.
    path
        Folder in which `RelMax_...` and `ActMax_...` are written.
    """
    for mode in _THEIRS:
        name, _, divided = library.manifest["settings"][f"{mode}_score"].partition("/")
        for layer in library.layers:
            found = library.references(layer, mode)
            kept = found.sample[0] >= 0  # lists of all concepts of a layer have the same length
            tables = (table[:, kept].T for table in (found.sample, found.score, found.position))
            write_tables(user_path(path) / sub_folder("Max", mode, name, bool(divided)) / f"{layer}_", *tables)


def _check_fits(tables: Sequence[np.ndarray], layer: str, shape: Sequence[int], length: int) -> None:
    samples, _, positions = tables
    if samples.shape[1] != shape[0]:
        raise LibraryError(f"The files of '{layer}' have {samples.shape[1]} concepts, the model's layer {shape[0]}.")
    for table, what, count in ((samples, "sample", length), (positions, "position", int(np.prod(shape[1:])))):
        wrong = table[(table < 0) | (table >= count)]
        if len(wrong):
            raise LibraryError(f"The files of layer '{layer}' name {what} {wrong[0]}, and there are {count}.")


def _explained(tables: Sequence[np.ndarray], stats: Path, layer: str, reader: SampleReader) -> np.ndarray:
    """Find the class of each reference, int64 `[n, C]`: the one whose statistics hold it with the same score."""
    samples, scores, _ = tables
    targets = np.full(samples.shape, -1, dtype=np.int64)
    for target in load_stat_targets(stats).tolist() if (stats / "targets.npy").is_file() else ():
        own, own_scores, _ = load_statistics(stats, layer, target)
        # [references, of the class, concepts], at most 40 x 40 x C
        same = (own[None] == samples[:, None]) & (own_scores[None] == scores[:, None])
        targets[same.any(1) & (targets < 0)] = target
    for sample in np.unique(samples[targets < 0]).tolist():
        label = reader[sample][1]
        if isinstance(label, int):  # it is not known which of several it was
            targets[(targets < 0) & (samples == sample)] = label
    return targets


def _filled_up(
    k: int, samples: np.ndarray, scores: np.ndarray, positions: np.ndarray, targets: np.ndarray
) -> References:
    """Extend lists to references `[C, k]`; unused entries are those of `crp.mining.topk.TopK`."""

    def wide(table: np.ndarray, dtype: type, empty: float) -> np.ndarray:
        return np.pad(table.astype(dtype), ((0, 0), (0, k - table.shape[1])), constant_values=empty)

    return References(
        sample=wide(samples, np.int64, -1),
        score=wide(scores, np.float32, -np.inf),
        target=wide(targets, np.int64, -1),
        position=wide(positions, np.int64, 0),
    )
