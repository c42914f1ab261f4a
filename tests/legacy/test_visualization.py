"""zennit-crp's `FeatureVisualization`: equal to what it found, and right where it was not."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset
from zennit.composites import EpsilonPlusFlat

from crp.attribution import CondAttribution
from crp.concepts import ChannelConcept
from crp.errors import InputError, SampleError
from crp.hooks import FeatVisHook
from crp.legacy.feature_visualization import FeatureVisualization
from crp.legacy.stored import load_maximization, load_stat_targets, load_statistics
from crp.maximization import Maximization
from tests.legacy import scripts_mining
from tests.legacy.feature_visualizations import drawing, mined
from tests.legacy.golden import assert_as_recorded
from tests.legacy.scripts_mining import MultiLabel, Samples, net, visualization
from tests.legacy.test_inventory import MODULES
from tests.oracle.comparing import assert_relevance_close


@pytest.mark.parametrize("script", scripts_mining.MINED, ids=lambda script: script.__name__)
def test_as_recorded(script):
    assert_as_recorded(script)


def test_objects_have_the_attributes_they_had(tmp_path):
    fv = drawing(tmp_path)
    objects = {"FeatureVisualization": fv, "Maximization": fv.RelMax, "Statistics": fv.ActStats, "Cache": fv.Cache}
    known = {name: entry for names in MODULES.values() for name, entry in names.items()}
    for name, each in objects.items():
        assert [attribute for attribute in known[name]["attributes"] if not hasattr(each, attribute)] == [], name


# -- mining ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("end", "batch_size"), [(11, 5), (1, 5), (3, 1)])
def test_bug_one_sample_left_in_the_last_batch_crashed(tmp_path, end, batch_size):
    fv = visualization(tmp_path)
    fv.run(EpsilonPlusFlat(), 0, end, batch_size=batch_size)
    samples = load_maximization(fv.RelMax.PATH, "conv2")[0]
    assert np.sort(samples, axis=0).T.tolist() == [list(range(end))] * 5
    classes = {target: len(load_statistics(fv.RelStats.PATH, "conv2", target)[0])
               for target in load_stat_targets(fv.RelStats.PATH)}  # fmt: skip
    labels = Samples().labels[:end]
    assert classes == {target: labels.count(target) for target in set(labels)}


class Ragged(Samples):
    """Labels of different length, of none in samples 5 to 9."""

    def __getitem__(self, index):
        return self.data[index], [] if 5 <= index < 10 else list(range(index % 3 + 1))


class AllLabels(FeatureVisualization):
    def multitarget_to_single(self, multi_target):
        return multi_target


def test_bug_labels_of_different_length_crashed(tmp_path):
    fv = mined(tmp_path, AllLabels, Ragged(), end=21)
    labelled = [index for index in range(21) if not 5 <= index < 10]
    assert sorted(load_maximization(fv.ActMax.PATH, "conv1")[0][:, 0]) == labelled
    for stats in (fv.RelStats, fv.ActStats):
        for target in range(3):
            found = load_statistics(stats.PATH, "conv1", target)[0]
            assert sorted(found[:, 0]) == [index for index in labelled if index % 3 >= target]


def test_bug_a_batch_without_labels_skipped_its_checkpoint(tmp_path):
    fv = visualization(tmp_path, AllLabels, Ragged())
    parts = fv.run_distributed(EpsilonPlusFlat(), 0, 15, batch_size=5, checkpoint=2)
    # the second of the batches has no label
    assert [Path(path).name for path in parts["r_max"] if "conv1" in path] == ["conv1_0_10_", "conv1_10_15_"]


def test_bug_a_run_without_any_label_crashed(tmp_path):
    fv = visualization(tmp_path, AllLabels, Ragged())
    assert fv.run(EpsilonPlusFlat(), 5, 10) == {"r_max": [], "a_max": [], "r_stats": [], "a_stats": []}
    with pytest.raises(FileNotFoundError, match=r"conv1_data\.npy"):
        fv.get_max_reference(0, "conv1")


def test_bug_parts_were_named_from_sample_0(tmp_path):
    parts = visualization(tmp_path).run_distributed(EpsilonPlusFlat(), 20, 30, batch_size=4, checkpoint=2)
    assert [Path(path).name for path in parts["a_max"] if "conv2" in path] == ["conv2_20_28_", "conv2_28_30_"]
    names = {Path(path).name.partition("_")[2] for path in parts["r_stats"]}
    assert names == {"20_28_", "28_30_"}


def test_bug_activation_statistics_counted_the_first_label_only(tmp_path):
    fv = mined(tmp_path, MultiLabel, Samples(several=True), end=20)
    samples = Samples(several=True)
    for target in range(3):
        wanted = [index for index in range(20) if samples[index][1][target]]
        assert sorted(load_statistics(fv.ActStats.PATH, "conv2", target)[0][:, 3]) == wanted


def test_bug_references_of_several_labels_were_listed_several_times(tmp_path):
    fv = mined(tmp_path, MultiLabel, Samples(several=True), end=20)
    samples, scores, _ = load_maximization(fv.RelMax.PATH, "conv2")
    assert np.sort(samples, axis=0).T.tolist() == [list(range(20))] * 5
    # each as it counts most
    rows = {}
    for target in range(3):
        own, own_scores, _ = load_statistics(fv.RelStats.PATH, "conv2", target)
        for sample, score in zip(own[:, 1], own_scores[:, 1], strict=True):
            rows[sample] = max(score, rows.get(sample, -np.inf))
    assert dict(zip(samples[:, 1], scores[:, 1], strict=True)) == rows


def test_bug_an_error_left_hooks_on_the_model(tmp_path):
    class Broken(Samples):
        def __getitem__(self, index):
            if index == 7:
                raise OSError("the disk is gone")
            return super().__getitem__(index)

    fv = visualization(tmp_path, samples=Broken())
    with pytest.raises(OSError, match="the disk is gone"):
        fv.run(EpsilonPlusFlat(), 0, 12, batch_size=5)
    modules = list(fv.attribution.model.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in modules)
    fv.dataset = Samples()
    # and the next run starts from nothing
    fv.run(EpsilonPlusFlat(), 3, 6)
    assert sorted(load_maximization(fv.RelMax.PATH, "conv1")[0][:, 0]) == [3, 4, 5]


def test_bug_mining_went_down_to_the_pixels(tmp_path):
    reached = []

    class Watching(torch.autograd.Function):
        @staticmethod
        def forward(context, data):
            return data.clone()

        @staticmethod
        def backward(context, gradient):
            reached.append(gradient.shape)
            return gradient

    class Watched(nn.Sequential):
        def forward(self, data):
            return super().forward(Watching.apply(data))

    model = Watched(*net().children())
    fv = FeatureVisualization(CondAttribution(model), Samples(), {"3": ChannelConcept()}, path=tmp_path)
    fv.run(EpsilonPlusFlat(), 0, 4)
    assert len(load_maximization(fv.RelMax.PATH, "3")[0]) == 4
    assert reached == []
    fv.get_max_reference(0, "3", composite=EpsilonPlusFlat(), plot_fn=None)
    assert len(reached) == 1  # which it can be


def test_relevance_starts_as_a_subclass_says(tmp_path):
    class Margin(CondAttribution):
        def relevance_init(self, prediction, target_list, init_rel):
            start = -prediction / 2
            for row, targets in enumerate(target_list):
                start[row, targets] = prediction[row, targets]
            return start

    class Halved(CondAttribution):
        def backward(self, pred, grad_mask, *args, **options):
            super().backward(pred, grad_mask / 2, *args, **options)

    found = {}
    for kind in (CondAttribution, Margin, Halved):
        fv = FeatureVisualization(
            kind(net()), Samples(), {"conv2": ChannelConcept()}, abs_norm=False, path=tmp_path / kind.__name__
        )
        fv.run(EpsilonPlusFlat(), 0, 12, batch_size=5)
        found[kind.__name__] = torch.from_numpy(load_maximization(fv.RelMax.PATH, "conv2")[1].copy())
        if kind is Margin:
            data, labels = torch.stack([Samples()[i][0] for i in range(12)]), Samples().labels[:12]
            attr = fv.attribution(data, [{"y": [label]} for label in labels], EpsilonPlusFlat(), ["conv2"])
            expected = attr.relevances["conv2"].sum((2, 3)).sort(0, descending=True)[0]
            assert_relevance_close(found["Margin"], expected, 1e-9)
    assert_relevance_close(2 * found["Halved"], found["CondAttribution"], 1e-9)
    assert not torch.equal(found["Margin"], found["CondAttribution"])


def tables(fv):
    return {layer: load_maximization(fv.RelMax.PATH, layer)[:2] for layer in fv.layer_map}


def test_hooks_and_tables_that_a_script_puts_into_the_module(tmp_path, monkeypatch):
    """zennit-crp's `FeatureVisualization` looks them up in `crp.visualization`."""
    seen = []

    class Halving(FeatVisHook):
        def backward(self, module, grad):
            seen.append((self.layer_name, type(module).__name__, list(grad.shape)))
            super().backward(module, grad / 2)
            return grad

    class Ten(Maximization):
        def __init__(self, *args):
            super().__init__(*args)
            self.SAMPLE_SIZE = 10

    expected = tables(mined(tmp_path / "plain", abs_norm=False))
    monkeypatch.setattr("crp.visualization.FeatVisHook", Halving)
    monkeypatch.setattr("crp.visualization.Maximization", Ten)
    fv = mined(tmp_path / "swapped", abs_norm=False)
    assert len(seen) == 3 * 3
    assert ("conv1", "Conv2d", [5, 4, 8, 8]) in seen
    for layer, (samples, scores) in tables(fv).items():
        assert samples.tolist() == expected[layer][0][:10].tolist()
        np.testing.assert_allclose(2 * scores, expected[layer][1][:10], rtol=1e-9)
    modules = list(fv.attribution.model.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in modules)


def test_methods_replaced_on_an_object_take_effect_in_mining(tmp_path):
    fv = visualization(tmp_path, abs_norm=False)
    backward, doubled = fv.attribution.backward, []

    def twice(pred, grad_mask, *args, **options):
        doubled.append(len(grad_mask))
        backward(pred, 2 * grad_mask, *args, **options)

    fv.attribution.backward = twice
    fv.get_data_sample = functools.partial(FeatureVisualization.get_data_sample, fv)
    fv.multitarget_to_single = lambda label: [(label + 1) % 3]
    fv.run(EpsilonPlusFlat(), 0, 12, batch_size=5)
    assert doubled == [5, 5, 2]
    fv.attribution.__dict__.pop("backward")
    once = visualization(tmp_path / "once", abs_norm=False)
    once.multitarget_to_single = fv.multitarget_to_single
    once.run(EpsilonPlusFlat(), 0, 12, batch_size=5)
    for layer, (samples, scores) in tables(once).items():
        assert tables(fv)[layer][0].tolist() == samples.tolist()
        np.testing.assert_allclose(tables(fv)[layer][1], 2 * scores, rtol=1e-9)


def test_ids_of_references_in_every_form(tmp_path):
    fv = mined(tmp_path)
    expected = fv.get_max_reference([1, 2], "conv2", composite=EpsilonPlusFlat(), plot_fn=None)
    wanted = torch.tensor([0.0, 3.0, 2.0, 1.0, 1.0])
    for ids in (wanted.topk(2).indices, np.array([1, 2]), wanted > 1.5, range(1, 3), slice(1, 3), {1, 2}):
        found = fv.get_max_reference(ids, "conv2", composite=EpsilonPlusFlat(), plot_fn=None)
        assert list(found) == [1, 2]
        assert torch.equal(found[2][1], expected[2][1])
    assert list(fv.get_stats_reference(wanted.argmax(), "conv2", np.array([0, 2]), r_range=(0, 2))) == ["1:0", "1:2"]
    targets, means = fv.compute_stats(torch.tensor(2), "conv2")
    assert torch.equal(means, fv.compute_stats(2, "conv2")[1])
    assert sorted(targets) == [0, 1, 2]
    with pytest.raises(InputError, match=r"^One concept is expected, given 2: \[1, 2\]\.$"):
        fv.compute_stats([1, 2], "conv2")
    with pytest.raises(InputError, match=r"^There is no class 7: the data set has the classes 0 to 2\.$"):
        fv.get_stats_reference(1, "conv2", 7)


def test_samples_and_labels_that_cannot_be(tmp_path):
    fv = visualization(tmp_path)
    for start, end in ((0, 51), (4, 4), (-1, 5)):
        with pytest.raises(InputError, match=f"no samples {start} to {end} \\(exclusive\\): the data set has 50"):
            fv.run(EpsilonPlusFlat(), start, end)
    fv.dataset = Samples(several=True)
    with pytest.raises(InputError, match="not one class: override 'multitarget_to_single'"):
        fv.run(EpsilonPlusFlat(), 0, 10)
    fv.dataset = TensorDataset(torch.rand(3, 2, 8, 8, dtype=torch.float64), torch.tensor([0, 3, 1]))
    with pytest.raises(SampleError, match="Sample 1 has label 3, but the model has the classes 0 to 2"):
        fv.run(EpsilonPlusFlat(), 0, 3)


def test_data_samples_and_batches(tmp_path):
    fv = visualization(tmp_path, preprocess_fn=lambda data: data + 1)
    data, label = fv.get_data_sample(3)
    assert data.shape == (1, 2, 8, 8)
    assert data.requires_grad
    assert label == Samples().labels[3]
    assert torch.equal(data.detach()[0], Samples()[3][0] + 1)
    assert torch.equal(fv.get_data_sample(3, preprocessing=False)[0].detach()[0], Samples()[3][0])
    batch, labels = fv.get_data_concurrently([4, 1, 3])
    assert labels == [Samples().labels[index] for index in (4, 1, 3)]
    assert torch.equal(batch.detach(), Samples().data[[4, 1, 3]])
    assert fv.get_data_concurrently(torch.tensor([3]), True)[1] == label
    with pytest.raises(NotImplementedError):
        fv.multitarget_to_single([1, 2])


# -- references --------------------------------------------------------------------------------------------------


def test_bug_masks_of_the_layer_maps_concept_were_ignored(tmp_path):
    class Pairs(ChannelConcept):
        """Two neighbouring channels are one concept."""

        @staticmethod
        def mask(batch_id, concept_ids, layer_name=None):
            return ChannelConcept.mask(batch_id, [c for i in concept_ids for c in (i, i + 1)], layer_name)

    fv = mined(tmp_path)
    data = Samples().data[:2]
    fv.layer_map["conv2"] = Pairs()
    found = fv._attribution_on_reference(data, 1, "conv2", EpsilonPlusFlat())
    both = fv.attribution(
        data, [{"conv2": [1, 2]}], EpsilonPlusFlat(), start_layer="conv2", exclude_parallel=False
    ).heatmap
    assert_relevance_close(found, both, 1e-9)


def test_bug_positions_of_the_second_batch_were_lost(tmp_path):
    fv = mined(tmp_path)
    how = (1, "conv2", "relevance", (0, 7), EpsilonPlusFlat(), True, None)
    at_once, in_batches = (fv.get_max_reference(*how, batch_size=size)[1][1] for size in (7, 3))
    assert_relevance_close(in_batches, at_once, 1e-9)
    with pytest.raises(InputError, match="2 samples need as many positions, given 1"):
        fv._attribution_on_reference(Samples().data[:2], 1, "conv2", EpsilonPlusFlat(), True, [4])


def test_references_that_there_are_not(tmp_path):
    fv = mined(tmp_path)
    with pytest.raises(InputError, match="no concept 5: layer 'conv2' has the concepts 0 to 4"):
        fv.get_max_reference(5, "conv2")
    with pytest.raises(
        InputError, match=r"^r_range \(12, 14\) selects no reference: each concept of 'conv2' has 12 references\.$"
    ):
        fv.get_max_reference(1, "conv2", r_range=(12, 14))
    with pytest.raises(InputError, match="`mode` must be"):
        fv.get_max_reference(1, "conv2", mode="gradient")
    with pytest.raises(FileNotFoundError, match="did you mean 'conv2' or 'conv1'"):
        fv.get_max_reference(1, "conv3")
    with pytest.raises(InputError, match="no concept 9"):
        fv.compute_stats(9, "conv2")
    with pytest.warns(UserWarning, match="give one"):
        assert fv.get_max_reference(1, "conv2", r_range=(9, 99), rf=True)[1].shape == (3, 2, 8, 8)


def test_bug_classes_could_not_be_read_with_numpy_1_24(tmp_path):
    fv = mined(tmp_path, end=30)
    targets, means = fv.compute_stats(2, "conv2", top_N=3, mean_N=2)
    assert targets.dtype == np.int64
    expected = {t: load_statistics(fv.RelStats.PATH, "conv2", t)[1][:2, 2].mean() for t in range(3)}
    assert targets.tolist() == sorted(expected, key=lambda target: -expected[target])
    np.testing.assert_allclose(means, sorted(expected.values(), reverse=True), rtol=1e-6)
