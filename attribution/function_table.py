r"""The rule of each function. To add an operation, add its name to a row of `RULES`.

==================  ===================================================================================================
`as_autograd`       reshaping and selecting; max pooling
`joining`           the same for what joins data with constants, whose part is absorbed
`elementwise`       one tensor, element by element: relevance passes unchanged (zennit's `Pass`)
`addition`          in proportion to the summands (zennit's `Norm` on `Sum`); a constant summand absorbs its part
`linear_map`        linear in one tensor: :math:`R_x = x \odot J^T (R / z)`, the epsilon rule
`product`           with a constant: unchanged; with a gate: all to the signal; of two signals: half and half
`quotient`          all to the numerator
`matrix_product`    of two tensors of the data, as `product`; with a constant, as `linear_map`
`normalization`     the denominator is a constant, what remains is a `linear_map`
`attention`         attention weights are constants: a `linear_map` of the values (the conserving variant; Ali et al.,
                    "XAI for Transformers: Better Explanations through Conservative Propagation", 2022)
`linear_layer`      the composite's rule for that kind of layer
==================  ===================================================================================================

A gate is the output of a bounded function (sigmoid, softmax, a clamp at both ends), also scaled or reshaped, or the
smaller of two factors, which is repeated: the squeeze-and-excitation of a channel, the norm of a vector.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from crp.attribution.function_rules import Call, data_in, stabilized_reciprocal, summed_to

# -- gates ------------------------------------------------------------------------------------------------------------


def _as_gate(output: Tensor) -> Tensor:
    output.is_gate = True
    return output


def _is_gate(tensor: Tensor) -> bool:
    return getattr(tensor, "is_gate", False)


# -- kinds of rules ---------------------------------------------------------------------------------------------------


def as_autograd(call: Call) -> Any:
    """Reshaping, selecting and joining: what autograd does is the rule."""
    result = call.by_autograd()
    if any(map(_is_gate, call.data)):
        for tensor in data_in([result]):
            tensor.is_gate = True
    return result


def joining(call: Call) -> Any:
    """As autograd does it, with the relevance of joined or chosen constants in the ledger."""
    data = call.data
    given = [value for value in _flat((*call.args, *call.kwargs.values())) if isinstance(value, Tensor)]
    if len(given) == len(data) and call.name != "pad":
        return as_autograd(call)
    with torch.enable_grad():
        leaves = [value.detach().requires_grad_() for value in data]
        graph = _with(call, {id(value): leaf for value, leaf in zip(data, leaves, strict=True)})

    def down(relevance: Tensor) -> Sequence[Tensor | None]:
        return torch.autograd.grad(
            graph, leaves, relevance, retain_graph=True, create_graph=torch.is_grad_enabled(), allow_unused=True
        )

    return call.ruled(graph.detach(), data, down)


def elementwise(call: Call) -> Tensor:
    """Pass relevance unchanged through a function of one tensor, element by element."""
    output, data = call.run(), call.data
    if len(data) != 1 or output.shape != data[0].shape:
        call.rules.without_rule(call.name)
        return call.by_autograd()
    return call.ruled(output, data, lambda relevance: (relevance,))


def bounded(call: Call) -> Tensor:
    """`elementwise`; what has a lower and an upper bound is a gate where it is a factor."""
    return _as_gate(elementwise(call))


def clamp(call: Call) -> Tensor:
    """`elementwise`, and `bounded` with both bounds."""
    bounds = [call.argument(1, "min"), call.argument(2, "max")]
    return elementwise(call) if None in bounds else bounded(call)


def softmax(call: Call) -> Tensor:
    """A gate: its factor in a product or matrix product is a constant. Elsewhere it runs by its gradient."""
    return _as_gate(call.by_autograd())


def addition(call: Call) -> Tensor:
    """Share relevance in proportion to the summands, with the sign of subtrahends."""
    output = call.run()
    first, second = call.argument(0, "input"), call.argument(1, "other")
    sign = -1 if call.name in ("sub", "subtract") else 1
    weights = (1, sign * call.kwargs.get("alpha", 1))
    if call.name == "rsub":
        weights = (-call.kwargs.get("alpha", 1), 1)
    summands = [
        (value, weight)
        for value, weight in zip((first, second), weights, strict=True)
        if isinstance(value, Tensor) and value.requires_grad
    ]
    parts = [value.detach() if weight == 1 else value.detach() * weight for value, weight in summands]
    reciprocal = stabilized_reciprocal(output)

    def down(relevance: Tensor) -> list[Tensor]:
        per_unit = relevance * reciprocal
        return [summed_to(per_unit * part, part.shape) for part in parts]

    return call.ruled(output, [value for value, _ in summands], down)


def linear_map(call: Call) -> Tensor:
    """Apply the epsilon rule to a function that is linear, or affine, in one tensor."""
    data = call.data
    if len(data) != 1:
        call.rules.without_rule(call.name)
        return call.by_autograd()
    return _linearized(call, data[0], lambda leaf: _with(call, {id(data[0]): leaf}))


def _with(call: Call, leaves: Mapping[int, Tensor]) -> Any:
    """Run the function with leaves in the place of some tensors, given by `id`, and all other data as constants."""

    def replaced(value: Any) -> Any:
        if isinstance(value, Tensor):
            return leaves.get(id(value), value.detach())
        return type(value)(map(replaced, value)) if type(value) in (list, tuple) else value

    return call.function(*map(replaced, call.args), **{name: replaced(value) for name, value in call.kwargs.items()})


def _flat(values: Sequence[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list | tuple):
            yield from _flat(value)
        else:
            yield value


def _linearized(
    call: Call, data: Tensor, function: Callable[[Tensor], Tensor], output: Tensor | None = None, part: float = 1
) -> Tensor:
    """Put an output into the graph with :math:`R_x = x J^T (R / z)` for the linear `function` of `data`."""
    down, value = _linear_down(data, function, output, part)
    return call.ruled(value if output is None else output, [data], lambda relevance: (down(relevance),))


def _linear_down(
    data: Tensor, function: Callable[[Tensor], Tensor], output: Tensor | None = None, part: float = 1
) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    with torch.enable_grad():
        leaf = data.detach().requires_grad_()
        graph = function(leaf)
    value = graph.detach()
    reciprocal = stabilized_reciprocal(value if output is None else output)
    factor = data.detach() if part == 1 else data.detach() * part

    def down(relevance: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(
            graph, leaf, relevance * reciprocal, retain_graph=True, create_graph=torch.is_grad_enabled()
        )
        return gradient * factor

    return down, value


def _scaled(call: Call, output: Tensor, data: Tensor, kept: Tensor | None) -> Tensor:
    """Pass relevance through a product with a constant, except where the constant is zero."""

    def down(relevance: Tensor) -> tuple[Tensor]:
        return (summed_to(relevance if kept is None else relevance * kept, data.shape),)

    result = call.ruled(output, [data], down)
    return _as_gate(result) if _is_gate(data) else result


def _nonzero(constant: Any, output: Tensor) -> Tensor | None:
    """Where a factor is not zero, as a factor; None if it is zero nowhere."""
    if not isinstance(constant, Tensor):
        return None if constant else torch.zeros_like(output)
    nonzero = constant != 0
    return None if bool(nonzero.all()) else nonzero.to(output)


def product(call: Call) -> Tensor:
    """Give a signal the relevance that a gate, or a constant, only scales; two signals get half each."""
    output = call.run()
    first, second = call.argument(0, "input"), call.argument(1, "other")
    data = call.data
    if len(data) == 1:
        constant = second if first is data[0] else first
        return _scaled(call, output, data[0], _nonzero(constant, output))
    signals = _signals(first, second)
    part = 1 / len(signals)

    def down(relevance: Tensor) -> list[Tensor]:
        shared = relevance if part == 1 else relevance * part
        return [summed_to(shared, signal.shape) for signal in signals]

    result = call.ruled(output, signals, down)
    return _as_gate(result) if all(map(_is_gate, (first, second))) else result


def _signals(first: Tensor, second: Tensor) -> list[Tensor]:
    """Which of two factors are signals, not gates."""
    gates = [_is_gate(first), _is_gate(second)]
    if gates[0] == gates[1]:
        sizes = [first.numel(), second.numel()]
        if first.ndim != second.ndim or sizes[0] == sizes[1]:
            return [first, second]
        gates = [size < max(sizes) for size in sizes]
    return [value for value, gate in zip((first, second), gates, strict=True) if not gate]


def quotient(call: Call) -> Tensor:
    """Give the numerator all relevance; a constant divided by data passes it element by element."""
    output = call.run()
    first, second = call.argument(0, "input"), call.argument(1, "other")
    if call.name in ("rdiv", "rtruediv"):
        first, second = second, first
    if not (isinstance(first, Tensor) and first.requires_grad):
        return call.ruled(output, [second], lambda relevance: (summed_to(relevance, second.shape),))
    return _scaled(call, output, first, None)


def matrix_product(call: Call) -> Tensor:
    """Apply `linear_map` to the signal; of two signals each gets half."""
    data = call.data
    if len(data) == 1:
        return linear_map(call)
    if len(data) > 2:
        call.rules.without_rule(call.name)
        return call.by_autograd()
    gates = [value for value in data if _is_gate(value)]
    signals = data if len(gates) != 1 else [value for value in data if value is not gates[0]]
    output = call.run()
    downs = [
        _linear_down(value, lambda leaf, value=value: _with(call, {id(value): leaf}), output, 1 / len(signals))[0]
        for value in signals
    ]
    return call.ruled(output, signals, lambda relevance: [down(relevance) for down in downs])


# -- normalisation ----------------------------------------------------------------------------------------------------


def layer_norm(call: Call) -> Tensor:
    r"""Linearize :math:`(x - \mu) / \sigma \cdot w + b` over the last axes, with a constant :math:`\sigma`."""
    data = call.argument(0, "input")
    axes = tuple(range(data.ndim - len(call.argument(1, "normalized_shape")), data.ndim))
    weight, epsilon = call.argument(2, "weight"), call.argument(4, "eps", 1e-5)
    with torch.no_grad():
        scale = (data.detach().var(axes, correction=0, keepdim=True) + epsilon).rsqrt()
        scale = scale if weight is None else scale * weight

    return _linearized(call, data, lambda leaf: (leaf - leaf.mean(axes, keepdim=True)) * scale, call.run())


def group_norm(call: Call) -> Tensor:
    """Linearize as `layer_norm`, over groups of channels and space."""
    return _by_groups(call, call.argument(1, "num_groups"), call.argument(2, "weight"), call.argument(4, "eps", 1e-5))


def instance_norm(call: Call) -> Tensor:
    """Linearize as `group_norm` with one channel in a group, or with running statistics as `batch_norm`."""
    weight, epsilon = call.argument(3, "weight"), call.argument(7, "eps", 1e-5)
    if not call.argument(5, "use_input_stats", True):
        return _with_constant_statistics(call, call.argument(2, "running_var"), weight, epsilon)
    return _by_groups(call, call.argument(0, "input").shape[1], weight, epsilon)


def batch_norm(call: Call) -> Tensor:
    r"""Linearize :math:`(x - \mu) / \sigma \cdot w + b` with constant statistics, which absorb their part.

    Without running statistics, those of the batch are constants, too: no relevance crosses from one sample to another.
    """
    variance = call.argument(2, "running_var")
    data = call.argument(0, "input")
    if variance is None or call.argument(5, "training", False):
        variance = data.detach().transpose(0, 1).flatten(1).var(1, correction=0)
    return _with_constant_statistics(call, variance, call.argument(3, "weight"), call.argument(7, "eps", 1e-5))


def vector_norm(call: Call) -> Tensor:
    """Pass relevance through a division by a norm of the vector (RMS norm, `normalize`), which is a constant."""
    output, data = call.run(), call.data[0]
    return call.ruled(output, [data], lambda relevance: (relevance,))


def _by_groups(call: Call, groups: int, weight: Tensor | None, epsilon: float) -> Tensor:
    data = call.argument(0, "input")
    ones = [1] * (data.ndim - 2)
    factor = None if weight is None else weight.detach().view(-1, *ones)
    grouped = data.detach().unflatten(1, (groups, -1)).flatten(2)
    scale = (grouped.var(-1, correction=0, keepdim=True) + epsilon).rsqrt()

    def function(leaf: Tensor) -> Tensor:
        values = leaf.unflatten(1, (groups, -1)).flatten(2)
        values = ((values - values.mean(-1, keepdim=True)) * scale).view(leaf.shape)
        return values if factor is None else values * factor

    return _linearized(call, data, function, call.run())


def _with_constant_statistics(call: Call, variance: Tensor, weight: Tensor | None, epsilon: float) -> Tensor:
    data = call.argument(0, "input")
    scale = (variance.detach() + epsilon).rsqrt()
    scale = (scale if weight is None else scale * weight.detach()).view(-1, *[1] * (data.ndim - 2))
    output = call.run()
    factor = data.detach() * scale * stabilized_reciprocal(output)
    return call.ruled(output, [data], lambda relevance: (relevance * factor,))


# -- attention --------------------------------------------------------------------------------------------------------


def attention(call: Call) -> Tensor:
    """Linearize attention in its values; the weights are constants."""
    query, key, value = (call.argument(place, name) for place, name in enumerate(("query", "key", "value")))
    output = call.run()
    if not value.requires_grad:
        call.rules.without_rule(call.name)
        return call.by_autograd()
    weights = _attention_weights(call, query.detach(), key.detach())
    groups = weights.shape[-3] // value.shape[-3] if call.argument(7, "enable_gqa", False) else 1

    def function(leaf: Tensor) -> Tensor:
        return weights @ (leaf if groups == 1 else leaf.repeat_interleave(groups, -3))

    return _linearized(call, value, function, output)


@torch.no_grad()
def _attention_weights(call: Call, query: Tensor, key: Tensor) -> Tensor:
    """Compute the softmax over keys, as `scaled_dot_product_attention` documents it."""
    mask, scale = call.argument(3, "attn_mask"), call.argument(6, "scale")
    if call.argument(7, "enable_gqa", False):
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
    scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if call.argument(5, "is_causal", False):
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(later, -torch.inf)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask.detach()
    return scores.softmax(-1)


def multi_head_attention(call: Call) -> tuple[Tensor, Tensor | None]:
    """Open `torch.nn.MultiheadAttention` into projections and `attention`, each under its own rule.

    What is rarely used (keys and values with a bias or zeros appended, given keys) runs by its gradient.
    """
    given = inspect.signature(functional.multi_head_attention_forward).bind(*call.args, **call.kwargs).arguments
    query, key, value = given["query"], given["key"], given["value"]
    rare = [given.get(name) is not None for name in ("bias_k", "bias_v", "static_k", "static_v")]
    if any(rare) or given.get("add_zero_attn") or query.ndim != 3:
        call.rules.without_rule(call.name)
        return call.by_autograd()
    heads = given["num_heads"]
    biases = [None] * 3 if given["in_proj_bias"] is None else given["in_proj_bias"].chunk(3)
    if given.get("use_separate_proj_weight"):
        weights = [given[f"{name}_proj_weight"] for name in "qkv"]
    else:
        weights = given["in_proj_weight"].chunk(3)
    mask = _attention_mask(given, query, key)
    with call.rules:
        parts = [
            # [T, N, D] -> [N, heads, T, D / heads]
            functional.linear(tensor, weight, bias).unflatten(-1, (heads, -1)).permute(1, 2, 0, 3)
            for tensor, weight, bias in zip((query, key, value), weights, biases, strict=True)
        ]
        mixed = functional.scaled_dot_product_attention(*parts, attn_mask=mask)
        output = functional.linear(
            mixed.permute(2, 0, 1, 3).flatten(2), given["out_proj_weight"], given["out_proj_bias"]
        )
    return output, call.run()[1] if given.get("need_weights", True) else None


def _attention_mask(given: dict[str, Any], query: Tensor, key: Tensor) -> Tensor | None:
    """Join both masks of `torch.nn.MultiheadAttention` to one that is added, `[N, heads or 1, T, S]`."""
    joined = None
    samples = query.shape[1]
    for name, view in (("attn_mask", None), ("key_padding_mask", (samples, 1, 1, key.shape[0]))):
        mask = given.get(name)
        if mask is None:
            continue
        if mask.dtype == torch.bool:
            mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill(mask, -torch.inf)
        if view is not None:
            mask = mask.view(view)
        elif mask.ndim == 3:
            mask = mask.unflatten(0, (samples, -1))
        joined = mask if joined is None else joined + mask
    return joined


# -- linear layers ----------------------------------------------------------------------------------------------------

_LAYERS = {
    "linear": nn.Linear,
    "conv1d": nn.Conv1d,
    "conv2d": nn.Conv2d,
    "conv3d": nn.Conv3d,
    "conv_transpose1d": nn.ConvTranspose1d,
    "conv_transpose2d": nn.ConvTranspose2d,
    "conv_transpose3d": nn.ConvTranspose3d,
}


def linear_layer(call: Call) -> Tensor:
    """Use the composite's rule for a module of that kind; without one, or with weights from data, `matrix_product`."""
    data, weight, bias = (call.argument(place, name) for place, name in enumerate(("input", "weight", "bias")))
    if len(call.data) != 1 or not data.requires_grad:
        return matrix_product(call)
    module = _stand_in(call, data, weight, bias)
    operator = call.rules.linear_operator(module)
    return linear_map(call) if operator is None else operator.forward(data)


def _stand_in(call: Call, data: Tensor, weight: Tensor, bias: Tensor | None) -> nn.Module:
    """Build a module that computes the function."""
    kind = _LAYERS[call.name]
    module = kind.__new__(kind)
    nn.Module.__init__(module)
    for name, value in (("weight", weight), ("bias", bias)):
        module.register_parameter(name, None if value is None else nn.Parameter(value.detach(), requires_grad=False))
    if kind is nn.Linear:
        module.in_features, module.out_features = weight.shape[1], weight.shape[0]
        return module.eval()
    count = weight.ndim - 2

    def sizes(place: int, name: str, default: int) -> Any:
        value = call.argument(place, name, default)
        return value if isinstance(value, str) else tuple(value) if not isinstance(value, int) else (value,) * count

    transposed = call.name.startswith("conv_transpose")
    module.kernel_size, module.padding_mode = tuple(weight.shape[2:]), "zeros"
    module.stride, module.padding = sizes(3, "stride", 1), sizes(4, "padding", 0)
    module.output_padding = sizes(5, "output_padding", 0) if transposed else (0,) * count
    module.groups = call.argument(6, "groups", 1)
    module.dilation = sizes(7 if transposed else 5, "dilation", 1)
    module.transposed = transposed
    if transposed:
        module.in_channels, module.out_channels = weight.shape[0], weight.shape[1] * module.groups
    else:
        module.in_channels, module.out_channels = weight.shape[1] * module.groups, weight.shape[0]
    return module.eval()


# -- the table --------------------------------------------------------------------------------------------------------

RULES: dict[str, Callable[[Call], Any]] = {}
for rule, names in (
    (
        as_autograd,
        # shape and place
        "reshape reshape_as view view_as flatten unflatten ravel squeeze unsqueeze permute transpose swapaxes swapdims "
        "movedim moveaxis T mT H mH t adjoint contiguous clone to type float double bfloat16 type_as cpu cuda expand "
        "expand_as broadcast_to broadcast_tensors repeat repeat_interleave tile flip fliplr flipud roll rot90 narrow "
        "select index_select take take_along_dim gather getitem unfold fold im2col col2im diagonal diag tril triu "
        "split split_with_sizes tensor_split chunk unbind hsplit vsplit dsplit unsafe_chunk unsafe_split as_strided "
        "pixel_shuffle pixel_unshuffle channel_shuffle requires_grad_ squeeze_ unsqueeze_ transpose_ detach_ "
        # choosing and overwriting
        "masked_fill_ setitem copy_ index_put_ zero_ fill_ max min amax amin maximum minimum topk sort cummax "
        "max_pool1d max_pool2d max_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d "
        "max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices max_unpool2d grid_sample "
        "dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout identity positive requires_grad "
        "data detach real",
    ),
    (
        joining,
        "cat concat concatenate stack hstack vstack dstack column_stack block_diag where masked_fill index_copy scatter "
        "pad",
    ),
    (
        elementwise,
        "relu gelu silu mish elu selu celu leaky_relu prelu rrelu softplus softshrink hardshrink tanhshrink hardswish "
        "logsigmoid log_sigmoid threshold exp expm1 log log1p log2 log10 sqrt rsqrt square pow abs absolute sign reciprocal sin "
        "cos erf clamp_min clamp_max float_power nan_to_num softsign",
    ),
    (bounded, "sigmoid expit hardsigmoid relu6 tanh hardtanh"),
    (clamp, "clamp clip"),
    (softmax, "softmax log_softmax softmin sparsemax"),
    (addition, "add sub subtract rsub"),
    (
        linear_map,
        "neg negative sum mean nanmean cumsum avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d "
        "adaptive_avg_pool3d interpolate upsample rfft irfft rfft2 irfft2 fft ifft",
    ),
    (product, "mul multiply"),
    (quotient, "div divide true_divide truediv rdiv rtruediv"),
    (matrix_product, "matmul mm bmm mv dot inner einsum tensordot addmm addbmm baddbmm bilinear rmatmul"),
    (layer_norm, "layer_norm"),
    (group_norm, "group_norm"),
    (instance_norm, "instance_norm"),
    (batch_norm, "batch_norm"),
    (vector_norm, "rms_norm normalize local_response_norm"),
    (attention, "scaled_dot_product_attention"),
    (multi_head_attention, "multi_head_attention_forward"),
    (linear_layer, " ".join(_LAYERS)),
):
    RULES.update(dict.fromkeys(names.split(), rule))
