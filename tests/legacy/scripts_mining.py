"""Code written for zennit-crp's mining and pictures, run twice like scripts.py: against its wheel, and against ours.

What zennit-crp gets wrong is left out here, and tested by name: ties, references of several labels, crops.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn
from zennit.composites import EpsilonPlusFlat

from crp.attribution import CondAttribution
from crp.cache import ImageCache
from crp.concepts import ChannelConcept
from crp.helper import load_maximization, load_stat_targets, load_statistics
from crp.image import imgify, vis_img_heatmap, vis_opaque_img
from crp.maximization import Maximization
from crp.statistics import Statistics
from crp.visualization import FeatureVisualization
from tests.oracle.nets import plain_net, with_random_weights

LAYERS = ("conv1", "conv2", "linear1")


def net() -> nn.Module:
    return with_random_weights(plain_net(), 3)


class Samples:
    """50 samples of 3 classes; with several labels, each sample has one to three."""

    def __init__(self, several=False):
        generator = torch.Generator().manual_seed(9)
        self.data = torch.randn(50, 2, 8, 8, generator=generator, dtype=torch.float64)
        self.labels = torch.randint(3, (50,), generator=generator).tolist()
        self.several = several

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        label = self.labels[index]
        return self.data[index], [int(c == label or (index + c) % 4 == 0) for c in range(3)] if self.several else label


class MultiLabel(FeatureVisualization):
    def multitarget_to_single(self, multi_target):
        return list(np.flatnonzero(multi_target))


class Clamping(Maximization):
    """Counts no negative values."""

    def analyze_layer(self, rel, concept, layer_name, data_indices, targets):
        return super().analyze_layer(rel.clamp(min=0), concept, layer_name, data_indices, targets)


class Clamped(FeatureVisualization):
    def __init__(self, *args, path="FeatureVisualization", **options):
        super().__init__(*args, path=path, **options)
        self.RelMax = Clamping("relevance", "sum", True, path)
        self.ActMax = Clamping("activation", "max", False, path)


class Doubling(FeatureVisualization):
    """Preprocesses, and reads samples, in its own way."""

    def preprocess_data(self, data):
        return 2 * data

    def get_data_sample(self, index, preprocessing=True):
        data, target = super().get_data_sample(index, preprocessing)
        return data.detach().flip(-1).requires_grad_(), target


def visualization(path, kind=FeatureVisualization, samples=None, **options):
    attribution = CondAttribution(net())
    return kind(attribution, samples or Samples(), dict.fromkeys(LAYERS, ChannelConcept()), path=path, **options)


def told_apart(tables):
    """Samples and positions -1 where others score the same, for zennit-crp leaves the order of these to chance.

    Others that are not among the 40 may score what the last one does.
    """
    samples, scores, positions = (torch.from_numpy(np.array(table)) for table in tables)
    tied = ((scores[:, None] == scores[None]).sum(0) > 1) | ((scores == scores[-1]) & (len(scores) == 40))
    clear = (table.masked_fill(tied, -1).short() for table in (samples, positions))
    return dict(zip(("sample", "position", "score"), (*clear, scores), strict=True))


def tables_of(fv, modes=("relevance", "activation"), statistics=("relevance", "activation")):
    found = {}
    for mode, best, classes in (("relevance", fv.RelMax, fv.RelStats), ("activation", fv.ActMax, fv.ActStats)):
        for layer in LAYERS:
            if mode in modes:
                for name, table in told_apart(load_maximization(best.PATH, layer)).items():
                    found[f"{mode}/{layer}/{name}"] = table
            for target in load_stat_targets(classes.PATH).tolist() if mode in statistics else ():
                for name, table in told_apart(load_statistics(classes.PATH, layer, target)).items():
                    found[f"{mode}/{layer}/{target}/{name}"] = table
    return found


def in_folder(function):
    """Run with an empty folder that is removed afterwards."""

    def run():
        with tempfile.TemporaryDirectory() as folder:
            return function(folder)

    run.__name__ = function.__name__
    return run


def names_in(folder):
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*.npy"))


@in_folder
def mined(folder):
    found = {}
    for target, divided in (("sum", True), ("max", False)):
        fv = visualization(f"{folder}/{target}", max_target=target, abs_norm=divided)
        files = fv.run(EpsilonPlusFlat(), 0, 50, batch_size=8, checkpoint=3)
        found |= {f"{target}/{name}": table for name, table in tables_of(fv).items()}
        found[f"{target}/returned"] = {
            name: sorted(str(Path(path).relative_to(folder)) for path in paths) for name, paths in files.items()
        }
    found["files"] = names_in(folder)
    return found


@in_folder
def mined_in_parts(folder):
    """Two processes, each with its part of the data set, and a third that merges."""
    fv, parts = visualization(folder), []
    for start, end in ((0, 24), (24, 50)):
        parts.append(visualization(folder).run_distributed(EpsilonPlusFlat(), start, end, batch_size=4))
    found = {"keys": list(parts[0])}
    fv.collect_results({name: parts[0][name] + parts[1][name] for name in parts[0]})
    return found | tables_of(fv, statistics=["relevance"])


@in_folder
def mined_with_several_labels(folder):
    fv = visualization(folder, MultiLabel, Samples(several=True))
    fv.run(EpsilonPlusFlat(), 0, 50, batch_size=8)
    return tables_of(fv, modes=["activation"], statistics=["relevance"])


@in_folder
def mined_with_each_target_counted(folder):
    """A sample of several labels is listed for each of them, as zennit-crp does by default."""
    fv = visualization(folder, MultiLabel, Samples(several=True))
    fv.RelMax.LIST_SAMPLES_ONCE = False
    fv.run(EpsilonPlusFlat(), 0, 24, batch_size=8)
    return {"length": len(load_maximization(fv.RelMax.PATH, "conv2")[0])} | tables_of(fv, ["relevance"], ["relevance"])


@in_folder
def mined_by_subclasses(folder):
    found = {}
    for kind in (Clamped, Doubling):
        fv = visualization(f"{folder}/{kind.__name__}", kind)
        fv.run(EpsilonPlusFlat(), 0, 50, batch_size=8)
        found |= {f"{kind.__name__}/{name}": table for name, table in tables_of(fv).items()}
    return found


@in_folder
def references(folder):
    """Samples and heatmaps; classes; all numbers of the layers' concepts that have no ties among them."""
    fv, found = visualization(folder, preprocess_fn=lambda data: data / 2), {}
    fv.run(EpsilonPlusFlat(), 0, 50, batch_size=8)
    for mode in ("relevance", "activation"):
        for rf in (False, True):
            drawn = fv.get_max_reference([1, 2], "conv2", mode, (0, 3), EpsilonPlusFlat(), rf, None)
            for concept, (data, heatmaps) in drawn.items():
                found[f"{mode}/{rf}/{concept}/data"], found[f"{mode}/{rf}/{concept}/heatmap"] = data, heatmaps
        targets, means = fv.compute_stats(1, "conv2", mode, top_N=2, mean_N=4)
        found[f"{mode}/classes"], found[f"{mode}/means"] = torch.as_tensor(targets), means
        found[f"{mode}/divided"] = fv.compute_stats(1, "conv2", mode, top_N=2, mean_N=4, norm=True)[1]
        drawn = fv.get_stats_reference(1, "conv2", targets.tolist(), mode, (1, 3), EpsilonPlusFlat(), plot_fn=None)
        for key, (data, heatmaps) in drawn.items():
            found[f"{mode}/{key}/data"], found[f"{mode}/{key}/heatmap"] = data, heatmaps
    found["no heatmaps"] = fv.get_max_reference([4], "linear1", "activation", (0, 2))[4]
    flat = fv.get_max_reference([4], "linear1", "activation", (0, 2), EpsilonPlusFlat(), True, None)
    found["position 0"] = flat[4][1]
    seen = []
    fv.get_max_reference([1], "conv2", "relevance", (0, 2), EpsilonPlusFlat(), True, lambda *given: seen.extend(given))
    found["seen"] = [list(seen[0].shape), list(seen[1].shape), seen[2]]
    return found


@in_folder
def maximization(folder):
    """A layer analysed by hand, batch after batch."""
    generator, found = torch.Generator().manual_seed(2), {}
    best, classes = Maximization("relevance", "max", True, folder), Statistics("relevance", "max", True, folder)
    for batch in range(3):
        relevance = torch.randn(25, 4, 3, generator=generator, dtype=torch.float64)
        rows = best.analyze_layer(
            relevance, ChannelConcept(), "layer", np.arange(25) + 25 * batch, np.arange(25) % 2
        )
        classes.analyze_layer(*rows, "layer")
        found |= {f"batch {batch}/{place}": table for place, table in enumerate(rows)}
    for name in ("d_c_sorted", "rel_c_sorted", "rf_c_sorted"):
        found[name] = getattr(best, name)["layer"]
        for target in (0, 1):
            found[f"{name}/{target}"] = getattr(classes, name)[target]["layer"]
    found["paths"] = [str(each.PATH.relative_to(folder)) for each in (best, classes)]
    found["part"] = [str(Path(path).relative_to(folder)) for path in best._save_results((0, 75))]
    found["part of classes"] = sorted(str(Path(path).relative_to(folder)) for path in classes._save_results((0, 75)))
    found["files"] = names_in(folder)
    return found


def pictures():
    generator = torch.Generator().manual_seed(1)
    data = torch.rand(2, 3, 24, 20, generator=generator, dtype=torch.float64)
    heatmaps = torch.randn(2, 24, 20, generator=generator, dtype=torch.float64)
    made = {
        "opaque": vis_opaque_img(data, heatmaps),
        "opaque, other options": vis_opaque_img(data, heatmaps, alpha=0.6, vis_th=0.5, kernel_size=9),
        "data": vis_img_heatmap(data, heatmaps)[0],
        "heatmap": vis_img_heatmap(data, heatmaps)[1],
        "heatmap, other options": vis_img_heatmap(data, heatmaps, cmap="coldnhot", vmin=-1, vmax=2, symmetric=False)[1],
        "imgify": [
            imgify(data[0]),
            imgify(heatmaps[0].numpy(), cmap="hot", level=2.0),
            imgify(heatmaps, symmetric=True, grid=(1, 2)),
            imgify(data[0], resize=12),
            imgify(data[0], resize=30, padding=True),
            imgify(imgify(data[0]), padding=True),
        ],
    }
    return {
        f"{name}/{place}": torch.from_numpy(np.asarray(image.convert("RGBA")).copy()).int()
        for name, images in made.items()
        for place, image in enumerate(images)
    }


@in_folder
def cached(folder):
    cache, composite = ImageCache(folder), EpsilonPlusFlat()
    images = [imgify(torch.full((4, 4), float(value)), vmin=0, vmax=9) for value in range(5)]
    where = "layer.1", "relevance"
    drawn = {3: (images[:3], images[2:]), "4:1": images[:3]}
    cache.save(drawn, *where, (0, 3), composite, True, "get_max_reference", "plot")
    found, missing = cache.load([3, "4:1", 5], *where, (0, 5), composite, True, "get_max_reference", "plot")
    extended = cache.extend_dict({3: ([1], [2]), 4: [1]}, {3: ([3], [4]), 4: [5], 5: [6]})
    return {
        "files": sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*.png")),
        "found": {str(key): [len(value), type(value).__name__] for key, value in found.items()},
        "missing": {str(key): list(value) for key, value in missing.items()},
        "pixels": torch.from_numpy(np.stack([np.asarray(image.convert("RGB")) for image in found[3][1]])).int(),
        "extended": {str(key): value for key, value in extended.items()},
    }


def leave_a_run(archive):
    """Zip what a run leaves, for the tests of reading and importing it."""
    with tempfile.TemporaryDirectory() as folder:
        visualization(f"{folder}/run", MultiLabel, Samples(several=True)).run(EpsilonPlusFlat(), 0, 46, batch_size=8)
        shutil.make_archive(archive, "zip", f"{folder}/run")


MINED = (
    mined,
    mined_in_parts,
    mined_with_several_labels,
    mined_with_each_target_counted,
    mined_by_subclasses,
    references,
)
ALL = (*MINED, maximization, pictures, cached)
