"""zennit-crp's `Statistics`: the best samples of each class. What it gave is recorded beside `Maximization`'s."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from crp.legacy.stored import load_stat_targets, load_statistics
from crp.statistics import Statistics


def column(*values):
    return torch.tensor(values)[:, None]


def filled(tmp_path, classes=range(3), layers=("a", "b")):
    kept = Statistics("relevance", path=tmp_path)
    for layer in layers:
        for first in (0, 6):
            samples = column(*range(first, first + 6))
            kept.analyze_layer(samples, samples / 10, samples * 0, samples % len(classes), layer)
    return kept


def test_the_best_samples_of_each_class(tmp_path):
    kept = filled(tmp_path)
    assert {target: layers["b"][:, 0].tolist() for target, layers in kept.d_c_sorted.items()} == {
        0: [9, 6, 3, 0],
        1: [10, 7, 4, 1],
        2: [11, 8, 5, 2],
    }
    kept._save_results()
    assert kept.d_c_sorted == {}
    assert load_stat_targets(kept.PATH).tolist() == [0, 1, 2]
    samples, scores, _ = load_statistics(kept.PATH, "a", 2)
    assert samples[:, 0].tolist() == [11, 8, 5, 2]
    np.testing.assert_allclose(scores[:, 0], [1.1, 0.8, 0.5, 0.2], rtol=1e-6)


def test_ties_of_references_in_a_class_come_by_sample(tmp_path):
    kept = Statistics("activation", path=tmp_path)
    for samples in (column(5, 4), column(1, 0)):
        kept.analyze_layer(samples, samples * 0.0, samples * 0, samples * 0, "a")
    assert kept.d_c_sorted[0]["a"][:, 0].tolist() == [0, 1, 4, 5]


def test_bug_collecting_held_all_classes_in_memory(tmp_path):
    class Watched(Statistics):
        held = 0

        def sort_result_array(self, layer_name, target):
            super().sort_result_array(layer_name, target)
            self.held = max(self.held, sum(len(layers) for layers in self.d_c_sorted.values()))

    parts = filled(tmp_path)._save_results((0, 12))
    watched = Watched("relevance", path=tmp_path)
    files = watched.collect_results(parts)
    assert len(files) == 6
    assert watched.held == 1
    assert load_stat_targets(watched.PATH).tolist() == [0, 1, 2]
    assert load_statistics(watched.PATH, "b", 1)[0][:, 0].tolist() == [10, 7, 4, 1]


def test_parts_of_classes_merge_into_parts(tmp_path):
    kept = filled(tmp_path)
    parts = kept._save_results((0, 12))
    files = kept.collect_results(parts, (0, 50))
    assert files[0] == str(kept.PATH / "a" / "0_0_50_")
    assert not (kept.PATH / "targets.npy").exists()


@pytest.mark.parametrize("size", [40, 3])
def test_files_that_get_their_final_name_are_those_that_merging_writes(tmp_path, size, monkeypatch):
    """Class 3 is in both parts, the others in one; fewer rows may be asked for after the parts were written."""
    contents, merges = [], []
    for name in ("renamed", "merged"):
        kept = filled(tmp_path / name, classes=range(4))
        parts = kept._save_results((0, 12))
        kept.analyze_layer(*(column(*range(12, 17)) + shift for shift in (0, 0.5, 0)), column(*[3] * 5), "a")
        parts += kept._save_results((12, 17))
        if name == "merged":  # an object that wrote none of the files
            kept = Statistics("relevance", path=tmp_path / name)
        kept.SAMPLE_SIZE = size
        merges.append([])
        monkeypatch.setattr(kept, "_sort", lambda *given, sort=kept._sort: (merges[-1].append(given[1]), sort(*given)))
        saved = kept.collect_results(parts)
        files = sorted(file for file in kept.PATH.rglob("*") if file.is_file())
        assert sorted(saved) == sorted({str(file).rpartition("_")[0] + "_" for file in files if "_" in file.name})
        contents.append({file.relative_to(tmp_path / name): file.read_bytes() for file in files})
        assert not {path for path in parts if Path(f"{path}data.npy").exists()}
    assert contents[0] == contents[1]
    assert len(contents[0]) == 3 * 8 + 1
    assert len(merges[1]) == 9
    assert len(merges[0]) == (2 if size == 40 else 9)
