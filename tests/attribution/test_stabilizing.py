"""Denominators of rules: the formula, and that storing the factor changes no digit."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from crp.attribution import stabilizing
from crp.attribution.stabilizing import Reciprocal, pieces, stabilized_reciprocal

PIECE = 2**10
AROUND_ZERO = [0.0, -0.0, 1e-30, -1e-30, 5e-7, -5e-7, 2.0, -3.0]


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stabilizing, "values_per_piece", lambda whole: PIECE)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    """Draw values of which some are zero and some are near the stabiliser."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(shape, generator=generator, dtype=torch.float64)
    sizes = torch.randint(-12, 2, shape, generator=generator)
    return torch.where(sizes == -12, 0, values * 10.0**sizes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_sign_of_zero_is_1(dtype: torch.dtype) -> None:
    values = torch.tensor(AROUND_ZERO, dtype=dtype)
    signs = torch.tensor([1, 1, 1, -1, 1, -1, 1, -1], dtype=dtype)
    epsilon = torch.tensor(1e-6, dtype=dtype)
    assert torch.equal(stabilized_reciprocal(values), 1 / (values + epsilon * signs))


def test_known_signs_change_nothing() -> None:
    values = drawn(3, 50).abs()
    assert torch.equal(Reciprocal(values, 1e-3, nonnegative=True).tensor, Reciprocal(values, 1e-3).tensor)


@torch.no_grad()
@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("turned", [False, True])
def test_a_product_is_the_same_before_and_after_the_factor_is_stored(turned: bool) -> None:
    values, relevance = drawn(5, 7, 2 * PIECE // 35 + 3), drawn(5, 7, 2 * PIECE // 35 + 3, seed=1)
    if turned:
        values = values.transpose(1, 2)
        relevance = relevance.transpose(1, 2).contiguous()
    factor = Reciprocal(values, 1e-6)
    first = factor.times(relevance)
    assert factor._stored is None
    second = factor.times(relevance)
    assert factor._stored is not None
    assert torch.equal(first, second)
    epsilon = values.new_full((), 1e-6)
    assert torch.equal(first, relevance * (1 / (values + torch.where(values < 0, -epsilon, epsilon))))
    assert first.stride() == values.stride()


def test_conditions_and_graphs_get_the_same_product() -> None:
    values, relevance = drawn(4, 6), drawn(3, 4, 6, seed=1)
    expected = relevance * Reciprocal(values, 1e-6).tensor
    assert torch.equal(Reciprocal(values, 1e-6).times(relevance), expected)
    assert torch.equal(torch.vmap(Reciprocal(values, 1e-6).times)(relevance), expected)
    leaf = relevance[0].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(Reciprocal(values, 1e-6).times(leaf).sum(), leaf)
    assert torch.equal(gradient, stabilized_reciprocal(values))


@pytest.mark.usefixtures("small_pieces")
def test_pieces_hold_each_value_once() -> None:
    values = torch.arange(3 * PIECE).view(3, 2, -1).transpose(0, 1)
    result = torch.empty_like(values)
    for part, own in pieces(values, result):
        own.copy_(part)
    assert torch.equal(result, values)


def test_more_threads_get_larger_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = torch.empty(2**21)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert [len(piece) for (piece,) in pieces(whole)] == [3 * 2**18, 3 * 2**18, 2**19]
    assert stabilizing.values_per_piece(whole.to("meta")) == 2**21
