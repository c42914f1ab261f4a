"""Tensors with a gradient that the pass did not make of its data: weights, and what a model made of them before.

A module that the model hides from `modules()` runs with the caller's parameters, and a view of a parameter that was
stored when the model was built has a graph. For rules they are constants, as the weights of the copy are: as a second
signal, a weight would take half of the relevance of a product.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Any

from torch import Tensor

from crp.attribution.backward_graph import Node
from crp.attribution.nested_tensors import tensors_in


def as_start(tensor: Tensor) -> Tensor:
    """Mark a leaf of autograd's graph as one at which a pass starts: its input, or the output of a layer."""
    tensor.starts_pass = True
    return tensor


class ForeignTensors:
    """Finds tensors whose graph leads to no start of the pass.

    Parameters
    ----------
    seen
        Nodes that calls on the data made; they may become more.
    """

    def __init__(self, seen: Set[Node]) -> None:
        self._seen = seen
        self._of_data: set[Node] = set()
        self._foreign: set[Node] = set()

    def among(self, given: tuple) -> bool:
        """Return whether a tensor of arguments is foreign, also inside lists and tuples."""
        return any(map(self._is_foreign, tensors_in(given)))

    def detached(self, value: Any) -> Any:
        """Return a value with constants in the place of foreign tensors."""
        if isinstance(value, Tensor):
            return value.detach() if self._is_foreign(value) else value
        if type(value) in (list, tuple):
            return type(value)(map(self.detached, value))
        return value

    def _is_foreign(self, tensor: Tensor) -> bool:
        if not tensor.requires_grad:
            return False
        if tensor.grad_fn is None:
            return not hasattr(tensor, "starts_pass")
        return not self._leads_to_data(tensor.grad_fn)

    def _leads_to_data(self, start: Node) -> bool:
        above: dict[Node, Node | None] = {start: None}
        waiting = [start]
        while waiting:
            node = waiting.pop()
            if node in self._seen or node in self._of_data or hasattr(getattr(node, "variable", None), "starts_pass"):
                while node is not None:  # all on the way do
                    self._of_data.add(node)
                    node = above[node]
                return True
            for below, _ in node.next_functions:
                if below is not None and below not in above and below not in self._foreign:
                    above[below] = node
                    waiting.append(below)
        self._foreign.update(above)
        return False
