"""What one pass shows: merged batch norms, order of calls, and that the copy computes what the model computes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from crp.attribution import RelevanceFlow, composite_for, prepare
from crp.attribution.copies import replicate
from crp.attribution.observation import observe
from crp.errors import ModelError
from tests.oracle.comparing import assert_relevance_close

DATA = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(5))


def calibrated(norm: nn.Module) -> nn.Module:
    with torch.no_grad():
        norm.running_mean.uniform_(-0.3, 0.3)
        norm.running_var.uniform_(0.2, 2)
        if norm.weight is not None:
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.uniform_(-0.3, 0.3)
    return norm


class Net(nn.Module):
    """Two convolutions with batch norms; each fault changes how they are used."""

    def __init__(self, forward: Callable[[Net, Tensor], Tensor], **norm: object) -> None:
        super().__init__()
        self.steps = forward
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm, self.other = (calibrated(nn.BatchNorm2d(4, **norm)) for _ in range(2))
        self.head = nn.Linear(4, 2)

    def forward(self, data: Tensor) -> Tensor:
        return self.head(self.steps(self, data).mean((2, 3)))


def plain(net: Net, data: Tensor) -> Tensor:
    data = net.norm(net.first(data)).relu()
    return net.other(net.second(data)).relu()


def shared_norm(net: Net, data: Tensor) -> Tensor:
    return net.norm(net.second(net.norm(net.first(data)).relu()))


def read_twice(net: Net, data: Tensor) -> Tensor:
    before = net.first(data)
    return net.norm(before).relu() + before


def with_activation_between(net: Net, data: Tensor) -> Tensor:
    return net.norm(net.first(data).relu())


def called_twice(net: Net, data: Tensor) -> Tensor:
    data = net.norm(net.first(data)).relu()
    return net.other(net.second(net.second(data)))


def read_through_a_view(net: Net, data: Tensor) -> Tensor:
    before = net.first(data)
    halves = before.flatten(2)
    return net.norm(before).relu() * halves.mean(-1)[..., None, None].sigmoid()


def overwritten(net: Net, data: Tensor) -> Tensor:
    before = net.first(data)
    after = net.norm(before)
    before.mul_(2)
    return after + before


def overwritten_before(net: Net, data: Tensor) -> Tensor:
    before = net.first(data)
    before[:, 0] = 0.5
    return net.norm(before)


def values_read(net: Net, data: Tensor) -> Tensor:
    before = net.first(data)
    return net.norm(before) * (2 if before.tolist()[0][0][0][0] > 0 else 1)


def weight_read(net: Net, data: Tensor) -> Tensor:
    return net.norm(net.first(data)) * net.first.weight.sum()


MERGED = {
    overwritten_before: [],
    values_read: [],
    weight_read: [],
    plain: [("first", "norm"), ("second", "other")],
    shared_norm: [],
    read_twice: [],
    with_activation_between: [],
    called_twice: [("first", "norm")],
    read_through_a_view: [],
    overwritten: [],
}


@pytest.mark.parametrize("steps", MERGED, ids=lambda steps: steps.__name__)
@pytest.mark.parametrize("norm", [{}, {"affine": False}, {"eps": 0.5}], ids=str)
def test_merged_only_where_it_is_exact(steps: Callable, norm: dict) -> None:
    torch.manual_seed(0)
    model = Net(steps, **norm).double().eval()
    data = DATA.double()
    assert observe(replicate(model), data).merges == MERGED[steps]
    with RelevanceFlow(model, composite_for(model).composite, data) as flow:
        assert_relevance_close(flow.prediction, model(data), 1e-12)
        assert [note.split(": ")[-1] for note in flow.notes] == (
            ["tolist in 'the model itself'."] if steps is values_read else []
        )
        started = flow.output_relevance([0, 1])
        assert abs(flow.ledger(started).unaccounted) < 1e-9 * float(started.abs().sum())


def test_tied_weights_are_not_merged() -> None:
    model = Net(plain).double().eval()
    model.first = nn.Conv2d(3, 4, 3, padding=1).double()
    tied = nn.Sequential(nn.Conv2d(4, 4, 1), calibrated(nn.BatchNorm2d(4)), nn.Conv2d(4, 4, 1), nn.Flatten())
    tied[2].weight = tied[0].weight
    tied = tied.double().eval()
    data = torch.randn(2, 4, 2, 2).double()
    assert observe(replicate(tied), data).merges == []
    with RelevanceFlow(tied, composite_for(tied).composite, data) as flow:
        assert_relevance_close(flow.prediction, tied(data), 1e-12)


def test_merged_equals_a_convolution_with_the_merged_weights() -> None:
    """By hand: weight 2, variance 3 and eps 1 give 2 * 4 / 2 = 4; the bias is (1 - 5) * 2 + 7 = -1."""
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1, eps=1.0), nn.Flatten(), nn.Linear(1, 1)).double().eval()
    with torch.no_grad():
        for value, number in zip(
            (model[0].weight, model[0].bias, model[1].running_mean, model[1].running_var, model[1].weight,
             model[1].bias, model[3].weight, model[3].bias),
            (2.0, 1.0, 5.0, 3.0, 4.0, 7.0, 1.0, 0.0),
            strict=True,
        ):  # fmt: skip
            value.fill_(number)
    flow = RelevanceFlow(model, composite_for(model).composite, torch.full((1, 1, 1, 1), 3.0).double())
    merged = flow.replica.model[0]
    assert (merged.weight.item(), merged.bias.item()) == (4.0, -1.0)
    assert flow.prediction.item() == 11.0


class NormAndActivation(nn.BatchNorm2d):
    """A norm and its activation in one module, as in timm."""

    def forward(self, data: Tensor) -> Tensor:
        statistics = self.running_mean, self.running_var
        return functional.batch_norm(data, *statistics, self.weight, self.bias, False, 0.1, self.eps).relu()


class PositiveScale(nn.BatchNorm2d):
    """A norm whose scale is not its parameter."""

    def forward(self, data: Tensor) -> Tensor:
        scale = self.weight.abs() + 1
        return functional.batch_norm(data, self.running_mean, self.running_var, scale, self.bias, False, 0.1, self.eps)


@pytest.mark.parametrize("eps", [1e-5, 0.5, 2.0])
def test_a_subclass_of_a_batch_norm_keeps_what_else_it_does(eps: float) -> None:
    def model(norm: nn.Module) -> nn.Module:
        torch.manual_seed(0)
        norm = calibrated(norm)
        return nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.Flatten(), nn.Linear(64, 2)).double().eval()

    own = model(NormAndActivation(4, eps=eps))
    plain = model(nn.BatchNorm2d(4, eps=eps)).insert(2, nn.ReLU())
    assert observe(replicate(own), DATA.double()).merges == [("0", "1")]
    flows = [RelevanceFlow(net, composite_for(net).composite, DATA.double()) for net in (own, plain)]
    assert_relevance_close(flows[0].prediction, own(DATA.double()), 1e-12)
    one, other = (flow.down(flow.output_relevance(1)) for flow in flows)
    # the stabiliser of the norm's own function, 1e-6, is all that differs
    assert_relevance_close(one, other, 1e-4)
    assert own[1].running_mean.any()  # the caller's
    assert own[1].weight is not None


def test_a_norm_that_computes_something_else_is_not_merged() -> None:
    torch.manual_seed(0)
    norm = calibrated(PositiveScale(4))
    model = nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.Flatten(), nn.Linear(64, 2)).double().eval()
    assert observe(replicate(model), DATA.double()).merges == []
    with RelevanceFlow(model, composite_for(model).composite, DATA.double()) as flow:
        assert_relevance_close(flow.prediction, model(DATA.double()), 1e-12)


class Backwards(nn.Module):
    """Registers the head before the stem."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.stem = nn.Linear(4, 2), nn.Conv2d(3, 4, 3)

    def forward(self, data: Tensor) -> Tensor:
        return self.head(self.stem(data).relu().mean((2, 3)))


class Forwards(Backwards):
    def __init__(self) -> None:
        super().__init__()
        self.head = self._modules.pop("head")


@pytest.mark.parametrize("example", [None, DATA.double()], ids=["registered", "observed"])
def test_rules_follow_the_order_of_calls(example: Tensor | None) -> None:
    heatmaps = []
    for kind in (Backwards, Forwards):
        torch.manual_seed(0)
        model = kind().double().eval()
        with RelevanceFlow(model, composite_for(model, example).composite, DATA.double()) as flow:
            heatmaps.append(flow.down(flow.output_relevance([0, 1])))
    assert torch.equal(*heatmaps)
    assert composite_for(model, DATA.double()).name == "epsilon; maps: epsilon-plus-flat"


IN_PLACE = {
    "+=": lambda x, y: x.__iadd__(y),
    "add_ without its result": lambda x, y: (x.add_(y), x)[1],
    "through a view": lambda x, y: (x.view(-1).mul_(2), x + y)[1],
    "relu_": lambda x, y: functional.relu_(x) + x,
    "written into": lambda x, y: (x.__setitem__((slice(None), 0), y[:, 1]), x)[1],
    "inplace=True": lambda x, y: functional.leaky_relu(x, inplace=True) + x,
    "read before": lambda x, y: (x * 2 + x.mul_(3)),
}


@pytest.mark.parametrize("name", IN_PLACE)
def test_operations_in_place(name: str) -> None:
    class Changing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right, self.head = nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, data: Tensor) -> Tensor:
            return self.head(IN_PLACE[name](self.left(data), self.right(data)))

    torch.manual_seed(0)
    model, data = Changing().double(), torch.randn(2, 3).double()
    with RelevanceFlow(model, composite_for(model).composite, data) as flow:
        assert_relevance_close(flow.prediction, model(data), 1e-12)
        started = flow.output_relevance([0, 1])
        ledger = flow.ledger(started)
    assert abs(ledger.unaccounted) < 1e-9 * float(started.abs().sum())


def test_a_copy_with_another_output_is_refused() -> None:
    class Counting(nn.Module):
        """Its output depends on how often its class ran."""

        runs = 0

        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(3, 2)

        def forward(self, data: Tensor) -> Tensor:
            Counting.runs += 1
            return self.head(data) * Counting.runs

    model = Counting()
    with pytest.raises(ModelError, match=r"^The copy of the model that is explained does not give the model's output:"):
        RelevanceFlow(model, composite_for(model).composite, torch.ones(1, 3))


class Branching(Net):
    """A batch norm that only bright images pass."""

    def forward(self, data: Tensor) -> Tensor:
        data_norm = self.norm if data.mean() > 0 else nn.Identity()
        return self.head(data_norm(self.first(data)).relu().mean((2, 3)))


def test_another_path_than_the_first_is_checked_too() -> None:
    model, data = Branching(plain).double().eval(), DATA.double().abs()
    replica = prepare(model, composite_for(model).composite)
    with RelevanceFlow(replica, None, data) as flow:
        assert_relevance_close(flow.prediction, model(data), 1e-12)
    for _ in range(2):  # an input that was refused once is not taken later
        with pytest.raises(ModelError, match="forward pass depends on the data"):
            RelevanceFlow(replica, None, -data)
    with RelevanceFlow(model, composite_for(model).composite, -data) as flow:
        assert_relevance_close(flow.prediction, model(-data), 1e-12)


def other_operand(net: Net, data: Tensor, bright: bool) -> Tensor:
    first, second = net.first(data), net.wide(data)
    return net.norm(first if bright else second) + 1


def read_before(net: Net, data: Tensor, bright: bool) -> Tensor:
    first, second = net.first(data), net.wide(data)
    added = (second if bright else first) + 1
    return net.norm(first) + added


def read_after(net: Net, data: Tensor, bright: bool) -> Tensor:
    first, second = net.first(data), net.wide(data)
    after = net.norm(first)
    return after + (second if bright else first)


def read_instead(net: Net, data: Tensor, bright: bool) -> Tensor:
    first = net.first(data)
    after = net.norm(first)
    return (after if bright else first).relu()


def parameter_read(net: Net, data: Tensor, bright: bool) -> Tensor:
    bias = net.wide.bias if bright else net.first.bias
    return net.norm(net.first(data)) + bias[:, None, None]


def weight_used(net: Net, data: Tensor, bright: bool) -> Tensor:
    weight = net.wide.weight if bright else net.first.weight
    return net.norm(net.first(data)) + functional.conv2d(data, weight, padding=1)


def exchanged(net: Net, data: Tensor, bright: bool) -> Tensor:
    outputs = [net.first(data), net.wide(data)]
    one, other = outputs if bright else outputs[::-1]
    return net.norm(one) + net.other(other)


class DataDependent(Net):
    def __init__(self, steps: Callable) -> None:
        super().__init__(steps)
        self.wide = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, data: Tensor) -> Tensor:
        return self.head(self.steps(self, data, bool(data.mean() > 0)).mean((2, 3)))


OPERANDS = [other_operand, read_before, read_after, read_instead, parameter_read, weight_used, exchanged]


@pytest.mark.parametrize("steps", OPERANDS, ids=lambda steps: steps.__name__)
@pytest.mark.parametrize("layers", [[], ["first", "norm"]], ids=["no layers", "layers"])
@pytest.mark.parametrize("to_input", [True, False])
def test_the_same_calls_on_other_tensors_are_refused(steps: Callable, layers: list[str], to_input: bool) -> None:
    """The path is that of the first input, so no output is compared; what a merged norm reads is."""
    torch.manual_seed(0)
    model, data = DataDependent(steps).double().eval(), DATA.double().abs()
    replica = prepare(model, composite_for(model).composite)
    layers = layers or ([] if to_input else ["head"])
    for bright in (data, data + 1):
        with RelevanceFlow(replica, None, bright, layers, to_input=to_input) as flow:
            assert_relevance_close(flow.prediction, model(bright), 1e-12)
    assert replica.merges
    for _ in range(2):
        with pytest.raises(ModelError, match=r"'norm' differently than for the first input"):
            RelevanceFlow(replica, None, -data, layers, to_input=to_input)
    with RelevanceFlow(model, composite_for(model).composite, -data, layers, to_input=to_input) as flow:
        assert_relevance_close(flow.prediction, model(-data), 1e-12)
    with RelevanceFlow(replica, None, data, layers, to_input=to_input) as flow:
        assert_relevance_close(flow.prediction, model(data), 1e-12)


class Stem(nn.Module):
    """A container that ends with a convolution, and a batch norm outside of it."""

    def __init__(self, inplace: bool) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Sequential(nn.Conv2d(4, 4, 3, bias=False)))
        self.norm, self.head, self.inplace = nn.BatchNorm2d(4), nn.Linear(4, 3), inplace

    def forward(self, data: Tensor) -> Tensor:
        data = self.norm(self.stem(data))
        # changed in place although the tensor is read again
        data = data + data.mul_(0.5) if self.inplace else data.relu()
        return self.head(data.mean((2, 3)))


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("layers", [["stem"], ["stem", "stem.2", "stem.2.0", "norm"]], ids=len)
@pytest.mark.parametrize("to_input", [True, False])
def test_a_container_that_ends_with_a_merged_convolution_is_a_layer(
    layers: list[str], to_input: bool, inplace: bool
) -> None:
    torch.manual_seed(0)
    model, data = Stem(inplace).double().eval(), DATA.double()
    replica = prepare(model, composite_for(model).composite)
    with RelevanceFlow(replica, None, data, ["stem.2.0"]) as flow:
        expected = flow.down(flow.output_relevance([1] * len(data)), to="stem.2.0")
    for _ in range(2):
        with RelevanceFlow(replica, None, data, layers, to_input=to_input) as flow:
            assert_relevance_close(flow.prediction, model(data), 1e-12)
            assert_relevance_close(flow.down(flow.output_relevance([1] * len(data)), to="stem"), expected, 1e-12)
    assert replica.merges
