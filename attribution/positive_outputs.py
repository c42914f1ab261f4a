"""Which calls of rules get relevance of positive outputs only.

Where a ReLU follows, a unit with a negative output passes nothing on, so no relevance comes back to it: a value of zero
gets none from sums, averages, max pooling and the rules that share by contributions. That is read from the graph, and
relevance that a caller starts with is looked at. Gamma's rule is shorter there (`rules.GammaRule`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from torch import Tensor

from crp.attribution.backward_graph import Node, calls_by_node, graph_below
from crp.attribution.functions.operation import Operation
from crp.attribution.purposes import Purpose
from crp.attribution.rule_operator import RuleCall

# Nodes that only move values; of a maximum, relevance goes to the value that it is.
_MOVING = {
    f"{name}Backward{number}"
    for name in ("View", "ReshapeAlias", "UnsafeView", "Unsqueeze", "Squeeze", "Permute", "Transpose", "Alias", "Clone")
    for number in (0, 1)
} | {"CatBackward0", "_ConcatenationBackward", "MaxPool2DWithIndicesBackward0", "MaxPool3DWithIndicesBackward0"}


def shorter_calls(
    sources: Sequence[Tensor], relevance: Sequence[Tensor | None], purpose: Purpose
) -> frozenset[RuleCall]:
    """Find the calls that can use the form of their rule for relevance of positive outputs only.

    Parameters
    ----------
    sources
        Where relevance starts in the graph of a forward pass, each `[N, C, *S]`.
    relevance
        What starts at each of them, `[K, N, C, *S]`; None if it may be anything.
    purpose
        Whose rules.

    Returns
    -------
    frozenset of RuleCall
        Empty if no rule has such a form.
    """
    by_node = calls_by_node(sources, purpose)
    calls = {node: call for node, call in by_node.items() if call.at_positive_outputs is not None}
    if not calls:
        return frozenset()
    paths = _Paths(sources, relevance, by_node)
    return frozenset(call for node, call in calls.items() if paths.come_to_positive(node))


class _Paths:
    """How relevance comes to the nodes of a graph."""

    def __init__(
        self, sources: Sequence[Tensor], relevance: Sequence[Tensor | None], calls: Mapping[Node, RuleCall]
    ) -> None:
        self._calls = calls
        self._starts = {source.grad_fn: (source, own) for source, own in zip(sources, relevance, strict=True)}
        self._readers = defaultdict(list)
        for node in graph_below(*sources):
            for below, _ in node.next_functions:
                self._readers[below].append(node)
        self._known: dict[tuple[bool, Node], bool] = {}  # not `functools.cache`, whose cycle would keep the graph

    def come_to_positive(self, node: Node) -> bool:
        """Whether relevance comes to positive values of a node's output only."""
        return self._come_to(node, positive=True)

    def _come_to(self, node: Node, *, positive: bool) -> bool:
        """Answer the same, or whether it comes only to values that are not zero."""
        key = positive, node
        if key not in self._known:
            reads = self._reads_positive if positive else self._reads_nonzero
            self._known[key] = all(map(reads, self._readers[node])) and self._starts_at_positive(node)
        return self._known[key]

    def _reads_positive(self, reader: Node) -> bool:
        if _is_relu(reader):
            return self._come_to(reader, positive=False)
        return _moves(reader) and self._come_to(reader, positive=True)

    def _reads_nonzero(self, reader: Node) -> bool:
        if reader in self._calls:
            return self._calls[reader].operator.by_input
        operation = _operation(reader)
        if operation is not None and operation.by_input:
            return True
        return (_is_relu(reader) or _moves(reader)) and self._come_to(reader, positive=False)

    def _starts_at_positive(self, node: Node) -> bool:
        """Whether no relevance starts at values of a node's output that are not positive."""
        if node not in self._starts:
            return True
        source, relevance = self._starts[node]
        return relevance is not None and not bool(((relevance != 0) & (source.detach() <= 0)).any())


def _is_relu(node: Node) -> bool:
    operation = _operation(node)
    return (hasattr(node, "unchanged") and node.nonnegative) or (operation is not None and operation.name == "relu")


def _moves(node: Node) -> bool:
    """Whether a node only moves values, or selects the largest, to which relevance goes."""
    return node.name() in _MOVING or getattr(node, "identity", False) or hasattr(node, "selected")


def _operation(node: Node) -> Operation | None:
    """Return the call of a function under its rule that a node is."""
    call = getattr(node, "call", None)
    return call if isinstance(call, Operation) else None
