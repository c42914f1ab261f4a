"""A forward pass of a model as it is, without rules; also with products rounded as tensor cores round them."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

from crp.attribution.final_activation import LINEAR_OPERATIONS, FinalActivation
from crp.attribution.isolation import callers_default
from crp.attribution.observation import REFUSALS, cannot_run
from crp.attribution.repeatability import check_same_output, random_states
from crp.errors import CrpError

_PRODUCTS = {*LINEAR_OPERATIONS, functional.scaled_dot_product_attention, torch.baddbmm, torch.addmm}
# Significant bits of TF32. bfloat16, which has 8, is rounded to 7: machines differ in the last one.
_TF32 = 11


def plain_prediction(model: nn.Module, data: Tensor, *, coarse: bool = False) -> Any:
    """Run a copy of a model, made by `replicate`: its output without a final softmax, log-softmax or sigmoid.

    Parameters
    ----------
    model
        The copy.
    data
        Its input, `[N, ...]`.
    coarse
        Whether the operands of linear operations are rounded as tensor cores round them: to 11 significant bits, and
        those of bfloat16 to 7.

    Returns
    -------
    object
        A detached tensor `[N, ...]`, unless the model returns something else.

    Raises
    ------
    ModelError
        If the model cannot run on the data, its output depends on random numbers that it draws, or is computed from a
        softmax in a way that cannot be undone.
    """
    drawn = random_states(data.device)
    output, ended = _run(model, data, coarse, graph=False)
    if random_states(data.device) != drawn and isinstance(output, Tensor):
        check_same_output(output, _run(model, data, coarse, graph=False)[0])
    if ended:
        output, _ = _run(model, data, coarse, graph=True)
    return output.detach() if isinstance(output, Tensor) else output


def _run(model: nn.Module, data: Tensor, coarse: bool, *, graph: bool) -> tuple[Any, bool]:
    """Run the copy; also return whether it may end in an activation that is only seen in autograd's graph."""
    rounding = _CoarseProducts() if coarse else nullcontext()
    with torch.set_grad_enabled(graph), callers_default(data.device), FinalActivation(model) as final, rounding:
        try:
            # cloned twice: a model may start with an in-place operation, which a leaf of the graph refuses
            output = model(data.detach().clone().requires_grad_(graph).clone())
        except CrpError:
            raise
        except REFUSALS as error:
            raise cannot_run(data, error) from error
    before = final.removed(output).output
    return before, before is output and final.ends(output)


class _CoarseProducts(TorchFunctionMode):
    """Rounds the operands of linear operations."""

    def __torch_function__(
        self, function: Callable, types: Collection[type], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run a function on rounded tensors, if it is one of these."""
        if function in _PRODUCTS:
            args, kwargs = tree_map_only(Tensor, _rounded, (args, kwargs))
        return function(*args, **(kwargs or {}))


def _rounded(tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    own = 1 - math.log2(torch.finfo(tensor.dtype).eps)
    scaled = tensor * (2 ** (own - min(_TF32, own - 1)) + 1)
    return scaled - (scaled - tensor)  # Veltkamp's splitting (Dekker, "A floating-point technique ...", 1971)
