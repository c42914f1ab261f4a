"""How much of each direction an activation holds: encoders of `Directions`.

Axes: `C` channels, `n` directions. An encoder is a function of activations `[..., C]` and directions `[n, C]` that
returns coefficients `[..., n]`. If it has a method `prepared`, that does once what depends on the directions alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from crp.errors import InputError

# The steps of `NonNegative` that end it, relative to the largest coefficient.
_SMALLEST_STEP = {torch.float32: 1e-6, torch.float64: 1e-13}


@dataclass(frozen=True)
class LeastSquares:
    """Coefficients whose sum of directions is nearest to the activation; of several, the shortest ones.

    For orthonormal directions these are the projections.
    """

    def __call__(self, activation: Tensor, directions: Tensor) -> Tensor:
        """Return coefficients `[..., n]`."""
        return self.prepared(directions.to(activation))(activation)

    def prepared(self, directions: Tensor) -> Callable[[Tensor], Tensor]:
        """Invert the directions; return the function of activations alone."""
        inverse = torch.linalg.pinv(directions.double()).to(directions)
        return lambda activation: activation @ inverse


@dataclass(frozen=True)
class NonNegative:
    """Non-negative coefficients whose sum of directions is nearest to the activation, as in NMF.

    They are found by accelerated projected gradients (Beck and Teboulle 2009, "A fast iterative shrinkage-thresholding
    algorithm"), which start anew for each activation whose steps turn back (O'Donoghue and Candès 2015, "Adaptive
    restart for accelerated gradient schemes"). They end when no step changes a coefficient by more than 1e-6 of the
    largest one of its activation (1e-13 in float64). The sum of directions is then as near as can be, to 1e-9 of its
    distance. Coefficients are off by up to 1e-4 of the largest one (1e-10 in float64), and those of directions that are
    nearly the same, of which there are several sums of nearly one distance, by up to 1e-3 (1e-5).

    Attributes
    ----------
    steps
        Largest number of steps.
    """

    steps: int = 2000

    def __call__(self, activation: Tensor, directions: Tensor) -> Tensor:
        """Return coefficients `[..., n]`."""
        return self.prepared(directions.to(activation))(activation)

    def prepared(self, directions: Tensor) -> Callable[[Tensor], Tensor]:
        """Find the length of a step; return the function of activations alone."""
        directions = directions.to(torch.promote_types(directions.dtype, torch.float32))  # steps are below bfloat16's
        squares = directions @ directions.T
        steepest = float(torch.linalg.eigvalsh(squares.double())[-1])
        return lambda values: self._found(values.to(directions) @ directions.T, squares, steepest).to(values)

    def _found(self, products: Tensor, squares: Tensor, steepest: float) -> Tensor:
        found = ahead = torch.zeros_like(products)
        momentum = torch.ones_like(products[..., :1])
        smallest = _SMALLEST_STEP[products.dtype]
        for _ in range(self.steps if steepest > 0 else 0):
            new = (ahead - (ahead @ squares - products) / steepest).clamp(min=0)
            step = new - ahead
            if bool((step.abs().amax(-1) <= smallest * new.amax(-1)).all()):
                return new
            turns = (step * (new - found)).sum(-1, keepdim=True) < 0
            faster = torch.where(turns, 1, (1 + (1 + 4 * momentum**2).sqrt()) / 2)
            ahead = new + torch.where(turns, 0, (momentum - 1) / faster) * (new - found)
            found, momentum = new, faster
        return found


@dataclass(frozen=True, eq=False)
class SparseAutoencoder:
    """The encoder of a sparse autoencoder: `relu((a - shift) weight + bias)`, of which the largest `k` count.

    Attributes
    ----------
    weight
        `[C, n]`.
    bias
        `[n]`.
    shift
        What is subtracted from the activation first (the decoder's bias), `[C]`. It belongs to the rest.
    k
        How many latents of each position count (TopK SAE: Gao et al. 2024, "Scaling and evaluating sparse
        autoencoders"); None for all.
    """

    weight: Tensor
    bias: Tensor
    shift: Tensor
    k: int | None = None

    def __post_init__(self) -> None:
        """Check the shapes."""
        shapes = self.shift.shape + self.bias.shape
        if self.weight.shape != shapes or self.shift.ndim != 1:
            raise InputError(
                f"An encoder has weight [C, n], bias [n] and shift [C], given {list(self.weight.shape)}, "
                f"{list(self.bias.shape)} and {list(self.shift.shape)}."
            )
        if self.k is not None and not 0 < self.k <= len(self.bias):
            raise InputError(f"k is {self.k}; it must be between 1 and the number of latents, {len(self.bias)}.")

    def __call__(self, activation: Tensor, directions: Tensor) -> Tensor:
        """Return coefficients `[..., n]`."""
        weight, bias, shift = (value.to(activation) for value in (self.weight, self.bias, self.shift))
        found = torch.nn.functional.relu((activation - shift) @ weight + bias)
        if self.k is None:
            return found
        largest, latents = found.topk(self.k, dim=-1)
        return torch.zeros_like(found).scatter(-1, latents, largest)
