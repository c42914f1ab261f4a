"""A project for ViRelAy, the viewer of clustered attributions: HDF5 files of samples, heatmaps and clusters.

ViRelAy (Anders et al. 2021, "Software for dataset-wide XAI: from local explanations to global insights with Zennit,
CoRelAy, and ViRelAy") opens `project.yaml` in the folder: `virelay FOLDER/project.yaml`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from crp.analysis.clustering import Strategies, strategies
from crp.attribution import INPUT, RelevanceFlow
from crp.class_names import class_name
from crp.errors import InputError
from crp.extras import optional
from crp.files import user_path
from crp.library.building import new_library
from crp.library.store import Library
from crp.mining.dataset import check_data, data_subject
from crp.mining.mined_model import model_subject
from crp.mining.runtime import surroundings
from crp.models import PreparedModel, check_start, ready_model
from crp.preprocessing import scaled_picture

if TYPE_CHECKING:
    # zennit is loaded by crp.attribution alone, which prepares torchvision for it
    from zennit.core import Composite

_METHOD = "concept relevance, spectral clustering"


def export_virelay(
    library: Library,
    model: nn.Module | PreparedModel,
    dataset: object,
    layer: str,
    path: str | os.PathLike[str],
    *,
    targets: Sequence[int | str] | None = None,
    samples: int = 500,
    clusters: int | None = None,
    composite: Composite | str | None = None,
    device: str | torch.device | None = None,
) -> Path:
    """Cluster some classes by the concept vectors of a layer, and write the result for ViRelAy.

    Parameters
    ----------
    library
        Mined with `vectors=True`.
    model, dataset, composite
        Those that were mined; the model may be prepared by `crp.prepared`.
    layer
        One of the library's layers.
    path
        A folder that does not exist yet.
    targets
        Explained classes, by index or name; by default all with at least 20 samples.
    samples
        Largest number of samples per class, evenly spaced. Pictures and heatmaps are written for each.
    clusters
        As in `crp.analysis.strategies`.
    device
        Where to compute; by default where the model is.

    Returns
    -------
    Path
        The project file to open with ViRelAy.

    Raises
    ------
    InputError
        If there are no vectors, no such layer or class, or no class with enough samples, if samples are not pictures,
        or if h5py or scikit-learn is not installed.
    LibraryError
        If model, data set or composite differ from those that were mined, or the path is taken or cannot be written.
    """
    h5py = optional("h5py", "h5py", "Writing for ViRelAy")
    vectors = library.vectors(layer)
    model = ready_model(model, composite, library=library)
    model.check(library)
    check_start(library)
    chosen = _chosen(library, vectors.target[vectors.mined], targets)
    rows, found = {}, {}
    for target in chosen:
        own = vectors.rows(target=target)
        rows[target] = own[np.linspace(0, len(own) - 1, min(samples, len(own))).astype(int)]
        found[target] = strategies(vectors.relevance[rows[target]], clusters=clusters)
    everything = np.concatenate(list(rows.values()))
    with surroundings(library.manifest["settings"]["threads"]), new_library(user_path(path), overwrite=False) as folder:
        data = data_subject(
            dataset, labelled=False, skip_bad=bool(library.manifest.get("skipped")), preprocessing=library.preprocessing
        )
        check_data(library, data)
        subject = model_subject(model, None, data.reader, [layer], device)
        if len(data.reader.like.shape) != 3:
            raise InputError(f"ViRelAy shows pictures [c, H, W], but samples are {list(data.reader.like.shape)}.")
        to_picture = library.preprocessing.to_picture if library.preprocessing is not None else scaled_picture
        shape, count = tuple(data.reader.like.shape), len(everything)
        explained = vectors.target[everything]
        labels = np.where(vectors.label[everything] >= 0, vectors.label[everything], explained)
        with h5py.File(folder / "dataset.h5", "w") as pictures, h5py.File(folder / "attribution.h5", "w") as heatmaps:
            pictures["label"], pictures["sample"] = labels, everything
            pictures.create_dataset("data", (count, *shape[1:], 3), np.uint8)
            heatmaps["label"], heatmaps["index"] = explained, np.arange(count)
            heatmaps.create_dataset("attribution", (count, *shape), np.float32)
            heatmaps.create_dataset("prediction", (count, library.manifest["classes"]), np.float32)
            size = library.manifest["settings"]["block_size"]
            for start in range(0, count, size):
                some = slice(start, min(start + size, count))
                batch = torch.stack([data.reader[int(sample)][0] for sample in everything[some]])
                pictures["data"][some] = np.stack([to_picture(sample) for sample in batch])
                with RelevanceFlow(subject.replica, None, batch) as flow:
                    relevance = flow.down(flow.output_relevance(explained[some]), to=INPUT)[0]
                    heatmaps["attribution"][some] = relevance.float().cpu().numpy()
                    heatmaps["prediction"][some] = flow.prediction.float().cpu().numpy()
        places = np.split(np.arange(count), np.cumsum([len(own) for own in rows.values()])[:-1])
        with h5py.File(folder / "analysis.h5", "w") as analysis:
            for (target, clustered), own in zip(found.items(), places, strict=True):
                _write_analysis(analysis.create_group(_category(target)), clustered, own)
        _write_project(folder, library, layer)
    return user_path(path) / "project.yaml"


def _chosen(library: Library, explained: np.ndarray, targets: Sequence[int | str] | None) -> list[int]:
    if targets is not None:
        return [library.class_index(target) for target in targets]
    chosen = np.flatnonzero(np.bincount(explained) >= 20).tolist()
    if not chosen:
        raise InputError("No class has 20 explained samples; name the classes to write (targets=).")
    return chosen


def _category(target: int) -> str:
    """Return the identifier of a class, which ViRelAy uses as its WordNet id to look up the class's name."""
    return f"class{target:05d}"


def _write_analysis(group: object, clustered: Strategies, own: np.ndarray) -> None:
    group["index"] = own
    group["cluster/spectral"] = clustered.cluster
    group["embedding/spectral"] = clustered.embedding.astype(np.float32)
    group["embedding/spectral"].attrs["eigenvalue"] = clustered.eigenvalues.astype(np.float32)


def _write_project(folder: Path, library: Library, layer: str) -> None:
    labels = [
        {"index": index, "word_net_id": _category(index), "name": class_name(library.class_names, index)}
        for index in range(library.manifest["classes"])
    ]
    by_prediction = library.manifest["settings"]["targets"] == "prediction"
    project = {
        "name": f"{library.path.name}, layer {layer}",
        "model": str(library.manifest["model"].get("class")),
        "label_map": "labels.json",
        "dataset": {"name": library.path.name, "type": "hdf5", "path": "dataset.h5"},
        "attributions": {
            "attribution_method": f"LRP, {library.manifest['composite']['name']}",
            "attribution_strategy": "predicted_label" if by_prediction else "true_label",
            "sources": ["attribution.h5"],
        },
        "analyses": [{"analysis_method": _METHOD, "sources": ["analysis.h5"]}],
    }
    (folder / "labels.json").write_text(json.dumps(labels, indent=1, ensure_ascii=False), encoding="utf-8")
    # JSON is also YAML
    (folder / "project.yaml").write_text(json.dumps({"project": project}, indent=1), encoding="utf-8")
