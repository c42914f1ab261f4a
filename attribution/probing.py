"""What a zennit rule computes, found by running its parts on numbers; its closures are not read."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from zennit.core import BasicHook


@dataclass(frozen=True)
class InputFactor:
    """The factor of a branch at the module's input: `scale * input` if `by_input`, else `scale`."""

    scale: float
    by_input: bool


def probe(hook: BasicHook) -> list[InputFactor] | None:
    """Test whether a rule is linear branch by branch, and find its input factors.

    Parameters
    ----------
    hook
        A zennit rule, built of modifiers, a gradient mapper and a reducer.

    Returns
    -------
    list of InputFactor or None
        One per branch; None if the rule does not have the form given in the docstring of `rule_operator.py`.
    """
    generator = torch.Generator().manual_seed(0)

    def sample() -> Tensor:
        return torch.randn(2, 3, 2, 2, generator=generator, dtype=torch.float64)

    count = len(hook.input_modifiers)
    outputs = [sample() for _ in range(count)]
    inputs = [sample() for _ in range(count)]
    relevance, zero = sample(), torch.zeros(2, 3, 2, 2, dtype=torch.float64)
    try:
        parts = mapped(hook, relevance, outputs)
        factors = mapped(hook, torch.ones_like(relevance), outputs)
        if not all(torch.allclose(left, relevance * right) for left, right in zip(parts, factors, strict=True)):
            return None
        found = []
        for branch in range(count):
            gradients = [relevance if index == branch else zero for index in range(count)]
            factor = hook.reducer(inputs, gradients) / relevance
            for by_input, reference in ((True, inputs[branch]), (False, torch.ones_like(relevance))):
                scale = float((factor / reference).flatten()[0])
                # a scale of 1 up to rounding would cost a product
                scale = float(round(scale)) if math.isclose(scale, round(scale), abs_tol=1e-12) else scale
                if torch.allclose(factor, scale * reference):
                    found.append(InputFactor(scale, by_input))
                    break
            else:
                return None
        everything = hook.reducer(inputs, [relevance] * count)
    except (RuntimeError, TypeError, ValueError, IndexError):
        # the rule needs the shapes of its own module; it will run as zennit's hook
        return None
    parts = sum(
        factor.scale * (value if factor.by_input else 1.0) * relevance
        for factor, value in zip(found, inputs, strict=True)
    )
    return found if torch.allclose(everything, parts) else None


def sign_kept(modify: Callable[[Tensor], Tensor]) -> str | None:
    """Find which values a rule's modifier keeps, if it replaces the others by zero or by their magnitude.

    Returns
    -------
    str or None
        `"all"`, `"positive"` or `"negative"`; `"magnitude"` for the absolute value; None for any other modifier.
    """
    values = _both_signs()
    try:
        modified = modify(values)
    except (RuntimeError, TypeError, ValueError, IndexError):
        return None
    for sign, kept in (
        ("all", values), ("positive", values.clamp(min=0)), ("negative", values.clamp(max=0)),
        ("magnitude", values.abs()),
    ):
        if torch.equal(modified, kept):
            return sign
    return None


def stabilizer(hook: BasicHook) -> float | None:
    """Find the epsilon of a rule that divides relevance by the stabilised sum of its branches' outputs.

    Returns
    -------
    float or None
        None if the output factor of any branch is not `1 / (z + epsilon * sign(z))`, where the sign of zero is 1.
    """
    values = _both_signs().view(1, -1, 1, 1)
    count = len(hook.input_modifiers)
    # unequal parts of a sum
    weights = [2.0**-branch for branch in range(1, count)] + [2.0 ** (1 - count)]
    epsilon = None
    # at two scales, because an epsilon may be relative to the values
    for total in (values, 3 * values):
        try:
            factors = mapped(hook, torch.ones_like(total), [total * weight for weight in weights])
        except (RuntimeError, TypeError, ValueError, IndexError):
            return None
        if epsilon is None:
            epsilon = float(1 / factors[0][values == 0])
        expected = 1 / (total + torch.copysign(torch.full_like(total, epsilon), total))
        if not all(torch.allclose(factor, expected, rtol=1e-12, atol=0) for factor in factors):
            return None
    return epsilon


def _both_signs() -> Tensor:
    """Make numbers of all magnitudes and both signs, and 0, float64."""
    sizes = 10.0 ** torch.arange(-30, 31, dtype=torch.float64)
    return torch.cat([-sizes, sizes.new_zeros(1), sizes])


def mapped(hook: BasicHook, relevance: Tensor, outputs: list[Tensor]) -> Sequence[Tensor]:
    """Run the rule's gradient mapper; a rule with one branch may return a bare tensor."""
    result = hook.gradient_mapper(relevance, outputs)
    return (result,) if isinstance(result, Tensor) else result
