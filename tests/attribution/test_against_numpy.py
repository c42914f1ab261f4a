"""Ours against LRP written by hand in numpy (tests/oracle/numpy_lrp.py): heatmaps, and relevance at every layer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from zennit.composites import LayerMapComposite, MixedComposite, NameMapComposite, layer_map_base
from zennit.rules import AlphaBeta, Epsilon, Flat, Gamma, WSquare, ZBox, ZPlus

from crp.attribution import ConditionalAttribution
from tests.oracle import numpy_lrp
from tests.oracle.comparing import assert_relevance_close
from tests.oracle.nets import SkipNet, plain_net, with_random_weights
from tests.oracle.numpy_lrp import Node, NumpyNet

TOLERANCE = 1e-9

# name -> (rule of zennit, rule of numpy) at the first layer, and the same at all others
RULES = {
    "epsilon": ((Epsilon(), numpy_lrp.epsilon),) * 2,
    "z-plus": ((ZPlus(), numpy_lrp.alpha_beta(1, 0)),) * 2,
    "alpha2-beta1": ((AlphaBeta(2, 1), numpy_lrp.alpha_beta(2, 1)),) * 2,
    "alpha1-beta0": ((AlphaBeta(1, 0), numpy_lrp.alpha_beta(1, 0)),) * 2,
    "gamma": ((Gamma(0.25), numpy_lrp.gamma(0.25)),) * 2,
    "flat": ((Flat(), numpy_lrp.flat),) * 2,
    "w-square": ((WSquare(), numpy_lrp.w_square),) * 2,
    "z-box": ((ZBox(-3.0, 3.0), numpy_lrp.z_box(-3.0, 3.0)), (Epsilon(), numpy_lrp.epsilon)),
    "flat, then z-plus": ((Flat(), numpy_lrp.flat), (ZPlus(), numpy_lrp.alpha_beta(1, 0))),
}

PLAIN = [
    ("conv1", "conv", ("input",)),
    ("relu1", "relu", ("conv1",)),
    ("pool", "pool", ("relu1",)),
    ("conv2", "conv", ("pool",)),
    ("relu2", "relu", ("conv2",)),
    ("flatten", "flatten", ("relu2",)),
    ("linear1", "linear", ("flatten",)),
    ("relu3", "relu", ("linear1",)),
    ("linear2", "linear", ("relu3",)),
]
SKIP = [
    ("conv1", "conv", ("input",)),
    ("relu1", "relu", ("conv1",)),
    ("conv2", "conv", ("relu1",)),
    ("sum", "sum", ("relu1", "conv2")),
    ("relu2", "relu", ("sum",)),
    ("conv3", "conv", ("relu2",)),
    ("relu3", "relu", ("conv3",)),
    ("flatten", "flatten", ("relu3",)),
    ("linear", "linear", ("flatten",)),
]
# name -> (torch twin, numpy plan, a seed with which no case below comes out as zero)
NETS = {"plain": (plain_net, PLAIN, 2), "skip": (SkipNet, SKIP, 0)}

# One list of conditions a case; rows of the result are samples times conditions.
CONDITIONS = {
    "plain": {
        "none": [{"y": [0]}],
        "one channel": [{"y": [1], "conv2": [3]}],
        "several channels": [{"y": [1], "conv1": [0, 2]}, {"y": [0], "conv1": [3]}, {"y": [2], "conv1": [1, 2, 3]}],
        "linear layer": [{"y": [2], "linear1": [0, 1, 3, 5]}],
        "chained": [{"y": [1], "linear1": [1, 2, 3, 5], "conv2": [0, 3], "conv1": [1, 2]}],
        "chained, from the input up": [{"conv1": [1, 2], "relu2": [0, 3], "y": [1]}],
        "mixed": [{"y": [0]}, {"conv2": [1], "y": [2]}, {"conv1": [1], "conv2": [0, 1], "y": [0]}],
    },
    "skip": {
        "none": [{"y": [0]}],
        "above the block": [{"y": [1], "conv3": [0, 2]}],
        "main branch": [{"y": [1], "conv2": [1, 3]}],
        "below the block": [{"y": [2], "conv1": [0]}, {"y": [0], "conv1": [1, 2]}, {"y": [1], "relu1": [3]}],
        "chained": [{"y": [1], "conv3": [1, 2], "conv2": [0, 3], "conv1": [1, 2]}],
        "sum and below": [{"y": [0], "sum": [1, 2], "conv1": [1, 3]}],
    },
}
# In the plain net there is no way around a layer: one case shows that including them changes nothing.
CASES = [(net, case, True) for net, cases in CONDITIONS.items() for case in cases] + [
    *(("skip", case, False) for case in CONDITIONS["skip"]),
    ("plain", "chained", False),
]


def composite(name: str, first: str):
    """zennit's composite for a row of `RULES`."""
    return MixedComposite(
        [
            NameMapComposite([([first], RULES[name][0][0])]),
            LayerMapComposite([*layer_map_base(), ((nn.Conv2d, nn.Linear), RULES[name][1][0])]),
        ]
    )


def twins(net: str, rules: str):
    """A torch model and its numpy twin with one set of weights."""
    build, plan, seed = NETS[net]
    model = with_random_weights(build(), seed)
    modules = dict(model.named_modules())
    nodes = []
    for name, kind, inputs in plan:
        module = modules[name]
        if kind == "conv":
            weight, bias = module.weight.detach().numpy(), module.bias.detach().numpy()
            nodes.append(Node(name, kind, inputs, weight, bias, module.stride[0], module.padding[0]))
        elif kind == "linear":
            nodes.append(Node(name, kind, inputs, module.weight.detach().numpy(), module.bias.detach().numpy()))
        else:
            nodes.append(Node(name, kind, inputs))
    (_, first), (_, other) = RULES[rules]
    affine = [node.name for node in nodes if node.kind in ("conv", "linear")]
    return model, NumpyNet(nodes, {name: first if name == affine[0] else other for name in affine})


def samples(count: int = 2) -> torch.Tensor:
    """Inputs `[count, 2, 8, 8]` of both signs, within -3 and 3."""
    generator = torch.Generator().manual_seed(11)
    return torch.randn(count, 2, 8, 8, generator=generator, dtype=torch.float64).clamp(-3, 3)


@pytest.mark.parametrize("net", NETS)
def test_the_twins_compute_the_same_outputs(net):
    model, twin = twins(net, "epsilon")
    data = samples()
    expected = np.stack([twin.forward(sample)[twin.nodes[-1].name] for sample in data.numpy()])
    assert_relevance_close(model(data), expected, 1e-12)


@pytest.mark.parametrize(("net", "case", "exclude_parallel"), CASES)
@pytest.mark.parametrize("rules", RULES)
def test_ours_equals_numpy(net, case, rules, exclude_parallel):
    model, twin = twins(net, rules)
    data, conditions = samples(), CONDITIONS[net][case]
    record = [name for name, *_ in NETS[net][1]]
    # as many conditions as samples would be paired, not multiplied
    assert len(conditions) != len(data)

    result = ConditionalAttribution(model)(
        data, conditions, composite(rules, "conv1"), record_layer=record, exclude_parallel=exclude_parallel
    )

    expected = [
        twin.explain(
            sample,
            condition["y"][0],
            {layer: ids for layer, ids in condition.items() if layer != "y"},
            exclude_parallel=exclude_parallel,
        )
        for sample in data.numpy()
        for condition in conditions
    ]
    assert np.abs(np.stack([row["input"] for row in expected])).max() > 0
    assert_relevance_close(result.heatmap, np.stack([row["input"].sum(0) for row in expected]), TOLERANCE)
    for layer in record:
        assert_relevance_close(result.relevances[layer], np.stack([row[layer] for row in expected]), TOLERANCE)


def test_one_wrong_number_is_noticed():
    expected = np.linspace(-1, 1, 12).reshape(3, 4)
    actual = expected.copy()
    actual[1, 2] += 2e-9
    assert_relevance_close(expected + 0.5e-9, expected, TOLERANCE)
    with pytest.raises(AssertionError, match=r"at \(1, 2\)"):
        assert_relevance_close(actual, expected, TOLERANCE)
    with pytest.raises(AssertionError, match=r"at \(0, 0\)"):
        assert_relevance_close(np.full(2, 1e-30)[None], np.zeros((1, 2)), TOLERANCE)
    with pytest.raises(AssertionError, match="nan"):
        assert_relevance_close(np.array([1.0, np.nan]), np.array([1.0, 1.0]), TOLERANCE)
