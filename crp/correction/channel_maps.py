"""An affine map of a layer's channels, written into the weights of a module or put after it.

At every position, `a -> M a + s`. Removing a concept whose part is a linear function of the channels (a channel, a
head, a direction) is such a map. Where a linear module makes the layer, it is the same module with other
weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from crp.concepts import ConceptKind
from crp.errors import InputError
from crp.layout import Layout

_CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.LayerNorm, nn.GroupNorm)
# Rounding allowed when a kind of concept is compared with the linear map that it should be.
_ROUNDING = 1e-4


@dataclass(frozen=True, eq=False)
class ChannelMap:
    """What happens to the channels of a layer at every position: `a -> matrix a + shift`.

    Attributes
    ----------
    matrix
        `[C, C]`, float64.
    shift
        `[C]`, float64.
    """

    matrix: Tensor
    shift: Tensor

    @property
    def diagonal(self) -> bool:
        """Whether each channel depends on itself alone."""
        return not bool((self.matrix - torch.diag(self.matrix.diagonal())).any())

    def module(self, layout: Layout, like: Tensor) -> nn.Module:
        """Make a module of torch that computes the map for a layer's output `[N, *shape]`.

        It is a convolution with kernels of one position where channels come first, and otherwise a linear layer.
        """
        channels, space = layout.channels, layout.space
        if layout.last or not space:
            module, shape = nn.Linear(channels, channels), (channels, channels)
        elif len(space) in _CONVOLUTIONS:
            module, shape = _CONVOLUTIONS[len(space)](channels, channels, 1), (channels, channels, *[1] * len(space))
        else:
            raise InputError(f"A layer of shape {list(layout.shape)} has {len(space)} axes of positions; at most 3.")
        module = module.to(like).eval().requires_grad_(False)
        module.weight.copy_(self.matrix.reshape(shape))
        module.bias.copy_(self.shift)
        return module

    def written_after(self, module: nn.Module) -> bool:
        """Change a module's weights so that its output is the map of what it was; return False if they cannot."""
        kind = type(module)
        if kind in (nn.Linear, *_CONVOLUTIONS.values()):
            if getattr(module, "groups", 1) > 1 and not self.diagonal:
                return False
            weight = self._times(module.weight)
        elif kind in _NORMS and module.weight is not None and self.diagonal:
            if kind is nn.LayerNorm and len(module.normalized_shape) > 1:
                return False
            weight = self.matrix.diagonal().to(module.weight.device) * module.weight.double()
        else:
            return False
        shift = self.shift.to(module.weight.device)
        return _put(module, weight, shift if module.bias is None else self._times(module.bias) + shift)

    def written_before(self, module: nn.Module) -> bool:
        """Change a linear layer's weights so that it reads the map of its input; return False if they cannot."""
        if type(module) is not nn.Linear:
            return False
        device = module.weight.device
        weight = module.weight.double()
        added = weight @ self.shift.to(device)
        bias = added if module.bias is None else module.bias.double() + added
        return _put(module, weight @ self.matrix.to(device), bias)

    def _times(self, values: Tensor) -> Tensor:
        """Map the first axis, `[C, ...]`."""
        matrix = self.matrix.to(values.device)
        if self.diagonal:  # exact: a channel that stays is not multiplied by a row of zeros and a one
            return matrix.diagonal().reshape(-1, *[1] * (values.ndim - 1)) * values.double()
        return torch.tensordot(matrix, values.double(), 1)


def _put(module: nn.Module, weight: Tensor, bias: Tensor) -> bool:
    if module.bias is None and bool(bias.any()):
        return False  # a bias would be a new entry of the state dict
    with torch.no_grad():
        module.weight.copy_(weight)
        if module.bias is not None:
            module.bias.copy_(bias)
    return True


def part_matrix(kind: ConceptKind, ids: Sequence[int], layout: Layout, activation: Tensor) -> Tensor:
    """Return the matrix whose product with the channels at a position is the sum of some concepts' parts, `[C, C]`.

    Parameters
    ----------
    kind
        The kind of concept.
    ids
        Which concepts.
    layout
        The layer's layout.
    activation
        Outputs of the layer, `[N, *shape]`, on which the matrix is checked.

    Raises
    ------
    InputError
        If the parts are no linear function of the channels that is the same at every position.
    """
    single = Layout((layout.channels,))
    found = _attempted(lambda: kind.parts(torch.eye(layout.channels).double(), ids, single).sum(0).T)
    parts = layout.split(kind.parts(activation, ids, layout).sum(0)).double().cpu()
    if found is None or not _near(torch.matmul(found, layout.split(activation).double().cpu()), parts):
        raise InputError(
            f"The parts of {type(kind).__name__} are no linear function of the channels, the same at every "
            "position, so weights cannot take them out: use channels, heads, or directions with the encoder "
            "LeastSquares."
        )
    return found


def _attempted(compute: Callable[[], Tensor]) -> Tensor | None:
    """Compute with a layer of one position; None for a kind that cannot have one."""
    try:
        return compute()
    except (InputError, RuntimeError, IndexError):
        return None


def _near(found: Tensor, expected: Tensor) -> bool:
    return bool((found - expected).abs().max() <= _ROUNDING * max(float(expected.abs().max()), 1e-6))
