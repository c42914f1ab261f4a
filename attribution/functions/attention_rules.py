r"""Rules of attention.

For maps its weights are constants, so that relevance flows to the values alone and is conserved (Ali et al., "XAI for
Transformers: Better Explanations through Conservative Propagation", 2022). For ranking the rule is gradient times
input, through the weights to queries, keys and masks made of data as well: what a channel does to the weights is a part
of its effect.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from crp.attribution.functions.derivatives import linear_down, times_gradient
from crp.attribution.functions.elementary import other_function
from crp.attribution.functions.function_calls import Call
from crp.attribution.functions.operation import Down


def attention(call: Call) -> Tensor:
    """Linearize attention in its values for maps; for ranking, take the gradient in all that is data."""
    given = [call.argument(place, name) for place, name in enumerate(("query", "key", "value", "attn_mask"))]
    query, key, value, mask = given
    output = call.run()
    if not value.requires_grad:
        return other_function(call)
    groups = query.shape[-3] // value.shape[-3] if call.argument(7, "enable_gqa", False) else 1

    def mixed(weights: Tensor, values: Tensor) -> Tensor:
        return weights @ (values if groups == 1 else values.repeat_interleave(groups, -3))

    data = list({id(tensor): tensor for tensor in given if tensor is not None and tensor.requires_grad}.values())
    reached = data if call.ranked_apart() else [value]
    ranked_only = [tensor for tensor in reached if tensor is not value]

    def maps() -> Down:
        weights = _attention_weights(call, query.detach(), key.detach(), None if mask is None else mask.detach())
        down, _ = linear_down(value, lambda leaf: mixed(weights, leaf), output)
        return lambda relevance: [down(relevance) if tensor is value else None for tensor in reached]

    def ranking() -> Down:
        with torch.enable_grad():
            leaves = {id(tensor): tensor.detach().requires_grad_() for tensor in data}
            query, key, value, mask = (leaves.get(id(tensor), tensor) for tensor in given)
            graph = mixed(_attention_weights(call, query, key, mask), value)
        return times_gradient(graph, data, leaves)

    return call.ruled(output, reached, call.by_purpose(maps=maps, ranking=ranking), ranked_only=ranked_only)


def _attention_weights(call: Call, query: Tensor, key: Tensor, mask: Tensor | None) -> Tensor:
    """Compute the softmax over keys, as `scaled_dot_product_attention` documents it."""
    scale = call.argument(6, "scale")
    if call.argument(7, "enable_gqa", False):
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
    scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if call.argument(5, "is_causal", False):
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(later, -torch.inf)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
        # a query that may read no key gets zeros
        nowhere = (scores.detach() == -torch.inf).all(-1, keepdim=True)
        return scores.masked_fill(nowhere, 0).softmax(-1).masked_fill(nowhere, 0)
    return scores.softmax(-1)


def multi_head_attention(call: Call) -> tuple[Tensor, Tensor | None]:
    """Open `torch.nn.MultiheadAttention` into projections and `attention`, each under its own rule.

    Keys and values that are appended absorb relevance. Given keys, and input without an axis of samples, run by the
    gradient.
    """
    given = inspect.signature(functional.multi_head_attention_forward).bind(*call.args, **call.kwargs).arguments
    query, key, value = given["query"], given["key"], given["value"]
    if query.ndim != 3 or any(given.get(name) is not None for name in ("static_k", "static_v")):
        return other_function(call)
    heads = given["num_heads"]
    biases = [None] * 3 if given["in_proj_bias"] is None else given["in_proj_bias"].chunk(3)
    if given.get("use_separate_proj_weight"):
        weights = [given[f"{name}_proj_weight"] for name in "qkv"]
    else:
        weights = given["in_proj_weight"].chunk(3)
    with call.rules:
        mask = _attention_mask(given, query, key)
        parts = [
            functional.linear(tensor, weight, bias)
            for tensor, weight, bias in zip((query, key, value), weights, biases, strict=True)
        ]
        appended = [None, given["bias_k"], given["bias_v"]]
        parts = [
            part if own is None else torch.cat([part, own.expand(1, *part.shape[1:])])
            for part, own in zip(parts, appended, strict=True)
        ]
        if given["add_zero_attn"]:
            parts = [parts[0], *(torch.cat([part, part.new_zeros(1, *part.shape[1:])]) for part in parts[1:])]
        if mask is not None:
            mask = functional.pad(mask, (0, len(parts[1]) - len(key)))
        # [T, N, D] -> [N, heads, T, D / heads]
        parts = [part.unflatten(-1, (heads, -1)).permute(1, 2, 0, 3) for part in parts]
        mixed = functional.scaled_dot_product_attention(*parts, attn_mask=mask)
        output = functional.linear(
            mixed.permute(2, 0, 1, 3).flatten(2), given["out_proj_weight"], given["out_proj_bias"]
        )
        if not given.get("need_weights", True):
            return output, None
        # a model may read the weights, too
        scores = parts[0] @ parts[1].mT * parts[0].shape[-1] ** -0.5
        read = (scores if mask is None else scores + mask).softmax(-1)
        return output, read.mean(1) if given.get("average_attn_weights", True) else read


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
