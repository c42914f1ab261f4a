import copy
import hashlib
from itertools import pairwise

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from crp.library.fingerprints import (
    data_fingerprint,
    options_in,
    sample_digest,
    sampled_indices,
    value_fingerprint,
    weights_fingerprint,
)


def test_weights_by_hand():
    net = nn.Linear(2, 1)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[1.0, 2.0]]))
        net.bias.copy_(torch.tensor([0.5]))
    expected = hashlib.sha256()
    for name, shape, value in (("bias", [1], net.bias), ("weight", [1, 2], net.weight)):
        expected.update(f"{name}\ntorch.float32 {shape}\n".encode() + value.detach().numpy().tobytes())
    assert weights_fingerprint(net) == expected.hexdigest()


def test_weights_tell_models_apart():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    fingerprint = weights_fingerprint(net)
    assert weights_fingerprint(copy.deepcopy(net).train()) == fingerprint
    others = []
    for change in (
        lambda other: other[0].weight.data.add_(1e-6),
        lambda other: other[1].running_var.add_(1),
        lambda other: other.double(),
        lambda other: other.bfloat16(),
    ):
        other = copy.deepcopy(net)
        change(other)
        others.append(weights_fingerprint(other))
    assert len({fingerprint, *others}) == 5


@given(st.integers(1, 5000))
def test_sampled_indices_are_spread_over_the_whole(length):
    found = sampled_indices(length)
    assert len(set(found)) == len(found) == min(64, length)
    assert found == sorted(found)
    assert found[0] == 0
    assert found[-1] == (length - 1 if length > 1 else 0)
    gaps = {after - before for before, after in pairwise(found)}
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_samples_and_data():
    sample = torch.arange(6.0).reshape(2, 3)
    assert sample_digest(sample) == sample_digest(sample.t().contiguous().t())
    assert len({sample_digest(value) for value in (sample, sample.double(), sample.view(3, 2), sample + 1)}) == 4
    expected = hashlib.sha256(b"10\n0 aa\n9 bb").hexdigest()
    assert data_fingerprint(10, {9: "bb", 0: "aa"}) == expected


def held(value):
    """Return a function whose closure holds `value`."""
    return lambda data: (data, value)


def test_functions_are_told_apart_by_what_their_closures_hold():
    values = [
        torch, torch.nn, copy, torch.relu, torch.Tensor, torch.float32, torch.float64, torch.device("cpu"),
        torch.device("meta"), slice(1, 2), slice(1, 3), range(3), range(4), torch.ones(2), nn.ReLU, None, [], (),
    ]  # fmt: skip
    assert len({value_fingerprint(held(value)) for value in values}) == len(values)
    assert value_fingerprint(held(torch)) == value_fingerprint(held(torch))
    assert value_fingerprint(held(object())) == value_fingerprint(held(object()))  # an address says nothing
    assert options_in([torch, 2]) == ["2"]
