"""`crp.graph` as zennit-crp's users know it: which layers feed which."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from crp.attribution.layers import module_calls
from crp.graph import GraphNode, ModelGraph, dump_pytorch_graph, trace_model_graph
from crp.helper import get_layer_names
from tests.legacy import scripts
from tests.legacy.golden import assert_as_recorded


def test_connections_are_theirs():
    assert_as_recorded(scripts.connections)


class Block(nn.Module):
    """`relu(conv(relu(conv(x))) + x)`, the two activations being one module, as in torchvision's ResNets."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, data):
        return self.relu(self.conv2(self.relu(self.conv1(data))) + data)


@pytest.fixture
def blocks():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 2, 1), Block(), Block(), nn.Flatten(), nn.Linear(8, 2))


DATA = torch.ones(1, 2, 2, 2)


def test_a_skip_connection_reaches_over_a_block(blocks):
    layers = get_layer_names(blocks, [nn.Conv2d, nn.Linear])
    graph = trace_model_graph(blocks, DATA, layers)
    found = {layer: set(graph.find_input_layers(layer)) for layer in layers}
    assert found == {
        "0": set(),
        "1.conv1": {"0"},
        "1.conv2": {"1.conv1"},
        "2.conv1": {"1.conv2", "0"},
        "2.conv2": {"2.conv1"},
        "4": {"2.conv2", "1.conv2", "0"},
    }


def test_blocks_and_modules_called_twice(blocks):
    """A block is fed by the last layers inside it; of two calls each has its own feeders."""
    graph = trace_model_graph(blocks, DATA, ["1", "2", "2.conv1"])
    assert graph.find_input_layers("4") == ["2"]
    assert graph.find_input_layers("2") == ["2.conv1", "1"]
    assert graph.find_input_layers("2.conv1") == ["1"]
    calls = [call for call in module_calls(blocks, DATA) if call.layer == "1.relu"]
    assert [[feeder.layer for feeder in call.feeders] for call in calls] == [["1.conv1"], ["1.conv2", "0"]]


def test_layers_may_be_chosen_anew(blocks):
    """zennit-crp kept the answers of the first choice."""
    graph = trace_model_graph(blocks, DATA, ["0", "1.conv2"])
    assert graph.find_input_layers("2.conv1") == ["1.conv2", "0"]
    graph.layer_names = ["0", "1.conv1"]
    assert graph.find_input_layers("2.conv1") == ["1.conv1", "0"]
    graph.set_layer_names(["1.conv1"])
    assert graph.find_input_layers("2.conv1") == ["1.conv1"]
    assert graph.layer_node_map["1.conv1"].input_layers == []


def test_the_model_is_left_as_it_was(blocks):
    blocks.train()
    trace_model_graph(blocks, DATA, ["0"])
    assert not any(module._forward_hooks for module in blocks.modules())
    assert all(module.training for module in blocks.modules())
    assert all(parameter.grad is None for parameter in blocks.parameters())


def test_words_as_input():
    """An embedding takes whole numbers, which have no gradient; its output is the first layer's."""
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 3), nn.Linear(3, 2))
    graph = trace_model_graph(model, torch.tensor([[1, 2]]), ["0", "1", "2"])
    assert [graph.find_input_layers(layer) for layer in "012"] == [[], ["0"], ["1"]]


def test_a_layer_that_gives_a_tuple():
    model = nn.Sequential(nn.Linear(3, 3), nn.LSTM(3, 4, batch_first=True))
    graph = trace_model_graph(model, torch.ones(1, 2, 3), ["0", "1"])
    assert graph.find_input_layers("1") == ["0"]


@pytest.mark.parametrize("name", ["2.conv3", ""])
def test_a_layer_that_does_not_exist(blocks, name):
    with pytest.raises(KeyError, match=f"{name} does not exist"):
        trace_model_graph(blocks, DATA, ["0", name])
    with pytest.raises(KeyError, match=r"2\.conv3 does not exist: did you mean '2\.conv"):
        trace_model_graph(blocks, DATA, ["0"]).find_input_layers("2.conv3")


def test_bug_skip_connections_took_exponential_time():
    """graph.py:109. Of 60 blocks in a row there are 2**60 ways from the last to the first."""
    model = nn.Sequential(nn.Conv2d(2, 2, 1), *[Block() for _ in range(60)])
    graph = trace_model_graph(model, DATA, ["0", "1.conv1", "60.conv1"])
    assert graph.find_input_layers("60") == ["60.conv1", "1.conv1", "0"]


def test_bug_a_deep_model_ended_in_a_recursion_error():
    """graph.py:194."""
    model = nn.Sequential(nn.Linear(1, 1), *[nn.Tanh() for _ in range(1500)], nn.Linear(1, 1))
    assert trace_model_graph(model, torch.ones(1, 1), ["0"]).find_input_layers("1501") == ["0"]


def test_nodes_and_text(blocks, capsys):
    graph = trace_model_graph(blocks, DATA, ["0"], debug=True)
    assert capsys.readouterr().out == f"{graph}\n"
    assert str(graph).splitlines()[0] == "0 -> 1.conv1, 1.relu"
    assert str(graph).splitlines()[-1] == "4 -> end"
    assert isinstance(graph, ModelGraph)
    node = graph.layer_node_map["1.conv2"]
    assert isinstance(node, GraphNode)
    assert graph.id_node_map[node.id] is node
    assert (node.scopeName, node.layer_name, node.is_layer) == ("1.conv2", "1.conv2", True)
    assert [each.layer_name for each in node.input_nodes] == ["1.relu"]
    assert [each.layer_name for each in node.output_nodes] == ["1.relu"]


class _Value:
    def __init__(self, number):
        self.number = number

    def unique(self):
        return self.number


class _Node:
    def kind(self):
        return "aten::relu"

    def scopeName(self):  # noqa: N802  (torch's name)
        return "__module.relu"

    def inputs(self):
        return [_Value(1)]

    def outputs(self):
        return [_Value(2)]


def test_a_jit_graph_is_printed(capsys):
    class Graph:
        def nodes(self):
            return [_Node()]

    dump_pytorch_graph(Graph())
    head, line = capsys.readouterr().out.splitlines()
    assert head.split() == ["kind", "scopeName", "inputs", "->", "outputs"]
    assert line.split() == ["aten::relu", "__module.relu", "[1]", "->", "[2]"]
