"""Rules for modules that zennit does not have, or has in a form that takes more convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn
from zennit.core import BasicHook, ParamMod, Stabilizer
from zennit.rules import ClampMod, GammaMod, NoMod, zero_bias

from crp.attribution.probing import mapped

# Of zennit's gamma rule.
_GAMMA_BRANCHES = 5


class GammaRule(BasicHook):
    r"""The generalised gamma rule, zennit's `Gamma`, in a form with two convolutions in place of five.

    A unit with the output :math:`z_j = \sum_i a_i w_{ij} + b_j` divides its relevance in proportion to

    .. math::
        \left(1 + \tfrac{\gamma}{2}\right) \mathrm{sign}(z_j)\, a_i w_{ij} + \tfrac{\gamma}{2} |a_i w_{ij}|,

    which is :math:`1 + \gamma` times what has the sign of the output, and once what has the other (Montavon et al.,
    "Layer-wise relevance propagation: an overview", 2019; Andéol et al., "Learning domain invariant representations by
    joint Wasserstein distance minimization", 2021). zennit separates the signs of inputs and of weights, which takes
    four modified modules. Here the module itself is one branch, and its magnitudes :math:`|a|, |w|` are the other.

    Parameters
    ----------
    gamma
        How much more what has the sign of the output counts.
    epsilon
        The stabiliser.

    Attributes
    ----------
    at_positive_outputs
        The same rule where no input is negative, and relevance comes to positive outputs only: one convolution, with
        the weights :math:`w + \gamma w^+`.
    """

    def __init__(self, gamma: float, epsilon: float = 1e-6) -> None:
        def mapper(relevance: Tensor, outputs: Sequence[Tensor]) -> list[Tensor]:
            output, magnitude = outputs
            sign = output.sign()  # 0 at 0, which receives no relevance
            share = relevance / (output.abs() * (1 + gamma / 2) + magnitude * (gamma / 2) + epsilon)
            return [share * sign * (1 + gamma / 2), share * sign.abs() * (gamma / 2)]

        super().__init__(
            input_modifiers=[_same, torch.abs],
            param_modifiers=[NoMod(), ParamMod(lambda parameter, name: parameter.abs())],
            output_modifiers=[_same, _same],
            gradient_mapper=mapper,
            reducer=lambda inputs, gradients: inputs[0] * gradients[0] + inputs[1] * gradients[1],
        )
        self.at_positive_outputs = BasicHook(
            input_modifiers=[_same, _same],
            param_modifiers=[GammaMod(gamma, min=0.0), NoMod()],
            output_modifiers=[_same, _same],
            gradient_mapper=lambda relevance, outputs: [
                relevance * (outputs[1] > 0) / (outputs[0] + epsilon),
                relevance.new_zeros(()).expand(relevance.shape),
            ],
            reducer=lambda inputs, gradients: inputs[0] * gradients[0],
        )


def in_fewer_branches(hook: BasicHook) -> BasicHook:
    """Return `GammaRule` in place of a rule that does the same, as zennit's `Gamma` does; any other rule as it is."""
    if len(hook.input_modifiers) != _GAMMA_BRANCHES:
        return hook
    with torch.enable_grad(), torch._C.DisableTorchFunction():  # a forward pass may be under way, whose modes see calls
        return _as_gamma(hook) or hook


@lru_cache(maxsize=16)
def _as_gamma(hook: BasicHook) -> GammaRule | None:
    """Read gamma and epsilon by running parts of a rule, and compare the whole rule on small layers."""
    try:
        unit = _layer(torch.ones(1, 1, device="cpu"))
        with ParamMod.ensure(hook.param_modifiers[0])(unit) as modified:
            gamma = modified.weight.detach().item() - 1
        outputs = [*torch.tensor([[0.0]] * 4 + [[1.0]], dtype=torch.float64, device="cpu")]
        found = GammaRule(gamma, 1 / mapped(hook, outputs[4], outputs)[0].item())
        generator = torch.Generator().manual_seed(0)
        values = torch.randn(3, 64, 8, generator=generator, dtype=torch.float64, device="cpu")
        for scale in (1, 1e-6):  # of outputs, beside the stabiliser
            layer, data = _layer(values[0], values[1, :, 0] * scale), values[2] * scale
            relevance = values[1].new_ones(64, 64)
            if not torch.allclose(*(_relevance(rule, layer, data, relevance) for rule in (hook, found)), rtol=1e-9):
                return None
    except (RuntimeError, TypeError, ValueError, IndexError):
        return None
    return found


def _layer(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    layer = nn.Linear(*reversed(weight.shape), bias=bias is not None, device="cpu", dtype=torch.float64)
    layer.weight.data = weight.double()
    if bias is not None:
        layer.bias.data = bias
    return layer


def _relevance(hook: BasicHook, layer: nn.Linear, data: Tensor, relevance: Tensor) -> Tensor:
    """Compute the relevance of a layer's input, as `BasicHook.backward` does."""
    inputs, outputs = [], []
    modifiers = zip(hook.input_modifiers, hook.param_modifiers, hook.output_modifiers, strict=True)
    for of_input, of_parameters, of_output in modifiers:
        inputs.append(of_input(data.clone()).requires_grad_())
        with ParamMod.ensure(of_parameters)(layer) as modified:
            outputs.append(of_output(modified(inputs[-1])))
    return hook.reducer(inputs, torch.autograd.grad(outputs, inputs, mapped(hook, relevance, outputs))).detach()


class ZPlusOrMinus(BasicHook):
    r"""z+ at positive outputs and its mirror image, by negative contributions, at negative ones.

    The limit of the generalised gamma rule for a large gamma (Andéol et al., "Learning domain invariant
    representations by joint Wasserstein distance minimization", 2021). Where a ReLU follows, relevance is zero at
    negative outputs, and the rule is z+. Elsewhere z+ would divide the relevance of a negative output by the sum of its
    positive contributions, which may be as small as zero where a unit has few inputs.

    Parameters
    ----------
    zero_params
        Names of parameters that are left out of the denominators.
    """

    def __init__(self, zero_params: str | None = None) -> None:
        kept, without_bias = dict(zero_params=zero_params), dict(zero_params=zero_bias(zero_params))
        stabilized = Stabilizer.ensure(1e-6)

        def mapper(relevance: Tensor, outputs: Sequence[Tensor]) -> list[Tensor]:
            positive, negative = outputs[0] + outputs[1], outputs[2] + outputs[3]
            up = relevance * (outputs[4] >= 0) / stabilized(positive)
            down = relevance * (outputs[4] < 0) / stabilized(negative)
            return [up, up, down, down, torch.zeros_like(relevance)]

        super().__init__(
            input_modifiers=[_positive, _negative, _positive, _negative, _same],
            param_modifiers=[
                ClampMod(min=0.0, **kept),
                ClampMod(max=0.0, **without_bias),
                ClampMod(max=0.0, **kept),
                ClampMod(min=0.0, **without_bias),
                NoMod(),
            ],
            output_modifiers=[_same] * 5,
            gradient_mapper=mapper,
            reducer=lambda inputs, gradients: sum(
                values * gradient for values, gradient in zip(inputs[:4], gradients[:4], strict=True)
            ),
        )


def _positive(values: Tensor) -> Tensor:
    return values.clamp(min=0)


def _negative(values: Tensor) -> Tensor:
    return values.clamp(max=0)


def _same(values: Tensor) -> Tensor:
    return values
