"""Conditions over several layers of networks with batch norms and repeated layers, against gradients of torch alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from zennit.rules import Epsilon, Flat, Gamma, Norm

from crp.attribution import ConditionalAttribution, composite_for, prepare, stabilizing
from crp.attribution.observation import observe
from crp.attribution.operation_composite import GammaComposite, NetworkKind, OperationComposite, RankingComposite
from crp.errors import InputError
from tests.oracle.by_gradient import Convolutions
from tests.oracle.comparing import assert_relevance_close

from .random_networks import SHAPE, RandomNet, generated

# What is linear, but for choices: relevance for ranking is the gradient times the activation.
KINDS = [
    "convolution", "any convolution", "functional convolution", "convolution twice", "repeated by the data", "tied",
    "joined", "normalized", "norm of either", "block", "max pool", "average pool", "sum", "difference", "relu",
    "relu in place", "mean", "split", "transposed", "larger", "overwritten region", "shifted", "data-dependent",
]  # fmt: skip
CLASSES, CONCEPTS = 3, 4


class Exact(GammaComposite):
    """The rules that a network has by default, with a vanishing stabiliser."""

    def __init__(self, network: NetworkKind, ranking: OperationComposite | None = None) -> None:
        super().__init__(network, ranking)
        self._flat, self._norm = Flat(1e-13), Norm(1e-13)
        self._epsilon = self._one_input = Epsilon(1e-13)
        self._plus = Gamma(0.25, 1e-13)


class ExactRanking(RankingComposite):
    """The same for relevance that ends at layers."""

    def __init__(self, network: NetworkKind, ranking: OperationComposite | None = None) -> None:
        super().__init__(network, ranking)
        self._epsilon, self._norm = Epsilon(1e-13), Norm(1e-13)


def exact(net: nn.Module, data: Tensor) -> Exact:
    """What `composite_for` chooses, but for the stabiliser."""
    network = composite_for(net, data).composite.network
    return Exact(network, ExactRanking(network))


def merged_by_hand(net: RandomNet, merges: list[tuple[str, str]]) -> None:
    """Let a convolution compute its batch norm, too, as the copy that is explained does."""
    for linear, norm in merges:
        own, after = net.get_submodule(linear), net.get_submodule(norm)
        scale = after.weight / (after.running_var + after.eps).sqrt()
        shift = after.bias - after.running_mean * scale
        own.bias = nn.Parameter(shift if own.bias is None else own.bias * scale + shift)
        own.weight = nn.Parameter(
            own.weight * scale.view((1, -1, 1, 1) if isinstance(own, nn.ConvTranspose2d) else (-1, 1, 1, 1))
        )
        after.forward = lambda values: values


def outputs_of(net: nn.Module, layers: list[str], data: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The output of the model, and those of layers, in one graph."""
    found, handles = {}, []
    for layer in layers:
        hook = lambda module, args, output, layer=layer: found.update({layer: output})  # noqa: E731
        handles.append(net.get_submodule(layer).register_forward_hook(hook))
    output = net(data)
    for handle in handles:
        handle.remove()
    return output, found


def gradient(output: Tensor, of: Tensor, weights: Tensor) -> Tensor:
    return torch.autograd.grad(output, of, weights, retain_graph=True)[0]


def check_chain(seed: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether there is a chain; if so, relevance at both layers and the heatmap are those by hand."""
    monkeypatch.setattr(stabilizing, "EPSILON", 1e-13)
    net, data = RandomNet(seed, KINDS), generated(seed, *SHAPE) + 0.2
    composite = exact(net, data)
    if len(net.once) < 2 or composite.network.depthwise:
        return False
    lower, upper = net.once[0], net.once[-1]
    conditions = [
        {"y": [target], upper: [index], lower: ids}
        for target, index, ids in ((0, 1, [0, 2]), (2, 3, [1]), (1, 0, [0, 1, 2, 3]))
    ]
    replica = prepare(net, composite)
    replica.observe(data)
    try:
        found = ConditionalAttribution(net)(data, conditions, composite)
    except InputError as error:
        if "no relevance of" not in str(error):
            raise
        return False  # one layer does not feed the other
    convolutions = [call for call in observe(prepare(net).model, data).linear if call.kind is not nn.Linear]
    last = len(convolutions) - 1 if net.head == "convolution" else None
    merged_by_hand(net, replica.merges)
    net.by_hand, leaf = True, data.clone().requires_grad_()
    output, layers = outputs_of(net, [lower, upper], leaf)
    with Convolutions(0.25, first_flat=True, last_epsilon=last):
        _, mapped = outputs_of(net, [lower], leaf)
    for row, (sample, number) in enumerate((n, k) for n in range(len(data)) for k in range(len(conditions))):
        condition = conditions[number]
        started = torch.zeros_like(output)
        started[sample, condition["y"]] = 1
        try:
            at_upper = gradient(output, layers[upper], started)
            assert_relevance_close(found.relevances[upper][row], (at_upper * layers[upper])[sample], 1e-6)
            at_lower = gradient(layers[upper], layers[lower], at_upper * kept(condition[upper]))
            assert_relevance_close(found.relevances[lower][row], (at_lower * layers[lower])[sample], 1e-6)
            arriving = gradient(mapped[lower], leaf, at_lower * kept(condition[lower]))
        except RuntimeError as error:  # plain autograd does not allow to overwrite what a ReLU returned
            if "inplace operation" not in str(error):
                raise
            return False
        assert_relevance_close(found.heatmap[row], (arriving * data).sum(1)[sample], 1e-4)
    return True


def kept(ids: int | list[int]) -> Tensor:
    chosen = torch.zeros(CONCEPTS, dtype=torch.float64)
    chosen[ids] = 1
    return chosen[:, None, None]


@pytest.mark.parametrize("block", [0, *(pytest.param(block, marks=pytest.mark.slow) for block in range(1, 6))])
def test_chains_are_gradients_by_hand(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = [check_chain(seed, monkeypatch) for seed in range(100 * block, 100 * block + 100)]
    assert sum(compared) >= 5


def check_sums(seed: int) -> None:
    """By the rules as they are, chains of single concepts add up to the chain of all, at the layer and the input."""
    net, data = RandomNet(seed, KINDS), generated(seed, *SHAPE) + 0.2
    if len(net.once) < 2:
        return
    lower, upper = net.once[0], net.once[-1]
    single = [{"y": [1], upper: [u], lower: [v]} for u in range(CONCEPTS) for v in range(CONCEPTS)]
    try:
        composite = composite_for(net, data).composite
        parts = ConditionalAttribution(net)(data, single, composite)
        (whole,) = ConditionalAttribution(net).generate(
            data, [{"y": [1], upper: range(CONCEPTS), lower: range(CONCEPTS)}], composite, verbose=False
        )
    except InputError:
        return
    added = parts.heatmap.view(len(data), -1, *whole.heatmap.shape[1:]).sum(1)
    assert float((added - whole.heatmap).abs().max()) <= 1e-9 * float(parts.heatmap.abs().max())
    arriving = parts.relevances[lower].view(len(data), CONCEPTS, CONCEPTS, *whole.relevances[lower].shape[1:])
    # what arrives below does not depend on what is masked there
    assert torch.equal(arriving, arriving[:, :, :1].expand_as(arriving))
    scale = float(arriving.abs().max())
    assert float((arriving[:, :, 0].sum(1) - whole.relevances[lower]).abs().max()) <= 1e-9 * scale


@pytest.mark.parametrize("block", [0, *(pytest.param(block, marks=pytest.mark.slow) for block in range(1, 10))])
def test_chains_add_up(block: int) -> None:
    for seed in range(10 * block, 10 * block + 10):
        check_sums(seed)
