"""What a flow of a volume does without, and that nothing but memory depends on it."""

import gc

import pytest
import torch
from torch import nn
from zennit.composites import EpsilonPlusFlat
from zennit.rules import Epsilon, Flat, WSquare, ZPlus

from crp.attribution import RelevanceFlow, modified_module, rule_operator
from crp.attribution.backward_graph import graph_below
from crp.attribution.composites import composite_for
from crp.attribution.pooling import PoolRule
from crp.attribution.probing import probe
from crp.attribution.purposes import Purpose
from crp.attribution.rule_operator import RuleCall, RuleOperator
from crp.attribution.ruled_module import ModuleCall
from crp.attribution.upper_part import UpperPart
from tests.oracle.comparing import assert_relevance_close


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool3d(2), nn.Conv3d(4, 5, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(5, 2),
    ).eval()  # fmt: skip


def held(shape: tuple[int, ...]) -> int:
    """Count the storages in memory that hold a tensor of a shape."""
    gc.collect()
    tensors = [each for each in gc.get_objects() if type(each) is torch.Tensor and each.shape == shape]
    tensors = [each for each in tensors if each.is_floating_point()]
    whole = [each for each in tensors if each.untyped_storage().nbytes() >= each.nbytes]
    return len({each.untyped_storage().data_ptr() for each in whole})


def test_large_outputs_below_the_first_layer_are_not_kept():
    """Of the convolution, its ReLU and the input of the pooling, nothing of their size stays with the flow."""
    model, data = network(), torch.randn(1, 1, 12, 12, 12)
    with RelevanceFlow(model, composite_for(model, data).composite, data, ["3"]) as flow:
        assert held((1, 4, 12, 12, 12)) == 0
        flow.down(flow.output_relevance([0]))
        assert held((1, 4, 12, 12, 12)) == 0
        assert held((1, 4, 6, 6, 6)) == 1  # what the second convolution reads
    with RelevanceFlow(model, EpsilonPlusFlat(), data, ["0"]) as flow:
        assert held((1, 4, 12, 12, 12)) == 1  # the layer itself


def test_relevance_for_ranking_has_rules_from_the_first_layer_on():
    model, data = network(), torch.randn(1, 1, 8, 8, 8)
    with RelevanceFlow(model, composite_for(model, data).composite, data, ["3", "7"]) as flow:
        calls = [getattr(node, "call", None) for node in graph_below(flow.tensors("7")[1])]
    found = {call.module.name: set(call.by_purpose) for call in calls if isinstance(call, ModuleCall)}
    both = {Purpose.MAPS, Purpose.RANKING}
    assert found == {"0": {Purpose.MAPS}, "3": {Purpose.MAPS}, "5": both, "7": both}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize(
    "pool", [nn.MaxPool3d(2), nn.MaxPool3d(3, 2, 1), nn.MaxPool3d((1, 2, 3), (1, 2, 2), ceil_mode=True)]
)
def test_pooling_of_volumes_is_torchs(pool, layout, dtype):
    torch.manual_seed(0)
    data = torch.randn(2, 3, 9, 10, 11, dtype=dtype).relu().to(memory_format=layout).requires_grad_()
    ours, theirs = PoolRule(pool).forward(data), pool(data)
    assert torch.equal(ours, theirs)
    relevance = torch.randn(3, *ours.shape, dtype=dtype)
    expected = torch.stack([torch.autograd.grad(theirs, data, one, retain_graph=True)[0] for one in relevance])
    down = torch.vmap(lambda one: torch.autograd.grad(ours, data, one, retain_graph=True)[0])(relevance)
    assert torch.equal(down, expected)
    one = relevance[0].clone().requires_grad_()
    (single,) = torch.autograd.grad(ours, data, one, create_graph=True)
    assert torch.equal(single, expected[0])
    region = torch.randn_like(data)
    (up,) = torch.autograd.grad(single, one, region)  # the transpose: <down(R), M> = <R, up(M)>
    if dtype is not torch.bfloat16:
        torch.testing.assert_close((single * region).sum(), (one * up).sum())


@pytest.mark.parametrize("rule", [Flat(), Flat(zero_params="bias"), WSquare(), ZPlus(), Epsilon()])
@pytest.mark.parametrize("conditions", [1, 3])
def test_pieces_are_the_whole(monkeypatch, rule, conditions):
    """A first convolution whose products, sums and windows are made in pieces, against one piece."""
    torch.manual_seed(0)
    conv = nn.Conv3d(1, 4, 3, padding=1)
    data = torch.randn(1, 1, 14, 15, 16)
    relevance = torch.randn(conditions, 1, 4, 14, 15, 16)

    def both(size: int) -> tuple[torch.Tensor, torch.Tensor]:
        monkeypatch.setattr(modified_module, "_COLUMNS", size)
        monkeypatch.setattr(rule_operator, "_SUMMED", size)
        call = RuleCall(RuleOperator(conv, rule, probe(rule)), data, conv(data).detach())
        call.compute_factors()
        return call.propagate(relevance, False), call.propagate(data.expand(conditions, *data.shape), True)

    for whole, pieces in zip(both(2**30), both(1000), strict=True):
        assert_relevance_close(pieces, whole, 1e-6)
        assert whole.abs().max() > 0


def test_outputs_that_nothing_reads_again_are_gone_when_a_model_is_followed():
    """The first convolution, its ReLU and the pooling come before the layer; only the skip connection is read again."""

    sizes = []

    class Skip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.low, self.relu, self.pool = nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool3d(2)
            self.layer, self.head = nn.Conv3d(4, 4, 3, padding=1), nn.Linear(4, 2)

        def forward(self, data):
            pooled = self.pool(self.relu(self.low(data)))
            sizes.append(held((1, 4, 12, 12, 12)))
            return self.head((self.layer(pooled) + pooled).mean((2, 3, 4)))

    torch.manual_seed(0)
    model, data = Skip().eval(), torch.randn(1, 1, 12, 12, 12)
    upper = UpperPart(model, data, "layer")
    assert set(sizes) == {0}
    other = torch.randn(2, 1, 4, 6, 6, 6)
    handle = model.layer.register_forward_hook(lambda *_: other[1])
    expected = model(data)
    handle.remove()
    torch.testing.assert_close(upper.outputs(other)[1], expected)
