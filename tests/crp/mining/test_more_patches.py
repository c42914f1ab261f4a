"""Patches that are added later are those that `mine` would have made."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset
from zennit.composites import EpsilonAlpha2Beta1

from crp.errors import InputError, LibraryError
from crp.library import open_library
from crp.mining import add_patches

from .conftest import digests, mined


def test_patches_on_demand_are_the_same_bytes_in_any_order(model, dataset, library, tmp_path):
    expected = digests(library.path)
    later = mined(model, dataset, tmp_path / "later.crp", k=6, patches=2, patch_concepts={"conv2": [3]})
    assert later.with_patches("conv2") == [3]
    assert later.with_patches("conv1") == []
    later = open_library(later.path)  # which cannot make patches when they are needed
    assert later.patches("conv1", 0, "relevance") == ()
    before = later.patches("conv2", 3, "relevance")
    steps = [("linear1", [4, 0]), ("conv2", [5, 1]), ("conv1", range(4)), ("conv2", range(6)), ("linear1", [1, 2, 3])]
    for layer, concepts in steps:
        add_patches(later, model, dataset, layer, concepts, progress=False)
    assert digests(later.path) == expected
    after = later.patches("conv2", 3, "relevance")
    assert [(patch.sample, patch.box) for patch in after] == [(patch.sample, patch.box) for patch in before]


def test_adding_patches_refuses_another_model_data_set_composite_or_concept(model, dataset, library):
    before = digests(library.path)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.conv1.weight[0, 0, 0, 0] += 1
    data, labels = dataset.tensors
    with pytest.raises(LibraryError, match="was mined with other weights"):
        add_patches(library, other, dataset, "conv1", [0])
    with pytest.raises(
        LibraryError, match="This is not the data set that was mined: its length is 74, and the library has 75"
    ):
        add_patches(library, model, TensorDataset(data[1:], labels[1:]), "conv1", [0])
    with pytest.raises(LibraryError, match="This is not the data set that was mined: its fingerprint is"):
        add_patches(library, model, TensorDataset(data + 1, labels), "conv1", [0])
    with pytest.raises(
        LibraryError, match="This is not the composite of the library: its name is 'EpsilonAlpha2Beta1'"
    ):
        add_patches(library, model, dataset, "conv1", [0], composite=EpsilonAlpha2Beta1())
    with pytest.raises(InputError, match=r"^There is no concept 9999: layer 'conv1' has the concepts 0 to 3\.$"):
        add_patches(library, model, dataset, "conv1", [0, 9999])
    assert digests(library.path) == before


def test_inputs_that_are_not_pictures_are_mined_without_patches(tmp_path):
    net = nn.Sequential(nn.Conv1d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(24, 3)).eval()
    data = torch.randn(9, 2, 10, generator=torch.Generator().manual_seed(0))
    library = mined(net, TensorDataset(data), tmp_path / "a.crp", layers=["0"], targets="prediction", patches=0)
    activation = net[0](data).detach().numpy()
    found = library.references("0", "activation")
    assert (found.sample[:, 0] == activation.max(-1).argmax(0)).all()
    with pytest.raises(LibraryError, match="was mined with patches=0"):
        add_patches(library, net, TensorDataset(data), "0", [0])
