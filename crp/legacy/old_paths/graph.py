"""zennit-crp's model graph: which layers feed a layer."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn

from crp.attribution.layers import ModuleCall, module_calls
from crp.compat import OLD_NAMES, old_names
from crp.errors import nearest

__all__ = [*OLD_NAMES[__name__]]

__getattr__ = old_names(__name__)


class GraphNode:
    """One call of a module.

    Parameters
    ----------
    node
        The call.
    """

    def __init__(self, node: ModuleCall) -> None:
        self.id = f"{node.layer} #{id(node)}"
        self.scopeName = self.layer_name = node.layer
        self.input_nodes: list[GraphNode] = []
        self.output_nodes: list[GraphNode] = []
        self.is_layer = True
        self.input_layers: list[str] = []


class ModelGraph:
    """The calls of one forward pass, connected. `trace_model_graph` makes it.

    Parameters
    ----------
    input_nodes
        All calls, `crp.attribution.layers.module_calls`.
    """

    def __init__(self, input_nodes: Iterable[ModuleCall]) -> None:
        nodes: dict[ModuleCall, GraphNode] = {}
        for call in input_nodes:
            node = nodes[call] = GraphNode(call)
            node.input_nodes = [nodes[feeder] for feeder in call.feeders]
            for feeder in node.input_nodes:
                feeder.output_nodes.append(node)
        self.id_node_map = {node.id: node for node in nodes.values()}
        # the last call of a module that is called several times, as in zennit-crp
        self.layer_node_map = {node.layer_name: node for node in nodes.values()}
        self.layer_names: Sequence[str] = ()

    def set_layer_names(self, layer_names: Sequence[str]) -> None:
        """Set the layers that `find_input_layers` may return."""
        self.layer_names = layer_names
        for name in layer_names:
            self.layer_node_map[name].input_layers = self.find_input_layers(name)

    def find_input_layers(self, layer_name: str) -> list[str]:
        """List the layers of `layer_names` that feed a layer with no other of them in between, each once.

        Raises
        ------
        KeyError
            If the model has no such layer.
        """
        if layer_name not in self.layer_node_map:
            raise KeyError(f"{layer_name} does not exist: {nearest(layer_name, list(self.layer_node_map))}")
        found: dict[str, None] = {}
        seen, waiting = set(), self.layer_node_map[layer_name].input_nodes[::-1]
        while waiting:
            node = waiting.pop()
            if node in seen:
                continue
            seen.add(node)
            if node.layer_name in self.layer_names:
                found[node.layer_name] = None
            else:
                waiting += node.input_nodes[::-1]
        return list(found)

    def __str__(self) -> str:
        lines = [(node.scopeName, [each.scopeName for each in node.output_nodes]) for node in self.id_node_map.values()]
        return "\n".join(f"{name} -> {', '.join(outputs) or 'end'}" for name, outputs in lines)


def trace_model_graph(model: nn.Module, sample: Tensor, layer_names: list[str], debug: bool = False) -> ModelGraph:
    """Trace how the layers of a model are connected, with one forward pass.

    Parameters
    ----------
    model
        Any model.
    sample
        Model input, `[1, ...]`.
    layer_names
        Layers of the graph.
    debug
        Whether to print all connections.

    Returns
    -------
    ModelGraph

    Raises
    ------
    KeyError
        If the model has no layer of one of the names, or never calls it.
    """
    graph = ModelGraph(module_calls(model, sample))
    for name in layer_names:
        graph.find_input_layers(name)
    graph.set_layer_names(layer_names)
    if debug:
        sys.stdout.write(f"{graph}\n")
    return graph


def dump_pytorch_graph(graph: Any) -> None:
    """Print the nodes of a `torch.jit` graph: kind, scope, inputs and outputs."""
    line = "{:25} {:40}   {} -> {}\n"
    sys.stdout.write(line.format("kind", "scopeName", "inputs", "outputs"))
    for node in graph.nodes():
        values = [[value.unique() for value in side] for side in (node.inputs(), node.outputs())]
        sys.stdout.write(line.format(node.kind(), node.scopeName(), *values))
