"""Autograd's graph of one forward pass, and the rules' calls in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator

import torch
from torch import Tensor

from crp.attribution.operators import Call

Node = torch.autograd.graph.Node


def find_all(source: Tensor, starts: Iterable[Tensor]) -> None:
    """Find the factors of all calls that relevance can reach from `source`, and join those of neighbours.

    Under `torch.vmap`, which carries several conditions, they cannot be found.

    Where the output of one call goes to a second one alone, through nothing but rules that pass relevance on as it is,
    relevance is multiplied by the second's factor at its input and at once by the first's at its output. The product
    of the two is the same for all conditions, so it takes the place of the lower factor, and the upper one goes.

    Parameters
    ----------
    source
        Where relevance starts.
    starts
        Wherever it may ever start: what is joined stays so.
    """
    users = Counter(below for node in graph_below(*starts) for below, _ in node.next_functions)
    calls = _calls_below(source)
    for call in calls.values():
        call.find()
    for node, upper in calls.items():
        below = _only_input(node)
        while users[below] == 1 and getattr(below, "unchanged", False):
            below = _only_input(below)
        if users[below] == 1 and below in calls:
            calls[below].join(upper)


def use_once(source: Tensor) -> None:
    """Let each call that relevance can reach from `source` be let go when it has passed."""
    for call in _calls_below(source).values():
        call.once = True


def _calls_below(source: Tensor) -> dict[Node, Call]:
    return {node: node.call for node in graph_below(source) if isinstance(getattr(node, "call", None), Call)}


def _only_input(node: Node) -> Node | None:
    return node.next_functions[0][0]


def graph_below(*outputs: Tensor, closed: Collection[object] = ()) -> Iterator[Node]:
    """All nodes of the graph of a forward pass from `outputs` down, none of them reached through a `closed` one."""
    seen, waiting = set(closed), [output.grad_fn for output in outputs]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        yield node
        seen.add(node)
        waiting += [below for below, _ in node.next_functions]
