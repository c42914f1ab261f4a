r"""Rules of functions with complex numbers, as in spectrograms that a model computes.

Relevance of a complex number has a real part, that of its real part, and an imaginary part, that of its imaginary part.
`real`, `imag` and `view_as_real` then pass relevance as autograd does.

A Fourier transform is linear in the samples, and so is its product with the constants of a filter. What is complex is
read as pairs of real numbers, and the rule is that of any linear function of those. A magnitude is homogeneous: by
Euler's theorem gradient times input adds up to it, :math:`|z| = \sum_i z_i\, \partial|z| / \partial z_i`. Each part
has the product :math:`z_i^2 / |z|`, and gets this share of the relevance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from crp.attribution.functions.derivatives import linear_down, with_leaves
from crp.attribution.functions.elementary import scaled
from crp.attribution.functions.function_calls import Call
from crp.attribution.functions.selecting import as_autograd


def fourier(call: Call) -> Tensor:
    """Pass relevance through a linear function of one tensor to or from complex numbers, as `linear_map` does."""
    if len(call.data) != 1:
        return by_gradient(call)
    (data,) = call.data
    output, joined = call.run(), torch.view_as_complex if data.is_complex() else _as_it_is
    down, _ = linear_down(
        _pairs(data.detach()), lambda leaf: _pairs(with_leaves(call, {id(data): joined(leaf)})), _pairs(output)
    )
    return call.ruled(output, [data], lambda relevance: (joined(down(_pairs(relevance)).contiguous()),))


def magnitude(call: Call) -> Tensor:
    r"""Share the relevance of :math:`|z|` between real and imaginary part by their squares; of zero, it is absorbed."""
    (data,) = call.data
    output = call.run()
    share = (_pairs(data.detach()) / output.masked_fill(output == 0, 1).unsqueeze(-1)).square()

    def rule(relevance: Tensor) -> tuple[Tensor]:
        return (torch.complex(relevance * share[..., 0], relevance * share[..., 1]),)

    return call.ruled(output, [data], rule)


def scaled_complex(call: Call) -> Tensor:
    """Pass relevance through a product with, or a quotient by, a constant. A complex one turns: `fourier`."""
    first, second = call.argument(0, "input"), call.argument(1, "other")
    data = call.data
    constant = second if data[0] is first else first
    turned = isinstance(constant, complex) or (isinstance(constant, Tensor) and constant.is_complex())
    if len(data) != 1 or (constant is first and "div" in call.name):
        return by_gradient(call)
    if turned:
        return fourier(call)
    output = call.run()
    kept = torch.as_tensor(constant != 0, device=output.device).to(output.real)
    return scaled(call, output, data[0], None if "div" in call.name else kept)


def by_gradient(call: Call) -> Any:
    """Run a function by its gradient, and name it."""
    call.rules.without_rule(call.name)
    return call.by_autograd()


def _pairs(values: Tensor) -> Tensor:
    return torch.view_as_real(values.resolve_conj()) if values.is_complex() else values


def _as_it_is(values: Tensor) -> Tensor:
    return values


FOURIER = (
    "stft fft_fft fft_ifft fft_rfft fft_irfft fft_fft2 fft_ifft2 fft_rfft2 fft_irfft2 fft_fftn fft_ifftn "
    "fft_rfftn fft_irfftn"
)

# Of calls on complex data; any other function runs by its gradient, and is named.
COMPLEX_RULES: dict[str, Callable[[Call], Any]] = {}
for rule, names in (
    (
        as_autograd,
        "reshape view flatten unflatten squeeze unsqueeze permute transpose swapaxes movedim moveaxis mT contiguous "
        "clone to expand narrow select index_select getitem split chunk unbind real imag view_as_real view_as "
        "resolve_conj requires_grad detach _base grad",
    ),
    (magnitude, "abs absolute"),
    (scaled_complex, "mul multiply div divide true_divide"),
    (
        fourier,
        f"istft {FOURIER} sum mean neg negative conj conj_physical einsum matmul mm bmm mv tensordot",
    ),
):
    COMPLEX_RULES.update(dict.fromkeys(names.split(), rule))
