"""Smooth functions of one tensor and their derivative, computed in pieces, against autograd on the whole tensor."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from crp.attribution import stabilizing
from crp.attribution.functions.derivatives import elementwise_first_order
from crp.attribution.functions.function_calls import Call
from crp.attribution.stabilizing import EPSILON
from tests.oracle.comparing import assert_relevance_close

SMOOTH = {
    "gelu": (functional.gelu, {}),
    "gelu, tanh": (functional.gelu, {"approximate": "tanh"}),
    "silu": (functional.silu, {}),
    "softplus": (functional.softplus, {"beta": 2.0}),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", SMOOTH)
def test_output_and_factor_are_those_of_the_whole_tensor_to_the_last_bit(name, dtype, monkeypatch):
    monkeypatch.setattr(stabilizing, "values_per_piece", lambda whole: 2**10)
    function, options = SMOOTH[name]
    data = 4 * torch.randn(3, 5, 2**7, generator=torch.Generator().manual_seed(0))
    data.view(-1)[:5] = torch.tensor([0.0, -0.0, 1e-12, -30.0, 30.0])
    data = data.to(dtype).requires_grad_()
    assert data.numel() > 2**10
    found, factor = elementwise_first_order(Call(None, function, name, (data,), options))
    output = function(data, **options)
    z = output.detach()
    sign = torch.where(z == 0, 1, z.sign())
    (gradient,) = torch.autograd.grad(output, data, (z + EPSILON * sign).reciprocal())
    assert torch.equal(found, z)
    assert torch.equal(factor, data.detach() * gradient)


def test_the_layout_in_memory_is_kept():
    data = torch.randn(2, 3, 4, dtype=torch.float64).transpose(1, 2).requires_grad_()
    found, factor = elementwise_first_order(Call(None, functional.gelu, "gelu", (data,), {}))
    (gradient,) = torch.autograd.grad(functional.gelu(data).sum(), data)
    assert found.stride() == factor.stride() == data.stride()
    assert_relevance_close(factor * functional.gelu(data), data * gradient, 1e-5)
