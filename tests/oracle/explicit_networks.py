"""Five families of torchvision, computed by hand as chains of `explicit_lrp` values."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import torch
from torch import Tensor, nn
from torch.nn import functional

from . import explicit_lrp as lrp
from .explicit_lrp import Convolution, Value


class Network:
    """A model, and the rules of its convolutions.

    Attributes
    ----------
    rules
        `"epsilon"` everywhere; `"plus"`: flat at the first convolution, z+ at the others and, at
        depthwise ones, its mirror image for negative outputs; `"plus without biases"`.
    layers
        What the named modules returned.
    """

    def __init__(self, model: nn.Module, rules: str) -> None:
        self.model, self.rules = model, rules
        self.layers: dict[str, Value] = {}
        self._first = True

    def keep(self, name: str, value: Value) -> Value:
        """Note what a module returned."""
        self.layers[name] = value
        return value

    def convolution(self, x: Value, layer: nn.Conv2d, norm: nn.BatchNorm2d | None = None) -> Value:
        """A convolution; a batch norm after it is a part of its weights."""
        weight, bias = layer.weight.detach(), None if layer.bias is None else layer.bias.detach()
        if norm is not None:
            factor = norm.weight.detach() / (norm.running_var + norm.eps).sqrt()
            weight = weight * factor[:, None, None, None]
            bias = ((0 if bias is None else bias) - norm.running_mean) * factor + norm.bias.detach()
        written = Convolution(weight, bias, layer.stride, layer.padding, layer.groups)
        first, self._first = self._first, False
        if self.rules == "epsilon":
            return lrp.epsilon_convolution(x, written)
        if first:
            return lrp.flat_convolution(x, written)
        depthwise = layer.groups == layer.in_channels > 1
        rule = lrp.plus_or_minus_convolution if depthwise else lrp.plus_convolution
        return rule(x, written, self.rules == "plus")

    def linear(self, x: Value, layer: nn.Linear) -> Value:
        return lrp.linear(x, layer.weight.detach(), None if layer.bias is None else layer.bias.detach())

    def norm(self, x: Value, layer: nn.LayerNorm) -> Value:
        return lrp.layer_norm(x, layer.weight.detach(), layer.bias.detach(), layer.eps)


def channels_last(x: Value) -> Value:
    return lrp.moved(x, lambda values: values.permute(0, 2, 3, 1), lambda values: values.permute(0, 3, 1, 2))


def channels_first(x: Value) -> Value:
    return lrp.moved(x, lambda values: values.permute(0, 3, 1, 2), lambda values: values.permute(0, 2, 3, 1))


def by_head(x: Value, heads: int) -> Value:
    """`[N, T, D]` -> `[N, heads, T, D / heads]`."""

    def back(values: Tensor) -> Tensor:
        return values.transpose(1, 2).flatten(2)

    return lrp.moved(x, lambda values: values.unflatten(2, (heads, -1)).transpose(1, 2), back)


def joined_heads(x: Value) -> Value:
    heads = x.tensor.shape[1]
    return lrp.moved(
        x,
        lambda values: values.transpose(1, 2).flatten(2),
        lambda values: values.unflatten(2, (heads, -1)).transpose(1, 2),
    )


def attention(net: Network, x: Value, projections: list, heads: int, output: nn.Linear, added: Tensor | float) -> Value:
    """Self-attention over `[N, T, D]`; relevance goes to the values alone."""
    query, key, value = (by_head(lrp.linear(x, weight, bias), heads) for weight, bias in projections)
    scores = query.tensor @ key.tensor.mT / query.tensor.shape[-1] ** 0.5 + added
    weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
    return net.linear(joined_heads(lrp.attended(weights, value)), output)


def thirds(weight: Tensor, bias: Tensor) -> list[tuple[Tensor, Tensor]]:
    return list(zip(weight.detach().chunk(3), bias.detach().chunk(3), strict=True))


def vision_transformer(net: Network, data: Tensor) -> tuple[Value, Value]:
    model, source = net.model, Value(data)
    x = net.keep("conv_proj", net.convolution(source, model.conv_proj))
    side = x.tensor.shape[2]
    x = lrp.moved(x, lambda v: v.flatten(2).mT, lambda v: v.mT.unflatten(2, (side, side)))
    token = model.class_token.detach().expand(len(data), -1, -1)
    x = lrp.moved(x, lambda v: torch.cat([token, v], 1), lambda v: v[:, 1:])
    x = lrp.shifted(x, model.encoder.pos_embedding.detach())
    for name, block in model.encoder.layers.named_children():
        name = f"encoder.layers.{name}"
        own = block.self_attention
        projections = thirds(own.in_proj_weight, own.in_proj_bias)
        attending = attention(net, net.norm(x, block.ln_1), projections, own.num_heads, own.out_proj, 0)
        x = lrp.total(attending, x)
        y = net.keep(f"{name}.mlp.0", net.linear(net.norm(x, block.ln_2), block.mlp[0]))
        y = net.keep(f"{name}.mlp", net.linear(lrp.activated(y, functional.gelu), block.mlp[3]))
        x = net.keep(name, lrp.total(x, y))
    x = net.norm(x, model.encoder.ln)
    tokens = x.tensor.shape[1]
    x = lrp.moved(x, lambda v: v[:, 0], lambda v: functional.pad(v[:, None], (0, 0, 0, tokens - 1)))
    return source, net.linear(x, model.heads.head)


def shifted_windows(net: Network, x: Value, own: nn.Module) -> Value:
    """Attention inside windows, `[N, H, W, C]`; shifted windows do not attend across the seam."""
    (height, width), (rows, columns) = x.tensor.shape[1:3], own.window_size
    shift = [0 if size <= window else move for size, window, move in
             zip((height, width), own.window_size, own.shift_size, strict=True)]  # fmt: skip
    samples, channels = len(x.tensor), x.tensor.shape[3]

    def windows(values: Tensor) -> Tensor:
        values = values.roll([-shift[0], -shift[1]], (1, 2))
        values = values.view(samples, height // rows, rows, width // columns, columns, -1)
        return values.transpose(2, 3).reshape(-1, rows * columns, values.shape[-1])

    def image(values: Tensor) -> Tensor:
        values = values.view(samples, height // rows, width // columns, rows, columns, channels)
        return values.transpose(2, 3).reshape(samples, height, width, channels).roll(shift, (1, 2))

    table, index = own.relative_position_bias_table.detach(), own.relative_position_index
    added = table[index].view(rows * columns, rows * columns, -1).permute(2, 0, 1)[None]
    if any(shift):
        strips = [torch.arange(size) for size in (height, width)]
        # rolled by the shift, the last rows are those that came from the other side
        regions = [
            (place >= size - window).long() + (place >= size - move).long() * (move > 0)
            for place, size, window, move in zip(strips, (height, width), own.window_size, shift, strict=True)
        ]
        label = regions[0][:, None] * 3 + regions[1]
        label = label.view(height // rows, rows, width // columns, columns).transpose(1, 2).reshape(-1, rows * columns)
        apart = (label[:, :, None] != label[:, None]).repeat(samples, 1, 1)
        added = added + apart[:, None] * -100.0
    y = lrp.moved(x, windows, image)
    projections = thirds(own.qkv.weight, own.qkv.bias)
    y = attention(net, y, projections, own.num_heads, own.proj, added)
    return lrp.moved(y, image, windows)


def swin_transformer(net: Network, data: Tensor) -> tuple[Value, Value]:
    model, source = net.model, Value(data)
    x = channels_last(net.convolution(source, model.features[0][0]))
    x = net.keep("features.0", net.norm(x, model.features[0][2]))
    for place, stage in enumerate(model.features):
        if place == 0:
            continue
        if hasattr(stage, "reduction"):
            x = net.keep(f"features.{place}", net.linear(net.norm(merged_patches(x), stage.norm), stage.reduction))
            continue
        for number, block in enumerate(stage):
            x = lrp.total(x, shifted_windows(net, net.norm(x, block.norm1), block.attn))
            y = lrp.activated(net.linear(net.norm(x, block.norm2), block.mlp[0]), functional.gelu)
            x = net.keep(f"features.{place}.{number}", lrp.total(x, net.linear(y, block.mlp[3])))
    x = lrp.averaged(channels_first(net.norm(x, model.norm)))
    return source, net.linear(x, model.head)


def merged_patches(x: Value) -> Value:
    """Two by two neighbours become one: `[N, H, W, C]` -> `[N, H / 2, W / 2, 4 C]`."""
    places = [(0, 0), (1, 0), (0, 1), (1, 1)]

    def back(values: Tensor) -> Tensor:
        result = torch.zeros_like(x.tensor)
        for (row, column), part in zip(places, values.chunk(4, -1), strict=True):
            result[:, row::2, column::2] = part
        return result

    return lrp.moved(x, lambda v: torch.cat([v[:, row::2, column::2] for row, column in places], -1), back)


def convnext(net: Network, data: Tensor) -> tuple[Value, Value]:
    model, source = net.model, Value(data)
    x = net.convolution(source, model.features[0][0])
    x = net.keep("features.0", channels_first(net.norm(channels_last(x), model.features[0][1])))
    for place, stage in enumerate(model.features):
        if place == 0:
            continue
        if isinstance(stage[0], nn.LayerNorm):  # between stages
            x = channels_first(net.norm(channels_last(x), stage[0]))
            x = net.keep(f"features.{place}", net.convolution(x, stage[1]))
            continue
        for number, block in enumerate(stage):
            y = net.keep(f"features.{place}.{number}.block.0", net.convolution(x, block.block[0]))
            y = net.linear(net.norm(channels_last(y), block.block[2]), block.block[3])
            y = channels_first(net.linear(lrp.activated(y, functional.gelu), block.block[5]))
            x = net.keep(f"features.{place}.{number}", lrp.total(lrp.scaled(y, block.layer_scale.detach()), x))
    x = lrp.averaged(x)
    return source, net.linear(net.norm(x, model.classifier[0]), model.classifier[2])


def squeezed(x: Value, own: nn.Module) -> Value:
    """Squeeze and excitation: channels are scaled by a gate."""
    mean = x.tensor.mean((2, 3), keepdim=True)
    gate = own.scale_activation(own.fc2(own.activation(own.fc1(mean)))).detach()
    return lrp.scaled(x, gate)


ACTIVATIONS: dict[type[nn.Module], Callable[[Tensor], Tensor]] = {
    nn.ReLU: functional.relu, nn.SiLU: functional.silu, nn.Hardswish: functional.hardswish,
}  # fmt: skip


def convolved(net: Network, x: Value, block: nn.Sequential) -> Value:
    """A convolution, its batch norm and maybe an activation."""
    x = net.convolution(x, block[0], block[1])
    return lrp.activated(x, ACTIVATIONS[type(block[2])]) if len(block) > 2 else x


def inverted_residuals(net: Network, data: Tensor) -> tuple[Value, Value]:
    """EfficientNet and MobileNetV3: blocks of convolutions and a gate, some with a skip connection."""
    model, source = net.model, Value(data)
    x = source
    blocks: dict[str, nn.Module] = {}
    for place, stage in enumerate(model.features):
        if hasattr(stage, "block") or isinstance(stage[0], nn.Conv2d):
            blocks[f"features.{place}"] = stage
        else:
            blocks |= {f"features.{place}.{number}": block for number, block in enumerate(stage)}
    for name, block in blocks.items():
        if not hasattr(block, "block"):
            x = net.keep(name, convolved(net, x, block))
            continue
        y = x
        for number, part in enumerate(block.block):
            y = squeezed(y, part) if hasattr(part, "fc1") else convolved(net, y, part)
            net.keep(f"{name}.block.{number}", y)
        x = net.keep(name, lrp.total(y, x) if block.use_res_connect else y)
    x = lrp.averaged(x)
    for part in model.classifier:
        if isinstance(part, nn.Linear):
            x = net.linear(x, part)
        elif type(part) in ACTIVATIONS:
            x = lrp.activated(x, ACTIVATIONS[type(part)])
    return source, x


def small_models() -> dict[str, SimpleNamespace]:
    """Each family, small: how it is built, computed by hand, the layers to compare, and its rules by default."""
    # imported here, after the workaround of crp.attribution
    from torchvision.models import ConvNeXt, EfficientNet, MobileNetV3, SwinTransformer, VisionTransformer
    from torchvision.models.convnext import CNBlockConfig
    from torchvision.models.efficientnet import FusedMBConvConfig, MBConvConfig
    from torchvision.models.mobilenetv3 import InvertedResidualConfig

    batch_norm = partial(nn.BatchNorm2d, eps=0.01)
    return {
        "ViT": SimpleNamespace(
            build=lambda: VisionTransformer(8, 2, 2, 2, 8, 12, num_classes=4),
            by_hand=vision_transformer,
            layers=["encoder.layers.encoder_layer_1.mlp.0", "encoder.layers.encoder_layer_0", "conv_proj"],
            rules="plus",
        ),
        "Swin": SimpleNamespace(
            build=lambda: SwinTransformer([2, 2], 8, [2, 2], [1, 2], [2, 2], num_classes=4),
            by_hand=swin_transformer,
            layers=["features.3.0", "features.1.1", "features.0"],
            rules="plus",
        ),
        "ConvNeXt": SimpleNamespace(
            build=lambda: ConvNeXt(
                [CNBlockConfig(6, 8, 2), CNBlockConfig(8, None, 1)], layer_scale=0.5, num_classes=4
            ),
            by_hand=convnext,
            layers=["features.3.0", "features.1.1.block.0", "features.0"],
            rules="plus without biases",
        ),
        "EfficientNet": SimpleNamespace(
            build=lambda: EfficientNet(
                [FusedMBConvConfig(2, 3, 1, 8, 8, 1), MBConvConfig(2, 3, 2, 8, 8, 2), MBConvConfig(2, 5, 1, 8, 8, 1)],
                dropout=0.2, num_classes=4, norm_layer=batch_norm, last_channel=12,
            ),
            by_hand=inverted_residuals,
            layers=["features.3.0", "features.2.0.block.1", "features.0"],
            rules="plus without biases",
        ),
        "MobileNetV3": SimpleNamespace(
            build=lambda: MobileNetV3(
                [
                    InvertedResidualConfig(8, 3, 8, 8, True, "RE", 1, 1, 1),
                    InvertedResidualConfig(8, 3, 16, 8, False, "HS", 2, 1, 1),
                    InvertedResidualConfig(8, 5, 16, 8, True, "HS", 1, 1, 1),
                ],
                last_channel=12, num_classes=4, norm_layer=batch_norm,
            ),
            by_hand=inverted_residuals,
            layers=["features.3", "features.2.block.1", "features.0"],
            rules="plus without biases",
        ),
    }  # fmt: skip
