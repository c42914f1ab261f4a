"""Samples with and without a concept as the input of a layer, from which on a model is trained: `UpperSamples`.

What the layers below compute does not change, so it is computed once. Where the layer lies above the concept's, the
concept is exchanged at its own layer, and what is kept is what that becomes. Otherwise it is exchanged at the input of
the layer that is trained, at the positions over those of the concept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from crp.attribution.named_layers import SUFFIX
from crp.correction.counterfactuals import NAMES, Counterfactuals
from crp.correction.presence import Presence, observed_layers
from crp.correction.reruns import BATCH, Rerun
from crp.errors import InputError
from crp.layout import Layout
from crp.progress import in_batches

_POOLS = (functional.adaptive_max_pool1d, functional.adaptive_max_pool2d, functional.adaptive_max_pool3d)


@dataclass(frozen=True, eq=False)
class UpperSamples:
    """Samples as they are, with a concept taken out, and with it put in.

    Attributes
    ----------
    module, layer, layout
        The module, and its input as a layer, with that layer's layout.
    stored
        What is computed below, `[M', *shape]`.
    first, second, region
        For each sample, which row of `stored` it is and with which one it exchanges positions, int64 `[M]`; and at
        which positions, bool `[M, P]`.
    samples
        Row of each in the data, int64 `[M]`.
    kind
        Which of `NAMES` each is, int64 `[M]`.
    lacking
        Which are samples as they are that do not have the concept, bool `[M]`.
    """

    module: str
    layer: str
    layout: Layout
    stored: Tensor
    first: Tensor
    second: Tensor
    region: Tensor
    samples: Tensor
    kind: Tensor
    lacking: Tensor

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.samples)

    def taken(self, picked: Tensor) -> Tensor:
        """Return some samples, `[n, *shape]`."""
        own, other = (self.layout.split(self.stored[rows[picked]]) for rows in (self.first, self.second))
        return self.layout.joined(torch.where(self.region[picked][:, None].to(own.device), other, own))

    @property
    def taken_out(self) -> Tensor:
        """Which had the concept, bool `[M]`."""
        return self.kind == NAMES.index("taken out")

    @property
    def group(self) -> Tensor:
        """Which of `NAMES` each is, those as they are divided by whether they lack the concept, int64 `[M]`."""
        return torch.where(self.lacking, len(NAMES), self.kind)


def exchanged_at(
    model: nn.Module, data: Tensor, presence: Presence, module: str, seed: int, *, progress: bool
) -> UpperSamples:
    """Compute what a module is given for samples with and without a concept.

    Parameters
    ----------
    model, data
        As in `refit`.
    presence
        Where the concept is in them.
    module
        Name of the module.
    seed
        Of the choice of exchanged samples.
    progress
        Whether to show progress bars.

    Raises
    ------
    InputError
        If there is no such module, or the positions of its input are not those of the concept's layer in another size.
    """
    layer = f"{module}{SUFFIX}"
    _, layout = observed_layers(model, data, [layer])[layer]
    if _lies_above(model, data, layer, presence.layer):
        made = Counterfactuals(model, data, presence, seed)
        runs = made.run(end=layer, progress=progress)
        stored, rows = torch.cat([one.outputs for one in runs]), [one.samples for one in runs]
        first = second = torch.arange(len(stored))
        region = torch.zeros(len(stored), layout.positions, dtype=torch.bool)
    else:
        near = _over(presence, layout, layer)
        made = Counterfactuals(model, data, replace(presence, layer=layer, layout=layout, near=near), seed)
        plans = [made.plan(name) for name in NAMES]
        stored = _computed(model, data, layer, progress)
        first, second, region = (torch.cat(values).cpu() for values in zip(*plans, strict=True))
        rows = [plan[0] for plan in plans]
    samples, kind = torch.cat(rows), torch.repeat_interleave(torch.tensor([len(one) for one in rows]))
    lacking = torch.isin(samples, made.lacking) & (kind == NAMES.index("as they are"))
    return UpperSamples(module, layer, layout, stored, first, second, region, samples, kind, lacking)


def _computed(model: nn.Module, data: Tensor, layer: str, progress: bool) -> Tensor:
    rerun, found = Rerun(model, layer), []
    for _, batch in in_batches(data, BATCH, "computing what lies below", shown=progress):
        rerun.run(batch)
        found.append(rerun.activation)
    return torch.cat(found)


def _lies_above(model: nn.Module, data: Tensor, layer: str, other: str) -> bool:
    """Whether a layer is computed after another one."""
    order: list[str] = []
    changes = {name: lambda _, name=name: order.append(name) for name in (layer, other)}
    Rerun(model, layer, changes).run(data[:2])
    return order[0] == other != layer


def _over(presence: Presence, layout: Layout, layer: str) -> Tensor:
    """Return the positions of a layout that lie over those around the concept, bool `[N, P]`."""
    if presence.layout.grid and len(layout.grid) == len(presence.layout.grid):
        grid = presence.near[:, presence.layout.prefix :].float().unflatten(1, (1, *presence.layout.grid))
        over = _POOLS[len(layout.grid) - 1](grid, layout.grid).flatten(1) > 0
        return functional.pad(over, (layout.prefix, 0))
    if presence.layout.positions == layout.positions:
        return presence.near
    raise InputError(
        f"The concept cannot be exchanged at the input of '{layer.removesuffix(SUFFIX)}' {list(layout.shape)}: its "
        f"positions are not those of '{presence.layer}' {list(presence.layout.shape)}. Name a layer above the latter."
    )
