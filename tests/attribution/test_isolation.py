"""Contexts around a call change nothing in what it computes."""

from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
import torch
from torch import nn
from zennit.composites import EpsilonPlusFlat

import crp
from crp.analysis import concept_vector
from crp.attribution import CondAttribution, RelevanceFlow
from crp.attribution.composites import composite_for
from crp.attribution.isolation import callers_default, isolated
from crp.attribution.layers import module_calls
from crp.attribution.receptive_fields import receptive_boxes
from crp.demo import Scenes


@contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


CONTEXTS = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "inference_mode": torch.inference_mode,
    "no_grad": torch.no_grad,
    "set_grad_enabled": lambda: torch.set_grad_enabled(False),
    "default dtype": lambda: default_dtype(torch.float64),
    "default device": lambda: torch.device("meta"),
    "deterministic": deterministic,
    "autocast in inference_mode": lambda: torch.autocast("cpu", torch.bfloat16),
}


def net():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(36, 3)).eval()


def samples(count=6):
    return torch.rand(count, 3, 12, 12, generator=torch.Generator().manual_seed(1))


class Labelled:
    def __init__(self, data):
        self.data = data

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        # a matrix product, which autocast would compute in bfloat16
        return self.data[index] @ torch.eye(12, dtype=torch.float32, device="cpu"), index % 3


def everything(model, data, folder):
    """Numbers of every kind of call, as a list of tensors and arrays."""
    composite = composite_for(model).composite
    with RelevanceFlow(model, composite, data, ["4"]) as flow:
        started = flow.output_relevance([0] * len(data))
        arriving, heatmaps = flow.down(started, to=["4", "(input)"]).values()
        visited = []
        flow.sweep(started, ["4"], lambda layer, relevance: visited.append(relevance.clone()))
        several = flow.down(torch.cat([arriving, 2 * arriving]), start="4")
        regions = flow.regions("4", torch.ones(1, 12, 12, dtype=torch.float32, device="cpu"), arriving[0])
    conditional = CondAttribution(model)(data[:1], [{"4": [1], "y": [2]}], EpsilonPlusFlat()).heatmap
    library = crp.mine(
        model, Labelled(data), layers=["4"], path=folder, progress=False, patches=1, k=2, vectors=True, overwrite=True
    )
    explained = crp.explain(model, data[0], library, target=1)
    graph = crp.compose(model, data[:1], ["0", "4"], target=1)
    found = library.references("4", "relevance")
    calls = module_calls(model, data[:1])
    fields = receptive_boxes(model, (3, 12, 12), "4")
    return [
        torch.tensor([calls.index(call.feeders[0]) if call.feeders else -1 for call in calls], device="cpu"), fields,
        concept_vector(model, data[0], library, "4"), composite_for(model).conservation(model, data, [0] * len(data)),
        arriving, heatmaps, *visited, several, regions, conditional, found.score, found.sample,
        library.vectors("4").relevance[:], explained.heatmap, explained.layers[0].relevance,
        torch.tensor([edge.relevance for edge in graph.edges], dtype=torch.float64, device="cpu"),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return everything(net(), samples(), tmp_path_factory.mktemp("plain") / "a.crp")


# What is in others: autocast and inference mode come together, and `no_grad` is the same state as the other.
CONTAINED = ("autocast", "inference_mode", "set_grad_enabled")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in CONTAINED else ()) for name in CONTEXTS]
)
def test_a_context_around_every_call_changes_no_bit(name, expected, tmp_path):
    model, data = net(), samples()
    with torch.inference_mode() if "in inference" in name else nullcontext(), CONTEXTS[name]():
        found = everything(model, data, tmp_path / "a.crp")
    for ours, theirs in zip(found, expected, strict=True):
        ours, theirs = np.asarray(ours), np.asarray(theirs)
        assert ours.dtype == theirs.dtype
        assert np.array_equal(ours, theirs)


def test_models_and_data_that_were_made_in_inference_mode(expected, tmp_path):
    with torch.inference_mode():
        model, data = net(), samples()
    assert data.is_inference()
    for ours, theirs in zip(everything(model, data, tmp_path / "a.crp"), expected, strict=True):
        assert np.array_equal(ours, theirs)


def test_the_contexts_are_active_again_afterwards():
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        with isolated():
            assert not torch.is_autocast_enabled("cpu")
            assert not torch.is_inference_mode_enabled()
            assert torch.is_grad_enabled()
        assert torch.is_autocast_enabled("cpu")
        assert torch.is_inference_mode_enabled()
    with pytest.raises(ZeroDivisionError), torch.no_grad(), isolated():
        raise ZeroDivisionError
    assert torch.is_grad_enabled()


def test_a_model_on_the_callers_default_device_creates_its_tensors_there():
    with torch.device("meta"):
        with isolated():
            assert torch.zeros(1).device.type == "cpu"
            with isolated(), callers_default(torch.device("meta")):
                assert torch.zeros(1).device.type == "meta"
            with callers_default(torch.device("cpu")):
                assert torch.zeros(1).device.type == "cpu"
        assert torch.zeros(1).device.type == "meta"
    with isolated(), callers_default(torch.device("meta")):
        assert torch.zeros(1).device.type == "cpu"


def test_the_demo_is_explained_in_autocast_as_without():
    model, scenes = crp.demo.demo_model(), Scenes("test", 2)
    data = torch.stack([scenes[0][0], scenes[1][0]])
    composite = composite_for(model).composite

    def heatmap():
        with RelevanceFlow(model, composite, data) as flow:
            return flow.down(flow.output_relevance([0, 1]))

    plain = heatmap()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(heatmap(), plain)
