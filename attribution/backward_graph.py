"""Autograd's graph of one forward pass, and the calls of rules in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from crp.attribution.norm_squares import NormSquares
from crp.attribution.purposes import Purpose
from crp.attribution.rule_operator import RuleCall
from crp.attribution.ruled_module import ModuleCall

Node = torch.autograd.graph.Node


def compute_factors(
    sources: Sequence[Tensor], starts: Iterable[Tensor], purpose: Purpose, shorter: Collection[RuleCall]
) -> None:
    """Compute the factors of all calls that relevance can reach from `sources`, and fuse those of neighbours.

    This must happen before relevance of several conditions flows, because `torch.vmap` does not allow it.

    Suppose the output of one call is used by a second call only, with at most rules that pass relevance unchanged
    between them. Then relevance is multiplied by the second call's input factor, and directly after by the first call's
    output factor. The product of both is the same for all conditions, so it replaces the two factors.

    Parameters
    ----------
    sources
        Where relevance starts.
    starts
        All places where relevance may start later: fused factors stay fused.
    purpose
        Whose rules; those for another purpose are left as they are.
    shorter
        The calls that have a shorter form in the pass (`positive_outputs.py`).
    """
    users = Counter(below for node in graph_below(*starts) for below, _ in node.next_functions)
    calls = calls_by_node(sources, purpose)
    for call in calls.values():
        (call.at_positive_outputs if call in shorter else call).compute_factors()
    for node, upper in calls.items():
        below = _only_input(node)
        while users[below] == 1 and getattr(below, "unchanged", False):
            below = _only_input(below)
        if users[below] == 1 and below in calls:
            calls[below].fuse(upper)


def free_after_use(source: Tensor) -> None:
    """Free each call that relevance can reach from `source` as soon as relevance has passed it."""
    for node in graph_below(source):
        if (call := getattr(node, "call", None)) is not None:
            call.free_after_use = True


def calls_below(source: Tensor, purpose: Purpose) -> Iterable[RuleCall]:
    """Return the calls of the rules for a purpose that relevance can reach from `source`."""
    return calls_by_node([source], purpose).values()


def calls_by_node(sources: Sequence[Tensor], purpose: Purpose) -> dict[Node, RuleCall]:
    """Return the same for several sources, by their nodes in the graph."""
    calls = {node: getattr(node, "call", None) for node in graph_below(*sources)}
    ruled = {node: call.by_purpose for node, call in calls.items() if isinstance(call, ModuleCall)}
    return {node: by_purpose[purpose] for node, by_purpose in ruled.items() if purpose in by_purpose}


def _only_input(node: Node) -> Node | None:
    return node.next_functions[0][0]


def graph_below(*outputs: Tensor, closed: Collection[object] = ()) -> Iterator[Node]:
    """Iterate over all graph nodes below `outputs`, except those that are reached through a `closed` node only."""
    seen, waiting = set(closed), [output.grad_fn for output in outputs]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        yield node
        seen.add(node)
        waiting += [below for below, _ in node.next_functions]


def is_below(end: Tensor, source: Tensor, around: Iterable[Tensor] = ()) -> bool:
    """Return whether relevance can flow from `source` down to `end`, bypassing the tensors `around`."""
    nodes = graph_below(source, closed={tensor.grad_fn for tensor in around})
    return source is end or any(node is end.grad_fn or getattr(node, "variable", None) is end for node in nodes)


def jacobian_products(
    output: Tensor, inputs: Sequence[Tensor], relevance: Tensor, squares: NormSquares | None = None
) -> list[Tensor | None]:
    """Multiply relevance of several conditions by the transposed Jacobian, with rules in place of derivatives.

    Parameters
    ----------
    output
        Where relevance starts, `[N, ...]`.
    inputs
        Where it arrives.
    relevance
        `[K, N, ...]` for `K` conditions.
    squares
        What is taken from relevance that arrives; None for nothing.

    Returns
    -------
    list of Tensor or None
        `[K, *shape]` for each of `inputs`; None for those that relevance does not reach.
    """

    def product(single: Tensor) -> list[Tensor | None]:
        found = torch.autograd.grad(output, inputs, single, retain_graph=True, allow_unused=True)
        return found if squares is None else squares.taken_from(found, inputs)

    if len(relevance) == 1:
        return [None if part is None else part[None] for part in product(relevance[0])]
    reached: list[bool] = []

    def reached_products(single: Tensor) -> list[Tensor]:
        parts = product(single)
        reached[:] = [part is not None for part in parts]
        return [part for part in parts if part is not None]

    # Not `is_grads_batched`: it runs convolutions one condition at a time.
    parts = iter(torch.vmap(reached_products)(relevance))
    return [next(parts) if is_reached else None for is_reached in reached]
