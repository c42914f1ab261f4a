"""Every name in the table of rules: up is the transpose of down, conditions are independent, and the ledger closes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from crp.attribution import RelevanceFlow
from crp.attribution.functions.table import RULES
from tests.oracle.comparing import assert_relevance_close

from .one_function import RULES_FOR_LINEAR, Function, assert_both_directions, generated

W, K, V = generated(4, 4), generated(4, 4, 3, 3), generated(4)
WINDOW = torch.hann_window(16, dtype=torch.float64)
LSTM_CELL, GRU_CELL = nn.LSTMCell(4, 4).double(), nn.GRUCell(4, 4).double()
LSTM, GRU, TANH, RELU = (
    kind.double() for kind in (nn.LSTM(4, 3), nn.GRU(4, 3), nn.RNN(4, 3), nn.RNN(4, 3, nonlinearity="relu"))
)
ATTENTION = nn.MultiheadAttention(4, 2, batch_first=True).double().eval()


def positive(x: Tensor) -> Tensor:
    return x.abs() + 0.5


def parts(z: Tensor) -> Tensor:
    """Real and imaginary parts of complex numbers."""
    return torch.view_as_real(z.resolve_conj())


def hooked(x: Tensor) -> Tensor:
    if x.requires_grad:
        x.register_hook(lambda gradient: gradient * 3)
    return x


# Called on a tensor `[2, 4, 4, 4]`; names that are not here are methods or functions of the tensor alone.
CALLS: dict[str, Callable[[Tensor], Tensor]] = {
    # shape and place
    "reshape": lambda x: x.reshape(2, 16, 4),
    "reshape_as": lambda x: x.reshape_as(x[:, 0].flatten(1).new_zeros(2, 16, 4)),
    "view": lambda x: x.view(2, 16, 4),
    "view_as": lambda x: x.view_as(x.new_zeros(2, 16, 4)),
    "flatten": lambda x: x.flatten(1),
    "unflatten": lambda x: x.unflatten(1, (2, 2)),
    "ravel": lambda x: x.ravel()[None].expand(2, -1),
    "unsqueeze": lambda x: x.unsqueeze(2),
    "permute": lambda x: x.permute(0, 3, 1, 2),
    **{name: lambda x, name=name: getattr(x, name)(1, 3) for name in
       ("transpose", "swapaxes", "swapdims", "movedim", "moveaxis")},
    **{name: lambda x, name=name: getattr(x[0, 0], name).expand(2, 4, 4) for name in ("T", "H")},
    **{name: lambda x, name=name: getattr(x, name) for name in ("mT", "mH", "real")},
    "t": lambda x: x[0, 0].t().expand(2, 4, 4),
    "to": lambda x: x.to(torch.float64),
    "type": lambda x: x.type(torch.float64),
    "type_as": lambda x: x.type_as(x.new_zeros(1)),
    **{name: lambda x, name=name: getattr(x, name)().double() for name in ("float", "half", "bfloat16")},
    "cpu": lambda x: x.cpu(),
    "expand": lambda x: x[:, :1].expand(2, 3, 4, 4),
    "expand_as": lambda x: x[:, :1].expand_as(x.new_zeros(2, 3, 4, 4)),
    "broadcast_to": lambda x: x[:, :1].broadcast_to(2, 3, 4, 4),
    "repeat": lambda x: x.repeat(1, 2, 1, 3),
    "repeat_interleave": lambda x: x.repeat_interleave(2, 1),
    "tile": lambda x: x.tile(1, 2, 1, 1),
    "flip": lambda x: x.flip(1),
    "fliplr": lambda x: x.fliplr(),
    "flipud": lambda x: x.flipud(),
    "roll": lambda x: x.roll(1, 2),
    "rot90": lambda x: x.rot90(1, (2, 3)),
    "narrow": lambda x: x.narrow(1, 1, 2),
    "select": lambda x: x.select(1, 2),
    "index_select": lambda x: x.index_select(1, torch.tensor([0, 2, 2])),
    "take": lambda x: x.take(torch.tensor([[0, 5, 5], [70, 71, 9]])),
    "take_along_dim": lambda x: x.take_along_dim(torch.tensor([0, 2, 2]).view(1, 3, 1, 1), 1),
    "gather": lambda x: x.gather(1, torch.tensor([3, 3, 0]).view(1, 3, 1, 1).expand(2, 3, 4, 4)),
    "getitem": lambda x: x[:, [0, 2, 2], 1:],
    "diagonal": lambda x: x.diagonal(0, 2, 3),
    "split": lambda x: x.split([1, 3], 1)[1],
    "split_with_sizes": lambda x: x.split_with_sizes([1, 3], 1)[1],
    "tensor_split": lambda x: x.tensor_split(3, 1)[0],
    "chunk": lambda x: x.chunk(2, 1)[1],
    "unbind": lambda x: x.unbind(1)[2],
    "hsplit": lambda x: x.hsplit(2)[1],
    "vsplit": lambda x: x.vsplit(2)[1].expand(2, 4, 4, 4),
    "dsplit": lambda x: x.dsplit(2)[1],
    "unsafe_chunk": lambda x: x.unsafe_chunk(2, 1)[1],
    "unsafe_split": lambda x: x.unsafe_split(3, 1)[0],
    "as_strided": lambda x: x.contiguous().as_strided((2, 3, 2), (64, 4, 1), 5),
    "pixel_shuffle": lambda x: functional.pixel_shuffle(x, 2),
    "pixel_unshuffle": lambda x: functional.pixel_unshuffle(x, 2),
    "channel_shuffle": lambda x: functional.channel_shuffle(x, 2),
    "unsqueeze_": lambda x: ((y := x * 1).unsqueeze_(2), y + 1)[1],
    "squeeze_": lambda x: ((y := x[:, :1] * 1).squeeze_(1), y + 1)[1],
    **{name: lambda x, name=name: (getattr(y := x * 1, name)(1, 3), y + W)[1] for name in
       ("transpose_", "swapaxes_", "swapdims_")},
    "t_": lambda x: ((y := x[:, 0, 0] * 1).t_(), y.mT + V)[1],
    "as_strided_": lambda x: ((y := x * 1).as_strided_((2, 3, 2), (64, 4, 1), 5), y + 1)[1],
    "detach": lambda x: x + x.detach(),
    "detach_": lambda x: x + (x * 2).detach_(),
    "data": lambda x: x + x.data,
    "register_hook": lambda x: hooked(x * 2),
    "requires_grad_": lambda x: x.requires_grad_() + 1,
    # choosing
    "amax": lambda x: x.amax((2, 3)),
    "amin": lambda x: x.amin((2, 3)),
    "topk": lambda x: x.topk(2, 1)[0],
    "sort": lambda x: x.sort(1)[0],
    "cummax": lambda x: x.cummax(1)[0],
    "max_pool1d": lambda x: functional.max_pool1d(x.flatten(2), 2),
    "max_pool2d": lambda x: functional.max_pool2d(x, 2),
    "max_pool3d": lambda x: functional.max_pool3d(x[:, None], 2),
    "adaptive_max_pool1d": lambda x: functional.adaptive_max_pool1d(x.flatten(2), 3),
    "adaptive_max_pool2d": lambda x: functional.adaptive_max_pool2d(x, 3),
    "adaptive_max_pool3d": lambda x: functional.adaptive_max_pool3d(x[:, None], 3),
    "max_pool1d_with_indices": lambda x: functional.max_pool1d(x.flatten(2), 2, return_indices=True)[0],
    "max_pool2d_with_indices": lambda x: functional.max_pool2d(x, 2, return_indices=True)[0],
    "max_pool3d_with_indices": lambda x: functional.max_pool3d(x[:, None], 2, return_indices=True)[0],
    **{name: lambda x, name=name: getattr(functional, name)(x, 0.5, False) for name in
       ("dropout", "dropout2d", "alpha_dropout", "feature_alpha_dropout")},
    "dropout1d": lambda x: functional.dropout1d(x.flatten(2), 0.5, False),
    "dropout3d": lambda x: functional.dropout3d(x[:, None], 0.5, False),
    # joining and filling
    "broadcast_tensors": lambda x: torch.cat(torch.broadcast_tensors(x[:, :1], x), 1),
    **{name: lambda x, name=name: getattr(torch, name)([x, x.flip(1), W.expand(2, 4, 4, 4)], 1) for name in
       ("cat", "concat", "concatenate", "stack")},
    **{name: lambda x, name=name: getattr(torch, name)([x, x.flip(1), W.expand(2, 4, 4, 4)]) for name in
       ("hstack", "dstack")},
    "vstack": lambda x: torch.vstack([x[:1], W.expand(1, 4, 4, 4)]),
    "column_stack": lambda x: torch.column_stack([x, W.expand(2, 4, 4, 4)]),
    "block_diag": lambda x: torch.block_diag(x[0, 0], W, x[1, 0]).expand(2, 12, 12),
    "where": lambda x: torch.where(x > 0, x, W),
    "masked_fill": lambda x: x.masked_fill(x < 0, 0.3),
    "index_copy": lambda x: x.index_copy(1, torch.tensor([1]), W.expand(2, 1, 4, 4)),
    "scatter": lambda x: x.scatter(1, torch.zeros(2, 1, 4, 4, dtype=torch.long), 0.5),
    **{name: lambda x, name=name: getattr(torch, name)(x, x.flip(1)) for name in ("max", "min", "maximum", "minimum")},
    "index_add": lambda x: x.index_add(1, torch.tensor([0, 2, 0]), x[:, 1:] * 0.5),
    "scatter_add": lambda x: x.scatter_add(1, torch.tensor([1, 1, 3])[:, None, None].expand(2, 3, 4, 4), x[:, :3]),
    "pad": lambda x: functional.pad(x, (1, 1), value=2.0),
    "unfold": lambda x: functional.unfold(x, 3, padding=1),
    "im2col": lambda x: torch._C._nn.im2col(x, (3, 3), (1, 1), (1, 1), (1, 1)),
    "diag": lambda x: x[0, 0, 0].diag().expand(2, 4, 4),
    "diag_embed": lambda x: x.diag_embed(),
    "max_unpool1d": lambda x: functional.max_unpool1d(*functional.max_pool1d(x.flatten(2), 2, return_indices=True), 2),
    "max_unpool2d": lambda x: functional.max_unpool2d(*functional.max_pool2d(x, 2, return_indices=True), 2),
    "max_unpool3d": lambda x: functional.max_unpool3d(*functional.max_pool3d(x[:, None], 2, return_indices=True), 2),
    # assignments
    "setitem": lambda x: ((y := x * 1).__setitem__((slice(None), 1), W), y)[1],
    "copy_": lambda x: ((y := x * 1)[:, 1].copy_(W), y)[1],
    "index_put_": lambda x: (x * 1).index_put_((torch.tensor([0, 1]), torch.tensor([2, 0])), W),
    "zero_": lambda x: ((y := x * 1)[:, 1].zero_(), y)[1],
    "fill_": lambda x: ((y := x * 1)[:, 1].fill_(2.0), y)[1],
    # element by element
    "prelu": lambda x: functional.prelu(x, V),
    "rrelu": lambda x: functional.rrelu(x, training=False),
    "threshold": lambda x: torch.threshold(x, 0.1, 0.2),
    "_threshold": lambda x: functional.threshold(x, 0.1, 0.2),
    **{name: lambda x, name=name: getattr(torch, name)(positive(x)) for name in
       ("log", "log1p", "log2", "log10", "sqrt", "rsqrt")},
    "pow": lambda x: x.pow(3),
    "float_power": lambda x: positive(x).float_power(1.5),
    "nan_to_num": lambda x: x.nan_to_num(),
    "clamp_min": lambda x: x.clamp_min(-0.5),
    "clamp_max": lambda x: x.clamp_max(0.5),
    "clamp": lambda x: x.clamp(-0.5, 1),
    "clip": lambda x: x.clip(-0.5, 1),
    "hardtanh": lambda x: functional.hardtanh(x),
    "expit": lambda x: torch.special.expit(x),
    "log_sigmoid": lambda x: torch._C._nn.log_sigmoid(x),
    # gates only
    **{name: lambda x, name=name: x * getattr(functional, name)(x, 1) for name in
       ("softmax", "log_softmax", "softmin")},
    "norm": lambda x: x / x.norm(dim=1, keepdim=True),
    "linalg_norm": lambda x: x / torch.linalg.norm(x, dim=1, keepdim=True),
    "linalg_vector_norm": lambda x: x / torch.linalg.vector_norm(x, dim=1, keepdim=True),
    "var": lambda x: x / x.var(1, keepdim=True),
    "std": lambda x: x / x.std(1, keepdim=True),
    "var_mean": lambda x: (x - torch.var_mean(x, 1, keepdim=True)[1]) / torch.var_mean(x, 1, keepdim=True)[0],
    "std_mean": lambda x: (x - torch.std_mean(x, 1, keepdim=True)[1]) / torch.std_mean(x, 1, keepdim=True)[0],
    # sums and linear maps
    **{name: lambda x, name=name: getattr(torch, name)(x, x.flip(1) + 0.3) for name in ("add", "sub", "subtract")},
    "rsub": lambda x: 1.5 - x,
    **{name: lambda x, name=name: getattr(x, name)((2, 3)) for name in ("sum", "nansum", "mean", "nanmean")},
    "cumsum": lambda x: x.cumsum(1),
    "diff": lambda x: x.diff(dim=1),
    "affine_grid": lambda x: functional.affine_grid(x[:, 0, :2, :3], (2, 1, 3, 5), align_corners=False),
    "complex": lambda x: torch.view_as_real(torch.complex(x, x.flip(1))),
    "avg_pool1d": lambda x: functional.avg_pool1d(x.flatten(2), 2),
    "avg_pool2d": lambda x: functional.avg_pool2d(x, 2),
    "avg_pool3d": lambda x: functional.avg_pool3d(x[:, None], 2),
    "adaptive_avg_pool1d": lambda x: functional.adaptive_avg_pool1d(x.flatten(2), 3),
    "adaptive_avg_pool2d": lambda x: functional.adaptive_avg_pool2d(x, 3),
    "adaptive_avg_pool3d": lambda x: functional.adaptive_avg_pool3d(x[:, None], 3),
    "interpolate": lambda x: functional.interpolate(x, scale_factor=2, mode="bilinear"),
    "fold": lambda x: functional.fold(x.reshape(2, 16, 4), (3, 3), 2),
    "col2im": lambda x: torch._C._nn.col2im(x.reshape(2, 16, 4), (3, 3), (2, 2), (1, 1), (0, 0), (1, 1)),
    # to and from complex numbers
    "stft": lambda x: parts(torch.stft(x.flatten(1), 16, 4, window=WINDOW, return_complex=True)),
    **{f"fft_{name}": lambda x, name=name: parts(getattr(torch.fft, name)(x)) for name in
       ("rfft", "fft", "rfft2", "fft2", "rfftn", "fftn", "ifft", "ifft2", "ifftn")},
    **{f"fft_{name}": lambda x, name=name: getattr(torch.fft, name)(x) for name in ("irfft", "irfft2")},
    "fft_irfftn": lambda x: torch.fft.irfftn(x, dim=(1, 2)),
    "view_as_complex": lambda x: parts(torch.view_as_complex(x.unflatten(-1, (-1, 2)))),
    "grid_sample": lambda x: functional.grid_sample(x, W[None, :, :2, None].expand(2, 4, 2, 2), align_corners=False),
    "addcmul": lambda x: torch.addcmul(x, x.flip(1), x.roll(1, 1), value=0.5),
    "addcdiv": lambda x: torch.addcdiv(x, x.flip(1), positive(x), value=0.5),
    "lerp": lambda x: torch.lerp(x, x.flip(1), 0.3),
    "glu": lambda x: functional.glu(x, 1),
    # products
    **{name: lambda x, name=name: getattr(torch, name)(x, x.flip(1)) for name in ("mul", "multiply")},
    **{name: lambda x, name=name: getattr(torch, name)(x, positive(x)) for name in ("div", "divide", "true_divide")},
    "rdiv": lambda x: 2.0 / positive(x),
    "matmul": lambda x: x @ x.flip(1),
    "rmatmul": lambda x: Tensor.__rmatmul__(x, W),
    "mm": lambda x: x[:, 0, 0].mm(W),
    "bmm": lambda x: x[:, 0].bmm(x[:, 1]),
    "mv": lambda x: x[0, 0].mv(x[0, 1, 0]).expand(2, 4),
    "dot": lambda x: x[0, 0, 0].dot(x[0, 1, 0]).expand(2, 1),
    "inner": lambda x: x.inner(W),
    "einsum": lambda x: torch.einsum("nchw,ndhw->ncd", x, x.roll(1, 2)),
    "tensordot": lambda x: torch.tensordot(x, W, 1),
    "addmm": lambda x: torch.addmm(x[:, 1, 1], x[:, 0, 0], W, alpha=0.5, beta=2),
    "addmv": lambda x: torch.stack([torch.addmv(one[1, 1], one[0], V) for one in x]),
    "addr": lambda x: torch.stack([torch.addr(one[1], one[0, 0], one[0, 1]) for one in x]),
    "addbmm": lambda x: torch.addbmm(W, x[:, 0], W.expand(2, 4, 4)).expand(2, 4, 4),
    "baddbmm": lambda x: torch.baddbmm(x[:, 2], x[:, 0], x[:, 1]),
    "bilinear": lambda x: functional.bilinear(x, x.flip(1).detach(), generated(3, 4, 4), V[:3]),
    # norms, attention, layers
    "layer_norm": lambda x: functional.layer_norm(x, (4,), V, V + 1),
    "group_norm": lambda x: functional.group_norm(x, 2, V, V + 1),
    "instance_norm": lambda x: functional.instance_norm(x, weight=V, bias=V + 1),
    "batch_norm": lambda x: functional.batch_norm(x, V, V.abs(), V, V + 1),
    "rms_norm": lambda x: functional.rms_norm(x, (4,)),
    "normalize": lambda x: functional.normalize(x, dim=1),
    "local_response_norm": lambda x: functional.local_response_norm(x, 3),
    "scaled_dot_product_attention": lambda x: functional.scaled_dot_product_attention(x, x.roll(1, 1), x.flip(1)),
    "multi_head_attention_forward": lambda x: ATTENTION(x[:, 0], x[:, 1], x[:, 2])[0],
    "linear": lambda x: functional.linear(x, W, V),
    "conv1d": lambda x: functional.conv1d(x.flatten(2), K[..., 0], V),
    "conv2d": lambda x: functional.conv2d(x, K, V),
    "conv3d": lambda x: functional.conv3d(x[:, None], K[:, :1, None], V),
    "conv_transpose1d": lambda x: functional.conv_transpose1d(x.flatten(2), K[..., 0], V),
    "conv_transpose2d": lambda x: functional.conv_transpose2d(x, K, V),
    "conv_transpose3d": lambda x: functional.conv_transpose3d(x[:, None], K[:1, :, None], V),
    **{name: lambda x, layer=layer: layer(x[:, 0].transpose(0, 1))[0].transpose(0, 1) for name, layer in
       (("lstm", LSTM), ("gru", GRU), ("rnn_tanh", TANH), ("rnn_relu", RELU))},
    "lstm_cell": lambda x: LSTM_CELL(x[:, 0, 0], LSTM_CELL(x[:, 1, 0]))[1],
    "_pack_padded_sequence": lambda x: nn.utils.rnn.pack_padded_sequence(
        x[:, 0], [4, 2], batch_first=True
    ).data.view(2, 3, 4),
    "_pad_packed_sequence": lambda x: nn.utils.rnn.pad_packed_sequence(
        nn.utils.rnn.PackedSequence(x[0, 0], torch.tensor([2, 1, 1])), padding_value=0.5
    )[0].transpose(0, 1),
    "gru_cell": lambda x: GRU_CELL(x[:, 0, 0], x[:, 1, 0]),
}  # fmt: skip
# Read something else than values, need an accelerator, or torchvision's operators (test_detectors.py).
ELSEWHERE = {"requires_grad", "_base", "grad", "cuda", "roi_align"}
# Relevance is rounded, too, which a note says.
ROUNDED = {"float": 1e-6, "half": 1e-2, "bfloat16": 1e-2}
NOTED = {**dict.fromkeys(ROUNDED, "Computed"), **dict.fromkeys(("detach", "detach_", "data", "bilinear"), "Values")}


def call_of(name: str) -> Callable[[Tensor], Tensor]:
    if name in CALLS:
        return CALLS[name]
    return next(getattr(home, name) for home in (Tensor, functional, torch) if hasattr(home, name))


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")  # no batching in torch.vmap
@pytest.mark.parametrize("name", [name for name in RULES if name not in ELSEWHERE])
def test_both_directions(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    monkeypatch.setitem(RULES, name, lambda call, rule=RULES[name]: called.append(name) or rule(call))
    data, function = generated(2, 4, 4, 4), call_of(name)
    model = nn.Sequential(nn.Identity(), Function(function))
    with RelevanceFlow(model, RULES_FOR_LINEAR, data, ["0", "1"], before_activation=False) as flow:
        assert called
        assert [note.split()[0] for note in flow.notes] == ([NOTED[name]] if name in NOTED else [])
        expected = function(data).detach()
        assert_relevance_close(flow.activation("1"), expected, 1e-13)
        assert_both_directions(flow, data, ROUNDED.get(name, 1e-12))

