"""Recurrent layers: the module's own output, what gates get, and that nothing is lost on the way."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from crp.attribution import RelevanceFlow, composite_for
from crp.attribution.ledger import Ledger
from tests.oracle.comparing import assert_relevance_close

from .one_function import Function


class Reader(nn.Module):
    """A recurrent layer, and what is read from it."""

    def __init__(self, layer: nn.RNNBase, read: str = "all") -> None:
        super().__init__()
        self.layer, self.read = layer, read
        width = layer.hidden_size * (2 if layer.bidirectional else 1)
        self.head = nn.Linear(width if read == "all" else layer.hidden_size, 2)

    def forward(self, data: Tensor) -> Tensor:
        rows, last = self.layer(data)
        if self.read == "all":
            return self.head(rows).mean(1 if self.layer.batch_first else 0)
        return self.head((last[0] if isinstance(last, tuple) else last)[-1])


def closed(model: nn.Module, data: Tensor) -> Ledger:
    with RelevanceFlow(model, composite_for(nn.Linear(2, 2)).composite, data) as flow:
        assert flow.notes == ()
        torch.testing.assert_close(flow.prediction, model(data), rtol=1e-12, atol=1e-12)
        return flow.ledger(flow.output_relevance(0))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize(
    "options", [{}, {"bidirectional": True, "num_layers": 2}, {"bias": False}], ids=["plain", "both ways", "no bias"]
)
@pytest.mark.parametrize("read", ["all", "last"])
def test_output_and_ledger(kind: type[nn.RNNBase], options: dict, read: str) -> None:
    torch.manual_seed(0)
    layer = kind(3, 4, batch_first=True, **options)
    data = torch.randn(2, 5, 3, dtype=torch.float64)
    found = closed(Reader(layer, read).double().eval(), data)
    assert abs(found.unaccounted) < 1e-10 * abs(found.started)
    assert abs(found.arrived) > 1e-4


def test_relu_and_time_first() -> None:
    torch.manual_seed(0)
    model = Reader(nn.RNN(3, 4, nonlinearity="relu", batch_first=True)).double().eval()
    found = closed(model, torch.randn(2, 5, 3, dtype=torch.float64))
    assert abs(found.unaccounted) < 1e-10 * abs(found.started)


@pytest.mark.parametrize(("kind", "candidate"), [(nn.LSTM, 2), (nn.GRU, 2)])
def test_gates_get_no_relevance(kind: type[nn.RNNBase], candidate: int) -> None:
    """Each gate reads one channel of its own; one step from zero, so that only the candidate is a signal."""
    layer = kind(4, 1, batch_first=True)
    with torch.no_grad():
        for weight in layer.parameters():
            weight.zero_()
        blocks = len(layer.weight_ih_l0)
        layer.weight_ih_l0.copy_(torch.eye(blocks, 4))
    model = Reader(layer).double().eval()
    with torch.no_grad():
        model.head.bias.zero_()
    data = torch.ones(1, 1, 4, dtype=torch.float64)
    with RelevanceFlow(model, composite_for(nn.Linear(2, 2)).composite, data) as flow:
        arriving = flow.down(flow.output_relevance(0))[0, 0, 0]
        started = flow.prediction[0, 0]
    expected = torch.zeros(4, dtype=torch.float64)
    expected[candidate] = started
    torch.testing.assert_close(arriving, expected, rtol=1e-4, atol=1e-12)


class ByHand(nn.Module):
    """The steps of `torch.nn.LSTM` with functions."""

    def __init__(self, layer: nn.LSTM) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, data: Tensor) -> Tensor:
        hidden = cell = data.new_zeros(len(data), self.layer.hidden_size)
        for now in data.unbind(1):
            sent = functional.linear(now, self.layer.weight_ih_l0, self.layer.bias_ih_l0)
            returned = functional.linear(hidden, self.layer.weight_hh_l0, self.layer.bias_hh_l0)
            enter, keep, candidate, leave = (sent + returned).chunk(4, 1)
            cell = keep.sigmoid() * cell + candidate.tanh() * enter.sigmoid()
            hidden = cell.tanh() * leave.sigmoid()
        return hidden


class ByCell(nn.Module):
    """The steps by `torch.nn.LSTMCell` or `torch.nn.GRUCell`, with the weights of the layer."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        kind = nn.LSTMCell if isinstance(layer, nn.LSTM) else nn.GRUCell
        self.cell = kind(layer.input_size, layer.hidden_size).double()
        self.cell.load_state_dict({name.removesuffix("_l0"): value for name, value in layer.state_dict().items()})

    def forward(self, data: Tensor) -> Tensor:
        states = None
        for now in data.unbind(1):
            states = self.cell(now, states)
        return states[0] if isinstance(states, tuple) else states


class Last(nn.Module):
    def __init__(self, layer: nn.LSTM) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, data: Tensor) -> Tensor:
        return self.layer(data)[0][:, -1]


@pytest.mark.parametrize(
    ("form", "layer"), [(ByHand, nn.LSTM), (ByCell, nn.LSTM), (ByCell, nn.GRU)], ids=["by hand", "LSTMCell", "GRUCell"]
)
def test_steps_are_explained_as_the_module(form: type[nn.Module], layer: type[nn.RNNBase]) -> None:
    torch.manual_seed(0)
    layer, data = layer(3, 4, batch_first=True).double(), torch.randn(2, 5, 3).double()
    heatmaps = []
    for kind in (form, Last):
        with RelevanceFlow(kind(layer), composite_for(nn.Linear(2, 2)).composite, data) as flow:
            assert flow.notes == ()
            heatmaps.append(flow.down(flow.output_relevance([1])))
    assert_relevance_close(*heatmaps, 1e-12)


class Projected(ByHand):
    """The steps of an LSTM whose hidden state is projected."""

    def forward(self, data: Tensor) -> Tensor:
        hidden, cell = data.new_zeros(len(data), 2), data.new_zeros(len(data), 4)
        for now in data.unbind(1):
            sent = functional.linear(now, self.layer.weight_ih_l0, self.layer.bias_ih_l0)
            returned = functional.linear(hidden, self.layer.weight_hh_l0, self.layer.bias_hh_l0)
            enter, keep, candidate, leave = (sent + returned).chunk(4, 1)
            cell = keep.sigmoid() * cell + candidate.tanh() * enter.sigmoid()
            hidden = functional.linear(cell.tanh() * leave.sigmoid(), self.layer.weight_hr_l0)
        return hidden


@pytest.mark.parametrize("options", [{}, {"bidirectional": True, "num_layers": 2}, {"bias": False}])
def test_projections_are_steps(options: dict) -> None:
    torch.manual_seed(0)
    layer = nn.LSTM(3, 4, proj_size=2, batch_first=True, **options).double()
    data = torch.randn(2, 5, 3, dtype=torch.float64)
    found = closed(Last(layer), data)
    assert abs(found.unaccounted) < 1e-10 * abs(found.started)
    assert abs(found.arrived) > 1e-5
    if not options:
        heatmaps = []
        for kind in (Projected, Last):
            with RelevanceFlow(kind(layer), composite_for(nn.Linear(2, 2)).composite, data) as flow:
                heatmaps.append(flow.down(flow.output_relevance([1])))
        assert_relevance_close(*heatmaps, 1e-12)


class Packed(nn.Module):
    """Reads sequences of several lengths, and averages what it makes of each, or takes its last state."""

    def __init__(self, layer: nn.RNNBase, lengths: list[int], read: str) -> None:
        super().__init__()
        self.layer, self.lengths, self.read = layer, torch.tensor(lengths), read

    def forward(self, data: Tensor) -> Tensor:
        first = self.layer.batch_first
        packed = nn.utils.rnn.pack_padded_sequence(data, self.lengths, batch_first=first, enforce_sorted=False)
        rows, last = self.layer(packed)
        if self.read == "last":
            return (last[0] if isinstance(last, tuple) else last).transpose(0, 1).flatten(1)
        rows = nn.utils.rnn.pad_packed_sequence(rows, batch_first=first)[0]
        return rows.sum(1 if first else 0) / self.lengths[:, None]


# Which axis comes first and what is read are separate in the code: CI has each value of both, not every pair.
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize(
    ("batch_first", "read"),
    [
        (True, "all"),
        (False, "last"),
        pytest.param(True, "last", marks=pytest.mark.slow),
        pytest.param(False, "all", marks=pytest.mark.slow),
    ],
)
def test_a_packed_sequence_is_explained_as_it_is_alone(kind: type[nn.RNNBase], batch_first: bool, read: str) -> None:
    torch.manual_seed(0)
    # of a GRU that starts at zeros, the reset gate scales a constant, and only alone it does so in all samples
    both_ways = kind is not nn.GRU
    layer = kind(3, 4, num_layers=2, bidirectional=both_ways, batch_first=batch_first).double()
    lengths = [2, 5, 3]
    data = torch.randn(3, 5, 3, dtype=torch.float64)
    rules = composite_for(nn.Linear(2, 2)).composite
    whole = Packed(layer, lengths, read)
    if not batch_first:
        whole = nn.Sequential(Function(lambda values: values.transpose(0, 1)), whole)
    with RelevanceFlow(whole, rules, data) as flow:
        assert flow.notes == ()
        assert_relevance_close(flow.prediction, whole(data), 1e-12)
        started = flow.output_relevance([1])
        arrived = flow.down(torch.cat([started, 2 * started]))
        ledger = flow.ledger(started)
        assert abs(ledger.unaccounted) < 1e-10 * abs(ledger.started)
    assert_relevance_close(arrived[1], 2 * arrived[0], 1e-10)
    for sample, length in enumerate(lengths):
        alone = Packed(layer, [length], read)
        if not batch_first:
            alone = nn.Sequential(Function(lambda values: values.transpose(0, 1)), alone)
        with RelevanceFlow(alone, rules, data[sample : sample + 1, :length]) as flow:
            expected = flow.down(flow.output_relevance([1]))[0, 0]
        assert_relevance_close(arrived[0, sample, :length], expected, 1e-10)
        assert not arrived[0, sample, length:].any()


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_sequences_of_one_length_are_the_same_packed_or_not(kind: type[nn.RNNBase]) -> None:
    torch.manual_seed(0)
    layer, data = kind(3, 4, batch_first=True).double(), torch.randn(2, 5, 3).double()
    heatmaps = []
    for model in (Last(layer), Packed(layer, [5, 5], "last")):
        with RelevanceFlow(model, composite_for(nn.Linear(2, 2)).composite, data) as flow:
            heatmaps.append(flow.down(flow.output_relevance([1])))
    assert_relevance_close(*heatmaps, 1e-12)
