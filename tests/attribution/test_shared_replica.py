"""Several flows on one replica: each computes what it computes alone, whatever another does meanwhile.

What another thread may do is done here in the middle of a backward pass, by a rule that calls back.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from zennit.composites import LayerMapComposite
from zennit.core import BasicHook
from zennit.rules import Epsilon, ReLUGuidedBackprop
from zennit.types import Linear

from crp.attribution import RelevanceFlow, Replica, prepare


class Interrupted(BasicHook):
    """Positive weights only, and calls `meanwhile` while the weights of its module are the modified ones."""

    meanwhile: Callable[[], object] = staticmethod(lambda: None)

    def __init__(self) -> None:
        super().__init__(
            input_modifiers=[lambda data: data],
            param_modifiers=[self._positive],
            output_modifiers=[lambda output: output],
            gradient_mapper=lambda relevance, outputs: [relevance / (outputs[0] + 1e-3)],
            reducer=lambda inputs, gradients: inputs[0] * gradients[0],
        )

    @classmethod
    def _positive(cls, values: Tensor, name: str) -> Tensor:
        if name == "bias":  # the weight is modified by now
            cls.meanwhile()
        return values.clamp(min=0)


class Clamped(Interrupted):
    """The same, and relevance is cut at 0: no linear operator."""

    def __init__(self) -> None:
        super().__init__()
        self.reducer = lambda inputs, gradients: (inputs[0] * gradients[0]).clamp(min=0)

    def copy(self) -> "Clamped":
        return Clamped()


class Doubled(nn.Linear):
    """A linear layer with a forward of its own, for which autograd computes the transpose."""

    def forward(self, data: Tensor) -> Tensor:
        self.meanwhile()
        return 2 * super().forward(data)

    meanwhile: Callable[[], object] = staticmethod(lambda: None)


def network(last: type[nn.Linear] = nn.Linear) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), last(48, 8), nn.ReLU(), last(8, 3))
    return model.double().eval()


def relevance(flow: RelevanceFlow) -> Tensor:
    return flow.down(flow.output_relevance([1]))


def seen_meanwhile(monkeypatch, kind: type, replica: Replica, sample: Tensor) -> list[Tensor]:
    """Let a class call another flow once; return the list that gets its prediction."""
    seen = []

    def other() -> None:
        monkeypatch.setattr(kind, "meanwhile", staticmethod(lambda: None))
        with RelevanceFlow(replica, None, sample) as flow:
            seen.append(flow.prediction)

    monkeypatch.setattr(kind, "meanwhile", staticmethod(other))
    return seen


@pytest.mark.parametrize(("rule", "linear"), [(Interrupted, True), (Clamped, False)])
def test_weights_modified_by_a_rule_are_seen_by_no_other_flow(monkeypatch, rule, linear):
    model, data = network(), torch.randn(2, 1, 2, 6, 6, dtype=torch.float64)
    replica = prepare(model, LayerMapComposite([(Linear, rule())]))
    seen = seen_meanwhile(monkeypatch, Interrupted, replica, data[1])
    with RelevanceFlow(replica, None, data[0]) as flow:
        assert flow.linear is linear
        interrupted = relevance(flow)
    torch.testing.assert_close(seen, [model(data[1])], rtol=1e-12, atol=0)
    with RelevanceFlow(prepare(model, LayerMapComposite([(Linear, rule())])), None, data[0]) as flow:
        assert torch.equal(interrupted, relevance(flow))


def test_weights_of_a_branch_are_seen_by_no_other_flow(monkeypatch):
    """A module of another class runs with the weights of a branch while relevance is computed."""
    model, data = network(Doubled), torch.randn(2, 1, 2, 6, 6, dtype=torch.float64)
    replica = prepare(model, LayerMapComposite([(nn.Linear, Interrupted()), (nn.Conv2d, Epsilon())]))
    with RelevanceFlow(replica, None, data[0]) as flow:
        seen = seen_meanwhile(monkeypatch, Doubled, replica, data[1])
        relevance(flow)
    torch.testing.assert_close(seen, [model(data[1])], rtol=1e-12, atol=0)


@pytest.mark.parametrize("rule", [Clamped, ReLUGuidedBackprop])
def test_flows_by_zennits_own_hooks_are_open_at_once(rule):
    """zennit keeps the input of the last call on the hook: here each call has a hook of its own."""
    kind = nn.ReLU if rule is ReLUGuidedBackprop else nn.Conv2d
    composite = LayerMapComposite([(kind, rule()), (nn.Linear, Epsilon()), (nn.Conv2d, Epsilon())])
    data = torch.randn(2, 1, 2, 6, 6, dtype=torch.float64)
    replica = prepare(network(), composite)
    alone = []
    for sample in data:
        with RelevanceFlow(replica, None, sample) as flow:
            assert not flow.linear
            alone.append(relevance(flow))
    assert not torch.allclose(*alone)
    with RelevanceFlow(replica, None, data[0]) as first, RelevanceFlow(replica, None, data[1]) as second:
        assert torch.equal(relevance(first), alone[0])
        assert torch.equal(relevance(second), alone[1])
        assert torch.equal(relevance(first), alone[0])


def test_a_module_called_twice_by_zennits_own_hook_has_an_input_for_each_call():
    """Two calls in a row of one layer give the relevance of two equal layers."""

    class Twice(nn.Module):
        def __init__(self, first: nn.Module, second: nn.Module) -> None:
            super().__init__()
            self.first, self.second = first, second

        def forward(self, data: Tensor) -> Tensor:
            return self.second(torch.relu(self.first(data)))

    torch.manual_seed(0)
    layer, other = nn.Linear(4, 4).double(), nn.Linear(4, 4).double()
    other.load_state_dict(layer.state_dict())
    composite = LayerMapComposite([(nn.Linear, Clamped())])
    data = torch.randn(1, 4, dtype=torch.float64)
    found = []
    for model in (Twice(layer, layer), Twice(layer, other)):
        with RelevanceFlow(model.eval(), composite, data) as flow:
            found.append(relevance(flow))
    assert found[0].abs().sum() > 0
    assert torch.equal(*found)


def test_a_replaced_forward_runs_with_the_weights_of_the_rule():
    """A function put on a module, which reads its weights, is run by zennit's hook with the modified ones."""
    model, plain = network(), network()

    def forward(data: Tensor) -> Tensor:
        return nn.functional.linear(data, model[5].weight, model[5].bias)

    model[5].forward = forward
    composite = LayerMapComposite([(nn.Linear, Interrupted()), (nn.Conv2d, Epsilon())])
    data = torch.randn(1, 2, 6, 6, dtype=torch.float64)
    with RelevanceFlow(model, composite, data) as replaced, RelevanceFlow(plain, composite, data) as expected:
        assert not replaced.linear
        torch.testing.assert_close(relevance(replaced), relevance(expected), rtol=1e-12, atol=0)
