"""Calls that a note names, and which of them relevance reaches in the graph of a pass."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from torch import Tensor

from crp.attribution.backward_graph import Node
from crp.attribution.functions.operation import Operation


@dataclass
class NamedCall:
    """A call, and the nodes that it added to the graph. None is known of the module of what only the graph shows."""

    name: str
    module: str | None
    nodes: Collection[Node] = ()


def modules_by_name(calls: Iterable[NamedCall], reached: Collection[Node]) -> dict[str, list[str]]:
    """List the names of the calls that one of the nodes belongs to, each with the modules that made them."""
    found: dict[str, set[str]] = defaultdict(set)
    for call in calls:
        if not reached.isdisjoint(call.nodes):
            found[call.name] |= set() if call.module is None else {call.module or "the model itself"}
    return {name: sorted(modules) for name, modules in sorted(found.items())}


def shown_below(output: Tensor) -> set[Node]:
    """Find the nodes of the graph that relevance for maps reaches."""
    found, waiting = set(), [output.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in found:
            continue
        found.add(node)
        below, call = [edge[0] for edge in node.next_functions], getattr(node, "call", None)
        shown = call.shown if isinstance(call, Operation) else [True] * len(below)
        waiting += [edge for edge, is_shown in zip(below, shown, strict=True) if is_shown]
    return found


def is_rule(node: Node) -> bool:
    """Whether a node is that of a rule, of max pooling, or of a leaf."""
    return any(hasattr(node, name) for name in ("call", "unchanged", "selected", "variable"))
