r"""How removing values changes the variances that norms divide by, to second order.

Relevance for ranking is gradient times activation: the first-order effect of removing a value. Norms need one term
more. Their variance is a quadratic form of the residual stream :math:`s` of a position with :math:`D` channels. If the
part :math:`v` of a layer is removed from it, the variance changes by exactly

.. math::
    \sigma^2(s) - \sigma^2(s - v)
    = \tfrac 2D \langle\tilde s, \tilde v\rangle - \tfrac 1D |\tilde v|^2,

where the tilde takes the mean over channels away. Gradient times activation is the first term alone. Where the norm
reads the layer itself, :math:`v` is channel :math:`c` of :math:`s`, and the first term is twice the second: the
derivative counts the channel's square twice, and removing it takes it away once. Higher up, other summands have joined
the stream, and the channel's own square is a smaller part. So each norm sends down, beside relevance,

.. math::
    Q_c = \frac{\partial f}{\partial \sigma^2} \cdot \frac{1 - 1/D}{D}\, s_c^2

(:math:`|\tilde v|^2 = v_c^2 (1 - 1/D)` for one channel). Of a sum, a summand gets the part of :math:`Q` that its square
has of the square of the sum; moving values, constant factors and averages hand :math:`Q` on; it ends at everything
that mixes channels. What arrives of it at a layer is taken from the layer's relevance, and does not flow on with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from crp.attribution.purposes import CurrentPurpose, Purpose


@dataclass(eq=False)
class Norm:
    """One call of a norm.

    Attributes
    ----------
    data
        Its input, in the graph.
    arriving
        Computes :math:`Q` at the input, while a backward pass runs that has reached the norm.
    """

    data: Tensor
    arriving: Callable[[], Tensor] | None = None


@dataclass
class NormSquares:
    """The norms of one forward pass.

    Parameters
    ----------
    purpose
        Which rules a backward pass uses.
    """

    purpose: CurrentPurpose
    norms: list[Norm] = field(default_factory=list)

    def add(self, data: Tensor) -> Norm:
        """Add a norm that reads `data`."""
        self.norms.append(Norm(data))
        return self.norms[-1]

    def taken_from(self, relevance: Sequence[Tensor | None], ends: Sequence[Tensor]) -> list[Tensor | None]:
        """Take from the relevance at some tensors what the norms that it passed on its way send to them.

        Must follow a backward pass for ranking directly.
        """
        sums: dict[int, tuple[Tensor, Tensor]] = {}
        for norm in self.norms:
            if norm.arriving is not None:
                if _passes_squares(norm.data, ends):
                    _, before = sums.get(id(norm.data), (norm.data, 0))
                    sums[id(norm.data)] = norm.data, before + norm.arriving()
                norm.arriving = None
        if not sums:
            return list(relevance)
        sources, squares = zip(*sums.values(), strict=True)
        with self.purpose.pursued(Purpose.SQUARES):
            found = torch.autograd.grad(sources, ends, squares, retain_graph=True, allow_unused=True)
        return [
            part if part is None or taken is None else part - taken
            for part, taken in zip(relevance, found, strict=True)
        ]


def _passes_squares(data: Tensor, ends: Sequence[Tensor]) -> bool:
    """Whether :math:`Q` at a tensor can reach one of some others; it ends at everything that mixes channels."""
    goals, waiting = {end.grad_fn for end in ends if end.grad_fn is not None}, [data.grad_fn]
    leaves = {id(end) for end in ends if end.grad_fn is None}
    seen = set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node in goals or id(getattr(node, "variable", None)) in leaves:
            return True
        call = getattr(node, "call", None)
        if call is None or call.passes_squares:
            waiting += [below for below, _ in node.next_functions]
    return False
