"""What a zennit rule is made of, found by trying its parts on numbers: nothing is read from its closures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from zennit.core import BasicHook


@dataclass(frozen=True)
class InputFactor:
    """How a rule weighs a branch at the module's input: `scale * input` if `by_input`, else `scale`."""

    scale: float
    by_input: bool


def probe(hook: BasicHook) -> list[InputFactor] | None:
    """Find whether a rule is linear branch by branch, and its input factors.

    Parameters
    ----------
    hook
        A zennit rule built of modifiers, gradient mapper and reducer.

    Returns
    -------
    list of InputFactor or None
        One for each branch; None if the rule is not of the form in the docstring of `operators.py`.
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
                if torch.allclose(factor, scale * reference):
                    found.append(InputFactor(scale, by_input))
                    break
            else:
                return None
        everything = hook.reducer(inputs, [relevance] * count)
    except (RuntimeError, TypeError, ValueError, IndexError):
        # the rule expects shapes of its own module; zennit's hook will run it there
        return None
    parts = sum(
        factor.scale * (value if factor.by_input else 1.0) * relevance
        for factor, value in zip(found, inputs, strict=True)
    )
    return found if torch.allclose(everything, parts) else None


def side_kept(modify: Callable[[Tensor], Tensor]) -> str | None:
    """Which values a rule's input modifier keeps as they are, with zeros for the others.

    Returns
    -------
    str or None
        `"all"`, `"positive"` or `"negative"`; None for a modifier that does anything else.
    """
    values = _both_signs()
    try:
        modified = modify(values)
    except (RuntimeError, TypeError, ValueError, IndexError):
        return None
    for side, kept in (("all", values), ("positive", values.clamp(min=0)), ("negative", values.clamp(max=0))):
        if torch.equal(modified, kept):
            return side
    return None


def stabilizer(hook: BasicHook) -> float | None:
    """The epsilon of a rule that divides relevance by the sum of its branches' outputs, moved away from zero by it.

    Returns
    -------
    float or None
        None for a rule whose output factor is anything else than `1 / (z + epsilon * sign(z))`, with 1 as the sign of
        zero, the same for all branches.
    """
    values = _both_signs().view(1, -1, 1, 1)
    count = len(hook.input_modifiers)
    # unequal parts of a sum
    weights = [2.0**-branch for branch in range(1, count)] + [2.0 ** (1 - count)]
    epsilon = None
    # of two sizes, for an epsilon may be relative to the values
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
    """Numbers of all sizes and both signs, and 0, float64."""
    sizes = 10.0 ** torch.arange(-30, 31, dtype=torch.float64)
    return torch.cat([-sizes, sizes.new_zeros(1), sizes])


def mapped(hook: BasicHook, relevance: Tensor, outputs: list[Tensor]) -> Sequence[Tensor]:
    """The rule's gradient mapper; a rule of one branch may give a bare tensor."""
    mapped = hook.gradient_mapper(relevance, outputs)
    return (mapped,) if isinstance(mapped, Tensor) else mapped
