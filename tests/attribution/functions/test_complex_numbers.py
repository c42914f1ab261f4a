"""Relevance through complex numbers: Fourier transforms, magnitudes, and what has no rule."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from crp.attribution import RelevanceFlow, composite_for
from crp.attribution.functions.complex_numbers import COMPLEX_RULES
from crp.errors import ModelError
from tests.oracle.comparing import assert_relevance_close

from .one_function import RULES_FOR_LINEAR, Function, assert_both_directions, down, flow_through, generated


def spectrum(x: Tensor) -> Tensor:
    return torch.fft.fft(x.flatten(1))


FILTER = torch.view_as_complex(generated(3, 8, 2))


def pairs(x: Tensor) -> Tensor:
    return torch.view_as_complex(x)


# Called on complex data `[2, 3, 8]`.
CALLS: dict[str, Callable[[Tensor], Tensor]] = {
    "reshape": lambda z: z.reshape(2, 24),
    "view": lambda z: z.view(2, 24),
    "view_as": lambda z: z.view_as(torch.zeros(2, 24)),
    "flatten": lambda z: z.flatten(1),
    "unflatten": lambda z: z.unflatten(2, (2, 4)),
    "squeeze": lambda z: z[:, :1].squeeze(1),
    "unsqueeze": lambda z: z.unsqueeze(1),
    "permute": lambda z: z.permute(0, 2, 1),
    **{name: lambda z, name=name: getattr(z, name)(1, 2) for name in
       ("transpose", "swapaxes", "movedim", "moveaxis")},
    **{name: lambda z, name=name: getattr(z, name) for name in ("mT", "real", "imag")},
    "to": lambda z: z.to(torch.complex128),
    "expand": lambda z: z[:, :1].expand(2, 4, 8),
    "narrow": lambda z: z.narrow(1, 1, 2),
    "select": lambda z: z.select(1, 2),
    "index_select": lambda z: z.index_select(1, torch.tensor([0, 2, 2])),
    "getitem": lambda z: z[:, [0, 2], 1:],
    "split": lambda z: z.split([1, 2], 1)[1],
    "chunk": lambda z: z.chunk(2, 1)[0],
    "unbind": lambda z: z.unbind(1)[1],
    "view_as_real": torch.view_as_real,
    **{name: lambda z, name=name: getattr(torch, name)(z, 2.5) for name in
       ("mul", "multiply", "div", "divide", "true_divide")},
    **{name: lambda z, name=name: getattr(z, name)(1) for name in ("sum", "mean")},
    "conj": lambda z: z.conj() * 1,
    "einsum": lambda z: torch.einsum("ncw,cd->ndw", z, FILTER[:, :4]),
    **{name: lambda z, name=name: getattr(torch, name)(z, FILTER.mT) for name in ("matmul",)},
    **{name: lambda z, name=name: getattr(torch, name)(z[0], FILTER.mT)[None].expand(2, 3, 3) for name in ("mm",)},
    "bmm": lambda z: torch.bmm(z, FILTER.mT.expand(2, 8, 3)),
    "mv": lambda z: torch.mv(z[0], FILTER[0])[None].expand(2, 3),
    "tensordot": lambda z: torch.tensordot(z, FILTER, ([2], [1])),
    "stft": lambda z: torch.stft(z[:, 0], 4, 2, window=torch.ones(4).double(), return_complex=True, onesided=False),
    "istft": lambda z: torch.istft(z[..., :3], 4, 2, window=torch.ones(4).double()),
    **{f"fft_{name}": lambda z, name=name: getattr(torch.fft, name)(z) for name in
       ("fft", "fft2", "fftn", "ifft", "ifft2", "ifftn", "irfft", "irfft2")},
    "fft_irfftn": lambda z: torch.fft.irfftn(z, dim=(1, 2)),
}  # fmt: skip
# Are read where a layer is kept; refuse complex data.
ELSEWHERE = {"requires_grad", "detach", "_base", "grad", "fft_rfft", "fft_rfft2", "fft_rfftn"}


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")  # no batching in torch.vmap
@pytest.mark.parametrize("name", [name for name in COMPLEX_RULES if name not in ELSEWHERE])
def test_both_directions(name: str, monkeypatch: pytest.MonkeyPatch):
    called = []
    rule = COMPLEX_RULES[name]
    monkeypatch.setitem(COMPLEX_RULES, name, lambda call: called.append(name) or rule(call))

    def function(x: Tensor) -> Tensor:
        found = CALLS.get(name, getattr(Tensor, name, None))(pairs(x))
        return torch.view_as_real(found.resolve_conj()) if found.is_complex() else found

    data = generated(2, 3, 8, 2)
    model = nn.Sequential(nn.Identity(), Function(function))
    with RelevanceFlow(model, RULES_FOR_LINEAR, data, ["0", "1"], before_activation=False) as flow:
        assert called
        assert flow.notes == ()
        assert_both_directions(flow, data)


def test_a_magnitude_shares_by_squares():
    # |3 + 4i| = 5: 9/25 and 16/25 of 50; what arrives at zero is absorbed
    assert down(lambda x: torch.view_as_complex(x).abs(), [[3.0, 4.0], [0.0, 0.0]], [50.0, 7.0]) == [
        [pytest.approx(18.0), pytest.approx(32.0)],
        [0.0, 0.0],
    ]


def test_relevance_of_a_spectrogram_is_gradient_times_input():
    # the sum of magnitudes is homogeneous of degree 1, so gradient times input adds up to it
    window = torch.hann_window(16, dtype=torch.float64)

    def total(x: Tensor) -> Tensor:
        return torch.stft(x[:, 0], 16, 4, window=window, center=False, return_complex=True).abs().sum((1, 2))[:, None]

    data = generated(2, 1, 64)
    leaf = data.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(total(leaf).sum(), leaf)
    with flow_through(total, data) as flow:
        found = flow.down(flow.output_relevance([0]))[0]
        assert flow.notes == ()
    assert_relevance_close(found, leaf.detach() * gradient, 1e-4)  # stabilisers
    assert float(found.sum()) == pytest.approx(float(total(data).sum()), rel=1e-4)


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("mul", lambda z: (z * z.conj()).real),
        ("square", lambda z: z.square().abs()),
        ("angle", lambda z: z.angle()),
        ("exp", lambda z: z.exp().abs()),
        ("div", lambda z: (2.0 / z).abs()),
        ("div_", lambda z: (z * 1).div_(2).abs()),
    ],
)
def test_what_has_no_rule_is_named(name: str, function: Callable[[Tensor], Tensor]):
    with flow_through(lambda x: function(pairs(x)), generated(2, 3, 2)) as flow:
        assert name in " ".join(flow.notes)


TURNS = FILTER[0, :4] / FILTER[0, :4].abs()
FILTERED = {
    "filter": lambda x: torch.fft.irfft(torch.fft.rfft(x) * FILTER[:, :5]),
    "modes mixed": lambda x: torch.fft.irfft(torch.einsum("ncw,cdw->ndw", torch.fft.rfft(x), FILTER[:, None, :5])),
    "quotient": lambda x: torch.fft.ifft(torch.fft.fft(x) / FILTER).real,
    "rotation of pairs": lambda x: torch.view_as_real(torch.view_as_complex(x.unflatten(2, (4, 2))) * TURNS).flatten(2),
    "rotation from parts": lambda x: (torch.complex(x[..., :4], x[..., 4:]) * TURNS).real,
    "samples times a phase": lambda x: (x * FILTER).imag,
    "samples as complex numbers": lambda x: torch.fft.fft(torch.complex(x, torch.zeros_like(x))).imag,
    "imaginary": lambda x: (x * 2j).imag,
}


@pytest.mark.parametrize("name", FILTERED)
def test_filters_are_linear(name: str):
    """Epsilon at a linear function is gradient times input; nothing is named, and the ledger closes."""
    weight = generated(8, 3)

    def total(x: Tensor) -> Tensor:
        return FILTERED[name](x).sum(1)[:, :4].abs() @ weight[:4]

    leaf = generated(2, 3, 8).requires_grad_()
    (gradient,) = torch.autograd.grad(total(leaf)[:, 1].sum(), leaf)
    with flow_through(total, leaf.detach()) as flow:
        assert flow.notes == ()
        started = flow.output_relevance([1, 1])
        found, ledger = flow.down(started)[0], flow.ledger(started)
    assert_relevance_close(found, leaf.detach() * gradient, 1e-3)
    assert abs(ledger.unaccounted) <= 1e-10 * float(started.abs().sum())


def test_a_network_with_a_transform_inside_conserves():
    torch.manual_seed(0)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.last = nn.Conv1d(17, 8, 3, bias=False), nn.Linear(8, 3, bias=False)
            self.register_buffer("window", torch.hann_window(32))

        def forward(self, x: Tensor) -> Tensor:
            x = torch.stft(x[:, 0], 32, 8, window=self.window, return_complex=True).abs()
            return self.last(self.conv(x).relu().mean(2))

    model, data = Net().double(), generated(1, 1, 256)
    with RelevanceFlow(model, composite_for(model, data).composite, data, ["conv"]) as flow:
        started = flow.output_relevance(flow.prediction.argmax(1).tolist())
        ledger = flow.ledger(started)
        assert not any("stft" in note for note in flow.notes)
    assert abs(ledger.unaccounted) <= 1e-10 * float(started.abs().sum())
    assert ledger.arrived == pytest.approx(float(started.sum()), rel=1e-3)


def test_a_layer_of_complex_numbers_is_refused():
    model = nn.Sequential(Function(spectrum), Function(Tensor.abs))
    with pytest.raises(ModelError, match=r"^Layer '0' gives complex numbers; concepts are made of real ones\.$"):
        RelevanceFlow(model, RULES_FOR_LINEAR, generated(1, 4), ["0"], before_activation=False)
