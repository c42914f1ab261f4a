"""Suitable rules for a model, chosen by its operations.

There are two sets (`purposes.py`). What counts, from the output down to the concepts' layers, follows epsilon at all
linear operations, and derivatives at norms, attention, gates and smooth activations: first-order effects. Where it is,
down to the input, follows gamma (0.25) at convolutions, with flat at the first layer and epsilon at the fully connected
ones: zennit's `EpsilonPlusFlat` with gamma in place of z+, which leaves out what speaks against a unit, and so gives
more to the surroundings of what it shows (Montavon et al., "Layer-wise relevance propagation: an overview", 2019;
Kohlbrenner et al., "Towards best practice in explaining neural network decisions with LRP", 2020; docs/truth.md). Three
kinds of networks need other rules for maps:

- If the classifier is a convolution (SqueezeNet), it gets epsilon, like a fully connected classifier; z+ on it would
  leave no negative relevance in any lower layer.
- Networks with depthwise convolutions (MobileNet) have z+, because gamma was not measured there. In these convolutions
  each unit has few inputs and a large bias, which absorbs nearly all relevance: on 12 photos a fraction of 4e-6 arrived
  at the input of MobileNet v1. There the biases of convolutions are excluded from the denominators, and 1e-2 arrives.
  The rest is lost at units that are active because of their bias alone.
  Where no ReLU follows, z+ at depthwise convolutions sent 1e4 times the logit to the input of MViT v2, and epsilon at
  batch norms of sums sent 1e9 times the logit to that of RepViT: see `ZPlusOrMinus`.
- Without convolutions, flat at the first layer would spread relevance evenly over the whole input: epsilon everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from zennit.core import Composite

from crp.attribution.copies import replicate
from crp.attribution.flow import RelevanceFlow
from crp.attribution.forward_pass import checked_input
from crp.attribution.isolation import isolated_pass
from crp.attribution.observation import LINEAR_FUNCTIONS, LinearCall, is_depthwise, observe
from crp.attribution.operation_composite import (
    DERIVED,
    DERIVED_MODULES,
    GammaComposite,
    NetworkKind,
    OperationComposite,
    RankingComposite,
    network_kind,
)
from crp.attribution.wrappers import check_module, unwrapped
from crp.errors import InputError, ModelError, nearest

# Norms of single samples: their scale depends on all channels.
_SCALING_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
# Two sets of rules, with gamma for maps or with z+; or the latter everywhere, as in the paper.
GAMMA, BY_PURPOSE, PLUS = "by-purpose-gamma", "by-purpose", "epsilon-plus-flat"
RULES = (GAMMA, BY_PURPOSE, PLUS)


@dataclass(frozen=True)
class FittingComposite:
    """A composite for a model, and why it was chosen.

    Parameters
    ----------
    composite
        For `RelevanceFlow` or `ConditionalAttribution`.
    name
        Short name, the same for the same rules. One set of rules is `"epsilon-plus-flat"`, `"epsilon-plus-flat, epsilon
        on classifier.1"`, `"epsilon-plus-flat, without biases of convolutions"` or `"epsilon"`. With rules by purpose,
        these are the maps' rules: `"epsilon; maps: epsilon-plus-flat"`, or `"first-order; maps: ..."` in a net with
        norms of single samples, attention, gates or smooth activations.
    reason
        One or two sentences: what was recognised and what was chosen.
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


@isolated_pass()
def composite_for(model: nn.Module, data: Tensor | None = None, *, rules: str = GAMMA) -> FittingComposite:
    """Choose rules for `model`.

    Parameters
    ----------
    model
        Any classifier: convolutional in one, two or three dimensions, fully connected, a transformer.
    data
        An example `[N, ...]` of the model's input. With it, the first and the last layer are those that run first and
        last; without it, those that the model registers first and last.
    rules
        `"by-purpose-gamma"`: epsilon and derivatives for relevance that ends at layers; gamma at convolutions, and
        other rules elsewhere, for relevance that ends at the input. Networks with depthwise convolutions have z+ in
        place of gamma.
        `"by-purpose"`: the same, with z+ in all networks. Heatmaps give more to the surroundings of what they show, and
        take less time in nets with skip connections.
        `"epsilon-plus-flat"`: the same rules for both, with z+, as in Achtibat et al. (2023).

    Returns
    -------
    FittingComposite
        The composite, a name and the reason.

    Raises
    ------
    InputError
        If there are no such rules.
    ModelError
        If the model has no linear or convolutional operation, or cannot run on the data.

    Examples
    --------
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(32, 10))
    >>> composite_for(model).name
    'epsilon; maps: epsilon-gamma-flat'
    >>> composite_for(model, rules="epsilon-plus-flat").name
    'epsilon-plus-flat'
    """
    if rules not in RULES:
        raise InputError(f"There are no rules '{rules}': {nearest(rules, RULES)}")
    check_module(model)
    model = unwrapped(model)
    # of a copy, because reading a parametrized weight may change buffers (spectral norm in training mode)
    copy = replicate(model)
    if data is None:
        calls, derived = _registered(copy), any(isinstance(module, DERIVED_MODULES) for module in copy.modules())
    else:
        observation = observe(copy, checked_input(model, data))
        calls, derived = observation.linear, not DERIVED.isdisjoint(observation.functions)
    if not calls:
        runs = "has no linear or convolutional module" if data is None else "runs no linear or convolutional operation"
        raise ModelError(f"{type(model).__name__} {runs} to put a rule on.")
    network = network_kind(calls)
    if not network.convolutional:
        name = "epsilon"
        choice = (
            "epsilon in all layers, because flat at a fully connected first layer would spread relevance evenly over "
            "the input"
        )
    else:
        name, choice = _convolutional_choice(network, rules == GAMMA and network.inner and not network.depthwise)
    ranking = None
    if (network.convolutional or derived) and rules != PLUS:
        ranking, name = RankingComposite(network), f"{'first-order' if derived else 'epsilon'}; maps: {name}"
        how = (
            "relevance of concepts is their first-order effect (gradient times activation; in norms, what a removed "
            "value takes from the variance), which does not add up to the output"
            if derived
            else "relevance of concepts by epsilon in all layers"
        )
        choice = (
            f"{how}; heatmaps by {choice}. The heatmaps of a layer's concepts add up to the heatmap of what arrives at "
            "the layer, not to that of the prediction"
        )
    if any(isinstance(module, _SCALING_NORMS) for module in model.modules()):
        choice += f". {'In heatmaps, scales' if ranking else 'Scales'} of norms and weights of attention are constants"
    kind = GammaComposite if rules == GAMMA else OperationComposite
    return FittingComposite(kind(network, ranking), name, f"{_described(model, calls)}: {choice}.")


def _convolutional_choice(network: NetworkKind, gamma: bool) -> tuple[str, str]:
    """Return the name and the description of the rules for a convolutional network."""
    name, rule = ("epsilon-gamma-flat", "gamma (0.25)") if gamma else ("epsilon-plus-flat", "z+")
    last, reason = "epsilon at the fully connected layers", ""
    plus = f"{rule} at the other convolutions"
    if network.convolutional_classifier:
        name += f", epsilon on {network.last}"
        last = f"epsilon at the last one, '{network.last}'"
        reason = ", which acts as the classifier" + ("" if gamma else ": z+ there would leave no negative relevance")
    if network.depthwise:
        name += ", without biases of convolutions"
        plus += (
            " with their biases left out of the denominators, where they would absorb nearly all relevance,"
        )
    return name, f"flat at the first layer, {plus} and {last}{reason}"


def _registered(model: nn.Module) -> list[LinearCall]:
    """List the linear modules in the order of registration, as if each was called once."""
    return [
        LinearCall(name, kind, is_depthwise(module))
        for name, module in model.named_modules()
        for kind in LINEAR_FUNCTIONS.values()
        if isinstance(module, kind)
    ]


def _described(model: nn.Module, calls: Sequence[LinearCall]) -> str:
    """Describe the kind of network in a few words."""
    kinds = {f"{kind.__module__}.{kind.__name__}" for module in model.modules() for kind in [type(module)]}
    for name in ("VGG", "ResNet", "SqueezeNet", "MobileNetV2"):
        if any(kind.startswith("torchvision.models.") and kind.endswith(f".{name}") for kind in kinds):
            return f"A {name} of torchvision"
    dimensions = {call.kind.__name__[-2:] for call in calls if call.kind is not nn.Linear}
    if not dimensions:
        return "A net without convolutions"
    depthwise = " with depthwise convolutions" if any(call.depthwise for call in calls) else ""
    return f"A convolutional net in {'/'.join(sorted(name.replace('d', '-d') for name in dimensions))}{depthwise}"
