"""Activations of a layer over samples: their means with and without a concept, and the module that follows a layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crp.attribution.copies import replicate
from crp.attribution.named_layers import SUFFIX
from crp.correction.presence import Presence
from crp.correction.reruns import BATCH, Rerun
from crp.errors import InputError
from crp.layout import Layout
from crp.progress import in_batches

# Activation modules that are 0 where their input is 0, and act on each value alone.
_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Hardswish, nn.Mish, nn.ELU)
# Positions without a concept that are kept, evenly spaced.
_MOST = 20000


def gathered(
    model: nn.Module, data: Tensor, layer: str, layout: Layout, presence: Presence | None = None, *, progress: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Gather the channels of a layer at its positions.

    Parameters
    ----------
    model, data, layer, layout
        As in `find_presence`.
    presence
        Where a concept is active, at a layer of the same positions; None for nowhere.
    progress
        Whether to show a progress bar.

    Returns
    -------
    tuple of three Tensors
        The mean over positions that are not near the concept, `[C]`; the channels at positions where it is active; and
        at up to 20000 of the others, `[M, C]`. All float64, on the CPU.
    """
    rerun, total, count = Rerun(model, layer), torch.zeros(layout.channels, dtype=torch.float64), 0
    with_it, without_it = [], []
    most = max(1, _MOST // len(data))
    for rows, batch in in_batches(data, BATCH, "reading activations", shown=progress):
        rerun.run(batch)
        channels = layout.split(rerun.activation).movedim(1, -1).double().cpu()  # [N, P, C]
        near = active = torch.zeros(channels.shape[:2], dtype=torch.bool)
        if presence is not None:
            near, active = presence.near[rows].cpu(), presence.active[rows].cpu()
        elsewhere = channels[~near]
        total += elsewhere.sum(0)
        count += len(elsewhere)
        with_it.append(channels[active])
        without_it.append(elsewhere[:: max(1, len(elsewhere) // (most * len(batch)))])
    if not count:
        raise InputError(f"The concept is active everywhere in all {len(data)} samples: nothing can be compared.")
    return total / count, torch.cat(with_it), torch.cat(without_it)


def activation_after(model: nn.Module, example: Tensor, layer: str) -> str:
    """Return the name of the activation module that reads a layer, or the layer's own name if there is none."""
    if layer.endswith(SUFFIX):
        return layer
    copy = replicate(model)
    modules = dict(copy.named_modules())
    made: list[Tensor] = []
    readers: list[str] = []

    def watch(name: str, module: nn.Module, given: tuple[Tensor, ...]) -> None:
        if made and given and given[0] is made[0] and not list(module.children()):
            readers.append(name)

    modules[layer].register_forward_hook(lambda _, given, output: made.append(output))
    for name, module in modules.items():
        module.register_forward_pre_hook(lambda module, given, name=name: watch(name, module, given))
    with torch.no_grad():
        copy(example)
    return readers[0] if len(readers) == 1 and type(modules[readers[0]]) in _ACTIVATIONS else layer
