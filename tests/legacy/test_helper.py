"""`crp.helper` as zennit-crp's users know it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from crp.errors import InputError
from crp.helper import find_files, get_layer_names, get_output_shapes, load_receptive_field
from tests.legacy import scripts
from tests.legacy.golden import assert_as_recorded


def test_helpers_are_theirs():
    found = assert_as_recorded(scripts.helpers)
    assert found["abs_norm"].tolist() == pytest.approx([1 / 4.5, -3 / 4.5, 0.5 / 4.5])
    assert found["max_norm"].tolist() == pytest.approx([1, -3, 0.5])


def test_a_type_counts_for_its_subclasses():
    class Own(nn.Linear):
        """A layer of the user's."""

    assert get_layer_names(nn.Sequential(Own(2, 2), nn.ReLU(), nn.Linear(2, 2)), [nn.Linear]) == ["0", "2"]


def test_shapes_are_torchs():
    shapes = get_output_shapes(scripts.skip_net(), scripts.data().detach(), ["conv1"])
    assert isinstance(shapes["conv1"], torch.Size)
    assert shapes["conv1"].numel() == 256


def test_bug_a_misspelt_layer_had_no_shape():
    """helper.py:73. It was left out in silence."""
    with pytest.raises(InputError, match=r"^The model has no layer 'conv_1': did you mean 'conv1'"):
        get_output_shapes(scripts.skip_net(), scripts.data(), ["conv_1"])


def test_folders_are_found_by_kind(tmp_path, monkeypatch):
    names = ("RelMax_sum_normed", "ActMax_sum_normed", "RelStats_sum_normed", "ActStats_max", "ReField", "other")
    for name in names:
        (tmp_path / name).mkdir()
    expected = tuple([str(tmp_path / name)] for name in names[:5])
    assert find_files(tmp_path) == expected
    monkeypatch.chdir(tmp_path)
    assert find_files() == expected


def test_a_receptive_field_is_read(tmp_path):
    np.save(tmp_path / "conv1.npy", np.arange(6, dtype=np.uint8).reshape(2, 3))
    read = load_receptive_field(tmp_path, "conv1")
    assert isinstance(read, np.memmap)
    assert read.tolist() == [[0, 1, 2], [3, 4, 5]]
