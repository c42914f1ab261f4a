"""Derivatives of normalizations, against autograd, with inputs that are cut into several pieces."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from crp.attribution.functions import norm_derivatives
from crp.attribution.functions.norm_derivatives import Normalization
from crp.attribution.norm_squares import Norm
from tests.oracle.comparing import assert_relevance_close

GENERATOR = torch.Generator().manual_seed(3)
DATA = torch.randn(3, 4, 5, 6, generator=GENERATOR, dtype=torch.float64) + 0.3
WEIGHT, BIAS = torch.randn(2, 6, generator=GENERATOR, dtype=torch.float64)
OF_CHANNELS = torch.randn(4, generator=GENERATOR, dtype=torch.float64)

# The function, which is given the input as it is and as a constant for its denominator; the rest of `Normalization`.
NORMS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], dict]] = {
    "layer": (
        lambda data, fixed: (
            (data - data.mean(3, keepdim=True)) / (fixed.var(3, correction=0, keepdim=True) + 1e-5).sqrt() * WEIGHT
            + BIAS
        ),
        dict(axes=[3], weight=WEIGHT, epsilon=1e-5, centred=True),
    ),
    "group": (
        lambda data, fixed: (
            (grouped(data) - grouped(data).mean((2, 3, 4), keepdim=True))
            / (grouped(fixed).var((2, 3, 4), correction=0, keepdim=True) + 1e-5).sqrt()
        ).view(DATA.shape)
        * OF_CHANNELS.view(4, 1, 1),
        dict(axes=[2, 3, 4], weight=OF_CHANNELS.view(2, 2, 1, 1), epsilon=1e-5, groups=2, centred=True),
    ),
    "rms": (
        lambda data, fixed: data / (fixed.square().mean(3, keepdim=True) + 1e-6).sqrt() * WEIGHT,
        dict(axes=[3], weight=WEIGHT, epsilon=1e-6),
    ),
    "length": (
        lambda data, fixed: data / fixed.square().sum(1, keepdim=True).sqrt(),
        dict(axes=[1], weight=None, epsilon=1e-12, summed=True),
    ),
    "length over samples": (
        lambda data, fixed: data / fixed.square().sum(0, keepdim=True).sqrt(),
        dict(axes=[0], weight=None, epsilon=1e-12, summed=True),
    ),
}


def grouped(values: Tensor) -> Tensor:
    """View channels in two groups."""
    return values.unflatten(1, (2, -1))


def expected(function: Callable[[Tensor, Tensor], Tensor], relevance: Tensor, *, constant: bool) -> Tensor:
    """Compute input times gradient by autograd."""
    leaf = DATA.clone().requires_grad_()
    output = function(leaf, DATA if constant else leaf)
    epsilon = output.new_full((), 1e-6)
    denominator = (output + torch.where(output < 0, -epsilon, epsilon)).detach()
    (gradient,) = torch.autograd.grad(output, leaf, relevance / denominator)
    return gradient * DATA


@pytest.mark.parametrize("piece", [1, 50, 10**6])
@pytest.mark.parametrize("name", NORMS)
def test_relevance_is_input_times_gradient(name: str, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(norm_derivatives, "values_per_piece", lambda whole: piece)
    function, settings = NORMS[name]
    relevance = torch.randn(DATA.shape, generator=GENERATOR, dtype=torch.float64)
    own, norm = Normalization(DATA, function(DATA, DATA), **settings), Norm(DATA)
    down, constant = own.with_derivative(norm), own.with_constant_denominator()
    assert_relevance_close(down(relevance)[0], expected(function, relevance, constant=False), 1e-11)
    assert_relevance_close(constant(relevance)[0], expected(function, relevance, constant=True), 1e-11)
    stacked = torch.stack([relevance, 2 * relevance])
    for rule in (down, constant):
        assert_relevance_close(torch.vmap(lambda own: rule(own)[0])(stacked)[1], 2 * rule(relevance)[0], 1e-12)  # noqa: B023


def test_a_vector_of_zeros_gets_no_relevance() -> None:
    data = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    norm = Norm(data)
    own = Normalization(data, functional.normalize(data), [1], None, 1e-12, summed=True)
    (found,) = own.with_derivative(norm)(torch.ones(2, 2))
    # of a vector of length 1 no part counts: x (J^T 1 / y) is 1 - x^2 * 2 / 25 for 3 and 4
    assert torch.allclose(found, torch.tensor([[0.0, 0.0], [1 - 18 / 25, 1 - 32 / 25]]), atol=1e-5)
    assert bool(norm.arriving().isfinite().all())
