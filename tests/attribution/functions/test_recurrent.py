"""Recurrent layers: the module's own output, what gates get, and that nothing is lost on the way."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from crp.attribution import RelevanceFlow, composite_for
from crp.attribution.ledger import Ledger
from tests.oracle.comparing import assert_relevance_close


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


def test_projections_and_packed_sequences_are_named() -> None:
    class Packed(Reader):
        def forward(self, data: Tensor) -> Tensor:
            packed = nn.utils.rnn.pack_padded_sequence(data, [5, 5], batch_first=True)
            return self.head(self.layer(packed)[1][0][-1])

    torch.manual_seed(0)
    projected = Reader(nn.LSTM(3, 4, batch_first=True))
    projected.layer = nn.LSTM(3, 6, proj_size=4, batch_first=True)
    data = torch.randn(2, 5, 3, dtype=torch.float64)
    for model in (projected, Packed(nn.LSTM(3, 4, batch_first=True), "last")):
        with RelevanceFlow(model.double().eval(), composite_for(nn.Linear(2, 2)).composite, data) as flow:
            assert "lstm in 'layer'" in flow.notes[0]
