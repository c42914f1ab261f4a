"""Everything of the caller is as before: hooks, parameters by identity, state, gradients, mode, random state."""

import gc

import numpy as np
import pytest
import torch
from torch import nn
from zennit.composites import EpsilonPlusFlat

from crp.attribution import INPUT, ConditionalAttribution, RelevanceFlow, composite_for


def model_in_training_mode() -> nn.Module:
    """Batch norm, dropout, an in-place activation, a frozen parameter, a gradient, a hook of the caller's."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Dropout(),
        nn.Flatten(),
        nn.Linear(4 * 36, 3),
    )
    model[0].weight.requires_grad_(False)
    model[5].bias.grad = torch.ones(3)
    model[2].register_forward_hook(lambda module, args, output: None)
    return model.train()


def snapshot(model: nn.Module, data: torch.Tensor) -> dict:
    """All that must not change; tensors as bytes and as the objects they are."""
    return {
        "attributes": {
            name: {key: value for key, value in vars(module).items() if not isinstance(value, dict)}
            | {
                key: [(entry, id(thing)) for entry, thing in value.items()]
                for key, value in vars(module).items()
                if isinstance(value, dict)
            }
            for name, module in model.named_modules()
        },
        "state": {key: value.numpy().tobytes() for key, value in model.state_dict().items()},
        "parameters": [(id(p), p.data_ptr(), p.requires_grad, p._version) for p in model.parameters()],
        "gradients": [(id(p.grad), None if p.grad is None else p.grad.tolist()) for p in model.parameters()],
        "data": (data.data_ptr(), data.requires_grad, data.grad, data._version, data.detach().numpy().tobytes()),
        # the old global generator is the caller's, too
        "random": (torch.get_rng_state().numpy().tobytes(), np.random.get_state()[1].tobytes()),  # noqa: NPY002
        "grad enabled": torch.is_grad_enabled(),
    }


CONDITIONS = [{"0": [1], "y": [0]}, {"0": [2], "y": [0]}, {"0": [0, 3], "y": [1]}]


def succeed(model, data):
    ConditionalAttribution(model)(data, CONDITIONS, composite_for(model).composite, exclude_parallel=False)


def fail_at_a_layer(model, data):
    with pytest.raises(ValueError, match="no layer 'nothing'"):
        ConditionalAttribution(model)(data, [{"nothing": [1], "y": [0]}], EpsilonPlusFlat())


def fail_at_a_concept(model, data):
    with pytest.raises(ValueError, match="no concept 99"):
        ConditionalAttribution(model)(data, [{"0": [99], "y": [0]}], EpsilonPlusFlat())


def fail_in_the_model(model, data):
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        RelevanceFlow(model, composite_for(model).composite, torch.ones(1, 2, 30, 30))


def interrupt(model, data):
    def mask(row, ids, layer):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ConditionalAttribution(model)(data, CONDITIONS, EpsilonPlusFlat(), mask_map=mask)


def abandon_a_generator(model, data):
    generator = ConditionalAttribution(model).generate(data, CONDITIONS, EpsilonPlusFlat(), batch_size=1, verbose=False)
    next(generator)
    kept_alive.append(generator)


def leave_a_flow_open(model, data):
    kept_alive.append(RelevanceFlow(model, composite_for(model).composite, data, ["0"]))


kept_alive: list = []


@pytest.mark.parametrize(
    "use",
    [
        succeed,
        fail_at_a_layer,
        fail_at_a_concept,
        fail_in_the_model,
        interrupt,
        abandon_a_generator,
        leave_a_flow_open,
    ],
)
@pytest.mark.parametrize("wants_gradient", [False, True], ids=["plain data", "data with gradient"])
def test_everything_is_as_before(use, wants_gradient):
    """Also while a generator or a flow is still open."""
    model, data = model_in_training_mode(), torch.rand(1, 2, 8, 8, requires_grad=wants_gradient)
    before = snapshot(model, data)
    use(model, data)
    assert snapshot(model, data) == before


def test_snapshot_would_notice():
    """The check can fail: each of these changes is seen."""
    model, data = model_in_training_mode(), torch.rand(1, 2, 8, 8)
    before = snapshot(model, data)
    changes = [
        lambda: model.eval(),
        lambda: model[0].register_forward_hook(print),
        lambda: model[1].running_mean.add_(1),
        lambda: setattr(model[0], "weight", nn.Parameter(model[0].weight.detach(), requires_grad=False)),
        lambda: torch.rand(1),
    ]
    for change in changes:
        change()
        after = snapshot(model, data)
        assert after != before
        before = after


def test_two_flows_on_one_model():
    """Each has a copy of its own, so both are right, in any order of closing."""
    model, data = model_in_training_mode(), torch.rand(2, 2, 8, 8)
    composite = composite_for(model).composite
    with RelevanceFlow(model, composite, data[:1]) as alone:
        expected = alone.down(alone.output_relevance([0]))
    first = RelevanceFlow(model, composite, data[:1])
    second = RelevanceFlow(model, EpsilonPlusFlat(), data)
    second.down(second.output_relevance([0, 1]))
    found = first.down(first.output_relevance([0]))
    first.close()
    second.down(second.output_relevance([1, 1]))
    assert torch.equal(found, expected)


def test_memory_of_a_flow_is_given_back():
    """An open flow that is dropped without closing leaves nothing behind."""
    model, data = model_in_training_mode(), torch.rand(1, 2, 8, 8)

    def tensors() -> int:
        gc.collect()
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    RelevanceFlow(model, EpsilonPlusFlat(), data, ["0"])
    before = tensors()
    for _ in range(5):
        flow = RelevanceFlow(model, EpsilonPlusFlat(), data, ["0"])
        flow.down(flow.down(flow.output_relevance([0]), to="0"), start="0")
        flow.up(torch.ones(1, 8, 8), "0")
        del flow
    assert tensors() <= before


class Counting(nn.Module):
    """Changes a buffer in each pass; the weight of its layer changes buffers when it is read in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, data: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.layer(data)


def test_buffers_that_a_pass_changes_are_as_before() -> None:
    torch.manual_seed(0)
    model, data = Counting().train(), torch.randn(2, 4)
    before = snapshot(model, data)
    with RelevanceFlow(model, composite_for(model).composite, data) as flow:
        flow.down(flow.output_relevance([0, 1]))
    assert snapshot(model, data) == before


def scaled_in_training(data: torch.Tensor) -> torch.Tensor:
    """A ReLU with a hook on its gradient, where there is one."""
    data = data.relu()
    if data.requires_grad:
        data.register_hook(lambda gradient: gradient * 3)
    return data


def test_hooks_on_gradients_change_no_relevance() -> None:
    """As guided backpropagation leaves them on a model."""
    torch.manual_seed(0)
    model, data = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)), torch.randn(2, 4)

    def relevance() -> torch.Tensor:
        with RelevanceFlow(model, composite_for(model, data).composite, data, ["0"]) as flow:
            return torch.cat([flow.down(flow.output_relevance([1]), to=to)[0] for to in ("0", INPUT)])

    expected = relevance()
    model[1].register_full_backward_hook(lambda module, below, above: (below[0] * 3,))
    model[2].register_full_backward_pre_hook(lambda module, above: (above[0] * 3,))
    assert torch.equal(relevance(), expected)
    # a model that scales its gradients in training
    model[1].forward = scaled_in_training
    assert torch.equal(relevance(), expected)
