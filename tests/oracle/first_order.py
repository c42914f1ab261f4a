r"""Relevance for ranking in plain torch: gradient times activation, without the squares that norms count twice.

The network above a layer is a function of the layer's output :math:`a`. Of an objective :math:`f`, relevance is

.. math::
    a \odot \nabla f - \tfrac 12\, a \odot \nabla q, \qquad
    q = \sum_n \frac{\partial f}{\partial \sigma_n^2}\, \frac{1 - 1/D}{D}\, |v_n|^2

for the layer norms :math:`n`, where :math:`v_n` is what :math:`a` itself adds to their input: the input in a network
whose branches (attention, MLPs, everything between stages) return zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import ConvNeXt, SwinTransformer, VisionTransformer


@dataclass
class Run:
    """The network above a layer, run from some values of the layer.

    Attributes
    ----------
    output
        The logits.
    layers
        Outputs of the modules above.
    norms
        Input and variance of each layer norm.
    """

    output: Tensor | None = None
    layers: dict[str, Tensor] = field(default_factory=dict)
    norms: list[tuple[Tensor, Tensor]] = field(default_factory=list)


def run(model: nn.Module, data: Tensor, layer: str, values: Tensor, layers: Sequence[str] = (), zero=()) -> Run:
    """Run a model with other values at a layer, and zeros in place of what the modules `zero` return."""
    found, modules, handles, started = Run(), dict(model.named_modules()), [], []

    def replaced(module: nn.Module, args: tuple, output: Tensor) -> Tensor:
        started.append(True)
        return values

    def normalized(x: Tensor, shape: Sequence[int], weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        variance = centred.square().mean(-1, keepdim=True)
        if started:
            found.norms.append((x, variance))
        return centred / (variance + eps).sqrt() * weight + bias

    def nothing(module: nn.Module, args: tuple, output: Tensor | tuple) -> Tensor | tuple:
        if not started:
            return output
        return tuple(map(torch.zeros_like, output[:1])) + output[1:] if isinstance(output, tuple) else output * 0

    for name in zero:
        handles.append(modules[name].register_forward_hook(nothing))
    handles.append(modules[layer].register_forward_hook(replaced))
    for name in layers:
        handles.append(modules[name].register_forward_hook(lambda m, a, o, name=name: found.layers.update({name: o})))
    before = functional.layer_norm
    functional.layer_norm = normalized
    try:
        found.output = model(data)
    finally:
        functional.layer_norm = before
        for handle in handles:
            handle.remove()
    return found


def branches(model: nn.Module) -> list[str]:
    """Name the modules that end a branch of the residual stream, mix its channels, or start another one."""
    if isinstance(model, VisionTransformer):
        ends = ("self_attention", "mlp")
    elif isinstance(model, SwinTransformer):
        ends = ("attn", "mlp", "reduction")
    else:
        ends = ("block",)
    found = [name for name, _ in model.named_modules() if name.rsplit(".", 1)[-1] in ends]
    if isinstance(model, ConvNeXt):
        found += [f"{name}.0" for name in found]  # the convolution before the norm
        between = [name for name, part in model.features.named_children() if isinstance(part[0], nn.LayerNorm)]
        found += [f"features.{name}.1" for name in between]
    return found


def activation(model: nn.Module, data: Tensor, layer: str) -> Tensor:
    """Return a layer's output."""
    kept: list[Tensor] = []
    handle = dict(model.named_modules())[layer].register_forward_hook(lambda m, a, o: kept.append(o.detach()))
    with torch.no_grad():
        model(data)
    handle.remove()
    return kept[0]


def relevance(
    model: nn.Module, data: Tensor, layer: str, objective: Callable[[Run], Tensor], layers: Sequence[str] = ()
) -> Tensor:
    """Compute the relevance of a layer's output for an objective, one number of a run from the layer."""
    values = activation(model, data, layer).requires_grad_()
    whole = run(model, data, layer, values, layers)
    reached = [variance for _, variance in whole.norms]
    gradient, *through = torch.autograd.grad(objective(whole), [values, *reached], allow_unused=True)
    zero = branches(model)
    own, none = (run(model, data, layer, start, zero=zero) for start in (values, torch.zeros_like(values)))
    total = 0
    for (x, _), (rest, _), sent in zip(own.norms, none.norms, through, strict=True):
        size = x.shape[-1]
        if sent is not None:
            total = total + ((x - rest).square() * sent * (1 - 1 / size) / size).sum()
    squares = torch.zeros_like(values)
    if isinstance(total, Tensor) and total.requires_grad:
        # a quadratic form is shared in proportion to values times half of its gradient
        squares = values * torch.autograd.grad(total, values)[0] / 2
    return (values * gradient - squares).detach()


@contextmanager
def unstabilised(monkeypatch) -> Iterator[None]:
    """Make the stabilisers of function rules so small that they do not count."""
    with monkeypatch.context() as patch:
        patch.setattr("crp.attribution.stabilizing.EPSILON", 1e-14)
        yield
