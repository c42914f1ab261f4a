"""Cells of a grid carried up together: what every cell gives by itself, in fewer passes."""

import pytest
import torch
from torch import nn
from zennit.composites import EpsilonPlusFlat

from crp.attribution import RelevanceFlow, cells
from crp.attribution.cells import Cells, cells_up
from crp.attribution.composites import composite_for
from crp.attribution.upward_graph import UpwardGraph
from tests.oracle.comparing import assert_relevance_close


class Deep(nn.Module):
    """Convolutions with a residual block and two strides; `mixed` lets every position see the whole input."""

    def __init__(self, mixed: bool = False, axes: int = 2) -> None:
        super().__init__()
        conv = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[axes]
        self.stem = conv(1, 3, 3, padding=1)
        self.side = conv(3, 3, 3, padding=1)
        self.low = nn.Sequential(conv(3, 4, 3, stride=2, padding=1), nn.ReLU())
        self.high = nn.Sequential(conv(4, 5, 3, padding=1), nn.ReLU(), conv(5, 5, 3, stride=2, padding=1), nn.ReLU())
        self.branch = conv(4, 2, 3, stride=2, padding=1)
        self.head = nn.LazyLinear(2)
        self.mixed = mixed

    def forward(self, data):
        if self.mixed:
            data = data + 0.5 * data.flip(-1)
        first = torch.relu(self.stem(data))
        low = self.low(first + torch.relu(self.side(first)))
        return self.head(torch.cat([self.high(low), self.branch(low)], 1).flatten(1))


def opened(mixed=False, axes=2, layers=("high", "branch", "low"), composite=None, side=32):
    torch.manual_seed(5)
    model, data = Deep(mixed, axes).double().eval(), torch.randn(1, 1, *[side] * axes).double()
    model(data)
    return RelevanceFlow(model, composite or composite_for(model, data).composite, data, layers)


def masks(cells):
    place = cells.place()
    return (place == torch.arange(cells.count).view(-1, *[1] * place.ndim)).double()


@pytest.fixture
def carried(monkeypatch):
    """The conditions of every upward pass, and whether it starts at the input."""
    calls, up = [], UpwardGraph.up

    def counted(graph, regions, goals, start=None):
        calls.append((len(regions), start is None))
        return up(graph, regions, goals, start)

    monkeypatch.setattr(UpwardGraph, "up", counted)
    return calls


def lifted(flow, cells, layers):
    """Carry all cells up to some layers."""
    found = {layer: torch.full((cells.count, *flow.activation(layer).shape), torch.nan).double() for layer in layers}
    for numbers, some in cells_up(flow.upward_graph(layers), cells):
        for layer, values in some.items():
            assert found[layer][numbers].isnan().all()
            found[layer][numbers] = values
    return found


SHAPES = [(2, (8, 8), 32), (2, (7, 8), 36), (1, (16,), 64), (3, (5, 5, 5), 20)]


# Which cells share a pass does not depend on the rules: CI has all shapes with the default rules, one with others.
@pytest.mark.parametrize(
    ("axes", "grid", "side", "composite"),
    [(*shape, None) for shape in SHAPES]
    + [pytest.param(*shape, EpsilonPlusFlat(), marks=pytest.mark.slow if shape[1:] != ((8, 8), 32) else ())
       for shape in SHAPES],
)  # fmt: skip
def test_cells_carried_up_together_are_what_each_gives_by_itself(carried, axes, grid, side, composite):
    """Layers above one another and side by side; the lowest is divided itself, the others from a layer below."""
    cells = Cells(grid, (side,) * axes)
    layers = ["high", "branch", "low"]
    with opened(axes=axes, side=side, composite=composite) as flow:
        found = lifted(flow, cells, layers)
        assert [count for count, start in carried if start] == [3**axes + 1] * 2
        assert sum(count for count, start in carried if not start) == cells.count
        for layer in layers:
            assert_relevance_close(found[layer], flow.up(masks(cells), layer), 1e-12)


def test_cells_that_meet_have_passes_of_their_own(carried):
    """Every position sees the picture and its mirror image: dividing what cells share would be wrong."""
    cells = Cells((8, 8), (32, 32))
    with opened(mixed=True) as flow:
        found = lifted(flow, cells, ["high", "low"])
        assert carried[-1][1]
        assert sum(count for count, start in carried if start) >= 64
        for layer in found:
            assert_relevance_close(found[layer], flow.up(masks(cells), layer), 1e-12)


def test_passes_whose_results_are_too_large_to_hold_are_not_shared(carried, monkeypatch):
    grid, layers = Cells((8, 8), (32, 32)), ["high", "low"]
    with opened() as flow:
        sizes = {flow.activation(layer).nbytes for layer in layers}
        monkeypatch.setattr(cells, "_LARGEST", 10 * min(sizes) - 1)
        found = lifted(flow, grid, layers)
        assert carried == [(some, True) for some, _ in carried]
        assert sum(some for some, _ in carried) == 64
        for layer in layers:
            assert_relevance_close(found[layer], flow.up(masks(grid), layer), 1e-12)


def test_few_cells_are_not_worth_it(carried):
    with opened() as flow:
        lifted(flow, Cells((4, 4), (32, 32)), ["high"])
    assert carried == [(16, True)]


def test_every_position_has_the_nearest_cell_of_each_pass():
    """By brute force, on an axis of 7 cells with 16 positions."""
    cells = Cells((7,), (28,))
    owners, colours, weights = cells.owners((16,)), cells.colours(), cells.weights()
    assert colours.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert weights.tolist() == [1, 1, 1, 2, 2, 2, 1]
    for position in range(16):
        place = (position + 0.5) * 7 / 16
        for colour in range(3):
            own = [cell for cell in range(7) if cell % 3 == colour]
            nearest = min(own, key=lambda cell, place=place: abs(cell + 0.5 - place))
            distance = abs(int(owners[colour, position]) + 0.5 - place)
            assert int(owners[colour, position]) in own
            assert distance == pytest.approx(abs(nearest + 0.5 - place)) or distance < 1.5


def test_cells_are_numbered_row_by_row():
    assert Cells((2, 3), (4, 6)).place().tolist() == [[0, 0, 1, 1, 2, 2]] * 2 + [[3, 3, 4, 4, 5, 5]] * 2
    assert Cells((2, 4), (4, 8)).colours().tolist() == [0, 1, 2, 0, 3, 4, 5, 3]
    assert Cells((2, 4), (4, 8)).owners((2, 4))[1].tolist() == [[1, 1, 1, 1], [1, 1, 1, 1]]
    assert Cells((4, 4), (8, 8)).weights().view(4, 4)[::3, ::3].tolist() == [[1, 4], [2, 8]]
