"""A suitable composite for a model: rules and canonizers chosen by its modules.

The convolutional rule is z+, with the flat rule at the first layer and epsilon at the fully connected ones (zennit's
`EpsilonPlusFlat`; Kohlbrenner et al., "Towards best practice in explaining neural network decisions with LRP", 2020).
Three kinds of networks need other rules:

- If the classifier is a convolution (SqueezeNet), z+ on it would leave no negative relevance in any lower layer. It
  gets epsilon, like a fully connected classifier.
- In depthwise convolutions (MobileNet) each unit has few inputs and a large bias, which absorbs nearly all relevance:
  on 12 photos a fraction of 4e-6 arrived at the input of MobileNet v1. There the biases of convolutions are excluded
  from the denominators, and 1e-2 arrives. The rest is lost at units that are active because of their bias alone.
- Without convolutions, flat at the first layer would spread relevance evenly over the whole input: epsilon everywhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from zennit.canonizers import Canonizer, NamedMergeBatchNorm
from zennit.composites import EpsilonPlusFlat, LayerMapComposite, MixedComposite, NameMapComposite, layer_map_base
from zennit.core import Composite
from zennit.layer import Sum
from zennit.rules import Epsilon, Norm
from zennit.torchvision import ResNetCanonizer, VGGCanonizer
from zennit.types import Activation, AvgPool, BatchNorm, Convolution, Linear, MaxPool

from crp.attribution.canonizers import (
    Averaging,
    FunctionCanonizer,
    functions_left_to_gradient,
    module_at_the_end,
    rewritten_functions,
    sequential_batch_norms,
    unreadable_blocks,
)
from crp.attribution.final_activation import is_final_activation
from crp.attribution.flow import RelevanceFlow
from crp.attribution.replica import check_module
from crp.errors import ModelError

_RESHAPING = (
    nn.Identity,
    nn.Flatten,
    nn.Unflatten,
    nn.ChannelShuffle,
    nn.PixelShuffle,
    nn.Upsample,
    nn.modules.dropout._DropoutNd,
    nn.modules.padding._ConstantPadNd,
    nn.modules.padding._ReflectionPadNd,
    nn.modules.padding._ReplicationPadNd,
)
_RULED = (Linear, BatchNorm, AvgPool, MaxPool, Activation, Sum)
# zennit 0.5.1 counts attention among the activations and would pass relevance to the query alone.
_NO_RULE = [(nn.MultiheadAttention, None)]


@dataclass(frozen=True)
class FittingComposite:
    """A composite for a model, and why it was chosen.

    Parameters
    ----------
    composite
        A zennit composite with canonizers, for `RelevanceFlow` or `ConditionalAttribution`.
    name
        Short name, the same for the same rules: `"epsilon-plus-flat"`, `"epsilon-plus-flat, epsilon on classifier.1"`,
        `"epsilon-plus-flat, without biases of convolutions"`, `"epsilon"`.
    reason
        One sentence: what was recognised, what was chosen, and what has no rule and uses its gradient.
    """

    composite: Composite
    name: str
    reason: str

    def conservation(self, model: nn.Module, data: Tensor, targets: Sequence[int]) -> Tensor:
        """Compute the relevance that arrives at the input, divided by the relevance that starts at the target's logit.

        Parameters
        ----------
        model
            The model that this composite was chosen for.
        data
            `[N, c, *S]`.
        targets
            `N` class indices.

        Returns
        -------
        Tensor
            `[N]`; 1 if nothing was lost or added, less if biases and stabilisers absorbed relevance.
        """
        with RelevanceFlow(model, self.composite, data) as flow:
            started = flow.output_relevance(targets)
            arriving = flow.down(started)
        return arriving[0].flatten(1).sum(1) / started[0].flatten(1).sum(1)


def composite_for(model: nn.Module) -> FittingComposite:
    """Choose rules and canonizers for `model`.

    Parameters
    ----------
    model
        A convolutional network in one, two or three dimensions (VGG, ResNet, SqueezeNet, MobileNet and others) or a
        fully connected one.

    Returns
    -------
    FittingComposite
        The composite, a name and the reason.

    Raises
    ------
    ModelError
        If the model has no linear or convolutional module.

    Examples
    --------
    >>> from torch import nn
    >>> fitting = composite_for(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 10)))
    >>> fitting.name
    'epsilon-plus-flat'
    """
    check_module(model)
    ruled = [(name, module) for name, module in model.named_modules() if isinstance(module, Linear)]
    if not ruled:
        raise ModelError(f"{type(model).__name__} has no linear or convolutional module to put a rule on.")
    structure, canonizers = _canonizers(model)
    head, head_module = ruled[-1]
    layer_map = [*_NO_RULE, (Averaging, Norm())]

    if not any(isinstance(module, Convolution) for _, module in ruled):
        name = "epsilon"
        composite = LayerMapComposite([*layer_map, *layer_map_base(), (Linear, Epsilon())], canonizers=canonizers)
        choice = (
            "epsilon in all layers, because flat at a fully connected first layer would spread relevance evenly over "
            "the input"
        )
    elif isinstance(head_module, Convolution):
        name = f"epsilon-plus-flat, epsilon on {head}"
        rules = EpsilonPlusFlat(layer_map=layer_map)
        composite = MixedComposite([NameMapComposite([([head], Epsilon())]), rules], canonizers=canonizers)
        choice = (
            f"flat at the first layer, z+ at the other convolutions and epsilon at the last one, '{head}', which acts "
            "as the classifier: z+ there would leave no negative relevance"
        )
    elif any(_is_depthwise(module) for _, module in ruled):
        name = "epsilon-plus-flat, without biases of convolutions"
        layer_map.append((nn.Linear, Epsilon()))
        composite = EpsilonPlusFlat(layer_map=layer_map, zero_params="bias", canonizers=canonizers)
        choice = (
            "flat at the first layer, z+ at the other convolutions with their biases left out of the denominators, "
            "where they would absorb nearly all relevance, and epsilon at the fully connected layers"
        )
    else:
        name = "epsilon-plus-flat"
        composite = EpsilonPlusFlat(layer_map=layer_map, canonizers=canonizers)
        choice = "flat at the first layer, z+ at the other convolutions and epsilon at the fully connected layers"
    return FittingComposite(composite, name, f"{structure}: {choice}{_left_to_gradient(model)}.")


def _canonizers(model: nn.Module) -> tuple[str, list[Canonizer]]:
    """Return a description of `model` and the canonizers it needs."""
    kinds = Counter(f"{type(module).__module__}.{type(module).__name__}" for module in model.modules())
    has_batch_norm = any(isinstance(module, BatchNorm) for module in model.modules())

    if kinds["torchvision.models.resnet.BasicBlock"] or kinds["torchvision.models.resnet.Bottleneck"]:
        return "A ResNet of torchvision, its batch norms merged and its skip connections made sums", [ResNetCanonizer()]
    if kinds["torchvision.models.vgg.VGG"] and has_batch_norm:
        return "A VGG of torchvision with its batch norms merged", [VGGCanonizer()]

    canonizers: list[Canonizer] = []
    remarks = []
    if has_batch_norm:
        pairs = sequential_batch_norms(model)
        total = sum(isinstance(module, BatchNorm) for module in model.modules())
        if pairs:
            canonizers.append(NamedMergeBatchNorm(pairs))
            remarks.append(f"{len(pairs)} of {total} batch norms merged")
    functions = rewritten_functions(model)
    if functions:
        canonizers.append(FunctionCanonizer())
    for kind, words in (("sum", "sum(s) of tensors (skip connections)"), ("mean", "mean(s) over space")):
        if functions[kind]:
            remarks.append(f"{functions[kind]} {words} made modules")
    return ", ".join([_described(model, kinds, functions["sum"]), *remarks]), canonizers


def _is_depthwise(module: nn.Module) -> bool:
    return isinstance(module, Convolution) and module.groups == module.in_channels > 1


def _described(model: nn.Module, kinds: Counter, sums: int) -> str:
    """Describe the kind of network in a few words."""
    for name in ("VGG", "SqueezeNet", "MobileNetV2"):
        if any(kind.startswith("torchvision.models.") and kind.endswith(f".{name}") for kind in kinds):
            return f"A {name} of torchvision"
    convolutions = [module for module in model.modules() if isinstance(module, Convolution)]
    if not convolutions:
        return "A net without convolutions"
    dimensions = sorted({module.weight.ndim - 2 for module in convolutions})
    depthwise = " with depthwise convolutions" if any(map(_is_depthwise, convolutions)) else ""
    return f"A {'residual' if sums else 'convolutional'} net in {'/'.join(map(str, dimensions))}-d{depthwise}"


def _left_to_gradient(model: nn.Module) -> str:
    """End of the reason: what no rule covers."""
    end = module_at_the_end(model)
    modules = {
        type(module).__name__
        for module in model.modules()
        if not any(True for _ in module.children())
        and not isinstance(module, _RULED + _RESHAPING)
        and not (module is end and is_final_activation(module))
    } | {type(module).__name__ for module in model.modules() if isinstance(module, nn.MultiheadAttention)}
    parts = [*sorted(modules), *functions_left_to_gradient(model)]
    sentence = f"; run by their gradient: {', '.join(parts)}" if parts else ""
    if blocks := unreadable_blocks(model):
        sentence += f"; additions inside {', '.join(blocks)} could not be read and run by their gradient"
    return sentence
