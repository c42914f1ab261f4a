"""zennit-crp's `Maximization`: equal to what it gave, and right where it was not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from crp.concepts import ChannelConcept
from crp.errors import InputError
from crp.legacy.stored import load_maximization
from crp.maximization import Maximization
from tests.legacy import scripts_mining
from tests.legacy.golden import assert_as_recorded


def relevance(*rows):
    """Of one position: a row a sample, a column a concept."""
    return torch.tensor(rows, dtype=torch.float64)


def test_a_layer_by_hand_as_recorded():
    assert_as_recorded(scripts_mining.maximization)


def test_a_mode_that_does_not_exist(tmp_path):
    with pytest.raises(InputError, match="'relevance' or 'activation', given 'gradient'"):
        Maximization("gradient", path=tmp_path)


@pytest.mark.parametrize(
    ("mode", "target", "divided", "folder"),
    [("relevance", "sum", False, "RelMax_sum_unnormed"), ("activation", "max", True, "ActMax_max_normed")],
)
def test_the_folder_says_what_is_in_it(tmp_path, monkeypatch, mode, target, divided, folder):
    monkeypatch.chdir(tmp_path)
    assert str(Maximization(mode, target, divided).PATH) == folder
    assert (tmp_path / folder).is_dir()


def test_fewer_samples_are_kept_when_asked_for(tmp_path):
    best = Maximization("relevance", path=tmp_path)
    best.SAMPLE_SIZE = 2
    best.analyze_layer(relevance([1, 5], [2, 3], [3, 4]), ChannelConcept(), "a", np.arange(3), np.zeros(3))
    best.analyze_layer(relevance([9, 0]), ChannelConcept(), "a", np.array([7]), np.zeros(1))
    assert best.d_c_sorted["a"].tolist() == [[7, 0], [2, 2]]
    assert best.rel_c_sorted["a"].tolist() == [[9, 5], [3, 4]]


def test_bug_ties_of_references_came_in_any_order(tmp_path):
    best = Maximization("relevance", path=tmp_path)
    for first in (60, 0, 30):  # in any order of the batches
        best.analyze_layer(torch.zeros(30, 2), ChannelConcept(), "a", np.arange(30) + first, np.zeros(30))
    assert best.d_c_sorted["a"].T.tolist() == [list(range(40))] * 2


def test_bug_a_sample_of_several_labels_was_listed_several_times(tmp_path):
    best = Maximization("relevance", path=tmp_path)
    found = best.analyze_layer(
        relevance([1, 9], [5, 2], [3, 7], [4, 4]), ChannelConcept(), "a", np.array([0, 0, 0, 1]), np.array([0, 1, 2, 1])
    )
    assert best.d_c_sorted["a"].tolist() == [[0, 0], [1, 1]]
    assert best.rel_c_sorted["a"].tolist() == [[5, 9], [4, 4]]
    # the statistics of classes get every row
    assert found[0].shape == (4, 2)
    assert found[3].T.tolist() == [[1, 1, 2, 0], [0, 2, 1, 1]]


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2), (2, 3, 1, 0)])
def test_bug_a_sample_was_listed_again_in_the_next_call(tmp_path, order):
    """L-CRP's loop hands the rows of a sample on in two calls; each concept lists it once, with its best score."""
    values = relevance([1, 9], [5, 2], [3, 7], [4, 4])
    samples, targets = np.array([0, 0, 0, 1]), np.array([0, 1, 2, 1])
    best = Maximization("relevance", path=tmp_path)
    for row in order:
        best.analyze_layer(values[[row]], ChannelConcept(), "a", samples[[row]], targets[[row]])
    assert best.d_c_sorted["a"].tolist() == [[0, 0], [1, 1]]
    assert best.rel_c_sorted["a"].tolist() == [[5, 9], [4, 4]]


@pytest.mark.parametrize("batch", [1, 7, 90])
def test_lists_that_are_cut_hold_different_samples(tmp_path, batch):
    """By brute force: the best score of each sample, sorted."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(90, 3, 4, generator=generator, dtype=torch.float64)
    samples = torch.randint(30, (90,), generator=generator).numpy()
    best = Maximization("relevance", "max", path=tmp_path)
    best.SAMPLE_SIZE = 8
    for start in range(0, 90, batch):
        rows = slice(start, start + batch)
        best.analyze_layer(values[rows], ChannelConcept(), "a", samples[rows], np.zeros(len(samples[rows])))
    for concept in range(3):
        scores = values[:, concept].amax(1)
        highest = {sample: max(scores[samples == sample].tolist()) for sample in samples.tolist()}
        expected = sorted(highest, key=lambda sample: -highest[sample])[:8]
        assert best.d_c_sorted["a"][:, concept].tolist() == expected
        assert best.rel_c_sorted["a"][:, concept].tolist() == [highest[sample] for sample in expected]


def test_each_target_counts_when_asked_for(tmp_path):
    best = Maximization("relevance", path=tmp_path)
    best.LIST_SAMPLES_ONCE = False
    for rows, samples in (([1, 5], [0, 0]), ([4, 2], [0, 1])):
        values = relevance(*([value] for value in rows))
        best.analyze_layer(values, ChannelConcept(), "a", np.array(samples), np.arange(2))
    assert best.d_c_sorted["a"].T.tolist() == [[0, 0, 1, 0]]
    assert best.rel_c_sorted["a"].T.tolist() == [[5, 4, 2, 1]]


def test_bug_checkpoints_were_deleted_before_the_merged_result_was_written(tmp_path, monkeypatch):
    best = Maximization("relevance", path=tmp_path)
    parts = []
    for first in (0, 2):
        values = relevance([first], [first + 1])
        best.analyze_layer(values, ChannelConcept(), "a", np.arange(2) + first, np.zeros(2))
        parts += best._save_results((first, first + 2))
    before = sorted(file.name for file in best.PATH.iterdir())

    def full(*args, **options):
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("crp.legacy.kept.write_tables", full)
        with pytest.raises(OSError, match="no space"):
            best.collect_results(parts)
    assert sorted(file.name for file in best.PATH.iterdir()) == before
    assert best.collect_results(parts) == [str(best.PATH / "a_")]
    assert load_maximization(best.PATH, "a")[0].tolist() == [[3], [2], [1], [0]]
    assert sorted(file.name for file in best.PATH.iterdir()) == ["a_data.npy", "a_rel.npy", "a_rf.npy"]


def test_a_single_checkpoint_can_be_collected_into_its_own_name(tmp_path):
    best = Maximization("relevance", path=tmp_path)
    best.analyze_layer(relevance([1], [2]), ChannelConcept(), "conv_1_2", np.arange(2), np.zeros(2))
    part = best._save_results((0, 2))
    assert best.collect_results(part, (0, 2)) == part == [str(best.PATH / "conv_1_2_0_2_")]
    assert best.collect_results(part) == [str(best.PATH / "conv_1_2_")]
