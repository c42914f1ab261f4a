"""zennit-crp's files: those it left behind (zennit_crp_run.zip) read and imported, ours exported for its readers."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset
from zennit.composites import EpsilonPlusFlat

import crp
from crp.attribution import RelevanceFlow
from crp.errors import InputError, LibraryError
from crp.interchange import export_zennit_crp, import_zennit_crp
from crp.legacy.stored import (
    load_maximization,
    load_stat_targets,
    load_statistics,
    read_tables,
    sub_folder,
)
from crp.preprocessing import Preprocessing
from tests.legacy.scripts_mining import Samples, net
from tests.oracle.comparing import assert_relevance_close

LAYERS = ["conv1", "conv2", "linear1"]


@pytest.fixture
def run(tmp_path) -> Path:
    """What zennit-crp left of 46 samples with one to three labels (`leave_a_run` of scripts_mining.py)."""
    shutil.unpack_archive(Path(__file__).with_name("zennit_crp_run.zip"), tmp_path / "run")
    return tmp_path / "run"


class OneLabel(TensorDataset):
    """The samples that were mined, with a label where there is one only."""

    def __init__(self):
        self.samples = Samples(several=True)

    def __len__(self):
        return 46

    def __getitem__(self, index):
        data, labels = self.samples[index]
        return data, labels.index(1) if sum(labels) == 1 else None


def test_files_of_zennit_crp_are_read(run):
    samples, scores, positions = load_maximization(run / "RelMax_sum_normed", "conv2")
    assert samples.shape == scores.shape == positions.shape == (40, 5)
    assert isinstance(samples, np.memmap)
    assert (np.diff(scores, axis=0) <= 0).all()
    targets = load_stat_targets(run / "RelStats_sum_normed")
    assert targets.dtype == np.int64
    assert sorted(targets.tolist()) == [0, 1, 2]
    labels = Samples(several=True)
    for target in targets:
        own = load_statistics(run / "RelStats_sum_normed", "conv2", target)[0]
        assert all(labels[sample][1][target] for sample in own[:, 0])


def test_files_that_are_not_there_or_damaged(run):
    with pytest.raises(FileNotFoundError, match="did you mean"):
        load_maximization(run / "RelMax_sum_normed", "conv3")
    file = run / "RelMax_sum_normed" / "conv1_rel.npy"
    whole = file.read_bytes()
    for content in (b"", whole[:60], whole[:-1], b"\x80\x04]" + whole):
        file.write_bytes(content)
        with pytest.raises(LibraryError, match=r"conv1_rel\.npy' is damaged"):
            load_maximization(run / "RelMax_sum_normed", "conv1")
    np.save(file, np.zeros((39, 4)))
    with pytest.raises(LibraryError, match=r"its shape is \[39, 4\], that of the samples \[40, 4\]"):
        load_maximization(run / "RelMax_sum_normed", "conv1")
    np.save(file, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(LibraryError, match="Python objects"):  # nothing in a file is executed
        load_maximization(run / "RelMax_sum_normed", "conv1")


def test_a_run_of_zennit_crp_becomes_a_library(run, tmp_path):
    library = import_zennit_crp(run, net(), OneLabel(), LAYERS, tmp_path / "new.crp", composite=EpsilonPlusFlat())
    assert library.layers == tuple(LAYERS)
    assert library.shape("conv2") == (5, 2, 2)
    for layer in LAYERS:
        for mode in ("relevance", "activation"):
            samples, scores, positions = load_maximization(run / sub_folder("Max", mode, "sum", True), layer)
            found = library.references(layer, mode)
            assert (samples == found.sample.T).all()
            assert (positions == found.position.T).all()
            np.testing.assert_allclose(found.score.T, scores, rtol=1e-6)
        assert library.statistics(layer).count.tolist() == [0, 0, 0]
    assert library.manifest["settings"]["relevance_score"] == "sum/divided"
    assert library.manifest["settings"]["activation_score"] == "sum/divided"


def test_the_class_that_made_a_sample_a_reference_is_found_again(run, tmp_path):
    composite = EpsilonPlusFlat()
    library = import_zennit_crp(run, net(), OneLabel(), ["conv2"], tmp_path / "new.crp", composite=composite)
    found, labels = library.references("conv2", "relevance"), Samples(several=True)
    assert (found.target >= 0).all()
    with_several = 0
    for concept in range(5):
        columns = (found.sample[concept], found.target[concept], found.score[concept])
        for sample, target, score in zip(*columns, strict=True):
            with_several += sum(labels[sample][1]) > 1
            assert labels[sample][1][target]
            with RelevanceFlow(net(), composite, labels[sample][0][None], ["conv2"]) as flow:
                relevance = flow.down(flow.output_relevance([target]), to="conv2")[0, 0].sum((1, 2))
            assert float(relevance[concept] / (relevance.abs().sum() + 1e-10)) == pytest.approx(float(score), abs=1e-6)
    assert with_several > 20


def test_without_statistics_the_label_says_which_class(run, tmp_path):
    shutil.rmtree(run / "RelStats_sum_normed")
    data = OneLabel()
    library = import_zennit_crp(run, net(), data, ["conv2"], tmp_path / "new.crp", composite=EpsilonPlusFlat())
    found = library.references("conv2", "relevance")
    labels = {sample: data[sample][1] for sample in range(46)}
    expected = [[-1 if labels[sample] is None else labels[sample] for sample in row] for row in found.sample.tolist()]
    assert found.target.tolist() == expected
    assert -1 in found.target


def test_an_imported_library_has_one_set_of_rules_by_default(run, tmp_path):
    """As every composite of zennit-crp, which would otherwise be explained with rankings it was not mined with."""
    library = import_zennit_crp(run, net(), OneLabel(), ["conv2"], tmp_path / "new.crp")
    assert library.manifest["composite"]["name"] == "epsilon-plus-flat"
    assert crp.prepared(net(), library=library).rules["name"] == "epsilon-plus-flat"


def test_patches_are_added_to_an_imported_library(tmp_path):
    library, model, data = imported_pictures(tmp_path)
    assert library.patches("0", 1, "relevance") == ()
    crp.add_patches(library, model, data, "0", [1], composite=EpsilonPlusFlat(), progress=False)
    patches = library.patches("0", 1, "relevance")
    assert [patch.sample for patch in patches] == library.references("0", "relevance").sample[1].tolist()
    assert all(patch.picture.shape[2] == 3 for patch in patches)


def imported_pictures(tmp_path):
    """A library of a run of ours in zennit-crp's layout, with samples of two labels each."""
    from crp.concepts import ChannelConcept
    from crp.legacy.cond_attribution import CondAttribution
    from crp.legacy.feature_visualization import FeatureVisualization

    class BothLabels(FeatureVisualization):
        def multitarget_to_single(self, multi_target):
            return [0, 1]

    pictures = torch.rand(10, 3, 12, 12, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    data = TensorDataset(pictures, torch.zeros(10, dtype=int))
    torch.manual_seed(1)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten(),
        torch.nn.Linear(16, 2),
    ).double()  # fmt: skip
    # channel 3 is active everywhere, and speaks against class 0 twice as much as against class 1
    model[0].bias.data[3] = 2
    model[4].weight.data[:, 12:] = torch.tensor([[-0.5], [-0.25]])
    fv = BothLabels(CondAttribution(model), data, {"0": ChannelConcept()}, path=tmp_path / "run", abs_norm=False)
    fv.run(EpsilonPlusFlat(), 0, 10)
    library = import_zennit_crp(
        tmp_path / "run", model, data, ["0"], tmp_path / "new.crp", composite=EpsilonPlusFlat(), abs_norm=False,
        preprocessing=Preprocessing(), patches=10,
    )  # fmt: skip
    return library, model, data


def test_reference_heatmaps_start_from_the_class_that_made_the_sample_a_reference(tmp_path):
    """zennit-crp's issue 11, in our own API: a patch's heatmap has the sign of that class's relevance."""
    library, model, data = imported_pictures(tmp_path)
    crp.add_patches(library, model, data, "0", range(4), composite=EpsilonPlusFlat(), progress=False)
    signs = set()
    for concept in range(4):
        for patch in library.patches("0", concept, "relevance"):
            with RelevanceFlow(model, EpsilonPlusFlat(), data[patch.sample][0][None], ["0"]) as flow:
                arriving = flow.down(flow.output_relevance([patch.target]), to="0")[0]
                alone = torch.zeros_like(arriving)
                alone[0, concept][patch.position] = arriving[0, concept][patch.position]
                heatmap = flow.down(alone[None], start="0")[0, 0].sum(0)
            top, left, bottom, right = patch.box
            part = heatmap[top:bottom, left:right]
            assert_relevance_close(torch.tensor(patch.heatmap), part / part.abs().max().clamp(min=1e-300), 1 / 120)
            signs.add((float(alone.sum().sign()), patch.target))
    # where relevance is against the class, what starts from activation would have the other sign
    assert signs == {(1, 0), (1, 1), (-1, 1)}


def test_what_does_not_fit_is_refused(run, tmp_path):
    composite = EpsilonPlusFlat()
    few = TensorDataset(Samples().data[:20])
    with pytest.raises(LibraryError, match=r"name sample .*, and there are 20"):
        import_zennit_crp(run, net(), few, ["conv2"], tmp_path / "a.crp", composite=composite)
    shutil.copy(run / "RelMax_sum_normed" / "conv1_data.npy", run / "RelMax_sum_normed" / "relu2_data.npy")
    for table in ("rel", "rf"):
        shutil.copy(run / "RelMax_sum_normed" / f"conv1_{table}.npy", run / "RelMax_sum_normed" / f"relu2_{table}.npy")
    with pytest.raises(LibraryError, match="files of 'relu2' have 4 concepts, the model's layer 5"):
        import_zennit_crp(run, net(), OneLabel(), ["relu2"], tmp_path / "b.crp", composite=composite)
    with pytest.raises(FileNotFoundError, match=r"linear1_data\.npy"):
        import_zennit_crp(run, net(), OneLabel(), ["linear1"], tmp_path / "c.crp", max_target="max")
    with pytest.raises(InputError, match="no score 'mean/divided'"):
        import_zennit_crp(run, net(), OneLabel(), ["conv1"], tmp_path / "d.crp", max_target="mean")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_a_library_is_exported_and_comes_back(tmp_path):
    data = TensorDataset(Samples().data[:30], torch.tensor(Samples().labels[:30]))
    library = crp.mine(
        net(), data, layers=["conv2", "linear1"], path=tmp_path / "a.crp", composite=EpsilonPlusFlat(), patches=0, k=40,
        progress=False,
    )  # fmt: skip
    export_zennit_crp(library, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["ActMax_max_unnormed", "RelMax_sum_normed"]
    for mode, folder in (("relevance", "RelMax_sum_normed"), ("activation", "ActMax_max_unnormed")):
        found, tables = library.references("conv2", mode), read_tables(tmp_path / "out" / folder / "conv2_")
        # 30 samples, though 40 are kept
        for table, expected in zip(tables, (found.sample, found.score, found.position), strict=True):
            assert (table == expected.T[:30]).all()
            assert table.shape == (30, 5)
