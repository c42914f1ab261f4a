"""Filters taken out of a model by how little its predictions rely on them: `prune` (Yeom et al. 2021)."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from crp.attribution import RelevanceFlow, composite_for, prepare
from crp.concepts import ChannelConcept, Parts
from crp.correction.channel_maps import ChannelMap
from crp.correction.corrections import Correction, all_mapped, copied
from crp.correction.presence import observed_layers
from crp.correction.reruns import BATCH, checked_samples
from crp.errors import InputError, listed
from crp.layout import Layout
from crp.progress import in_batches, progress_bar

_CHANNELS = ChannelConcept()
# Shares of the filters after which accuracy is measured.
SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def relevance_scores(
    model: nn.Module,
    data: Tensor,
    layers: Sequence[str],
    *,
    labels: Tensor | None = None,
    progress: bool = True,
) -> dict[str, np.ndarray]:
    r"""Return how much predictions rely on each channel of some layers.

    .. math:: \sqrt{\textstyle\frac{1}{N} \sum_n R_{nc}^2}

    :math:`R_{nc}` is the relevance of the channel for the class of sample n, summed over positions, by the rules that
    rank concepts. Yeom et al. average relevance, which their rules make positive; here channels that speak against a
    class count as those that speak for it, because the model relies on both.

    Parameters
    ----------
    model
        The model; it is not changed.
    data
        Samples `[N, c, *S]`.
    layers
        Names of layers.
    labels
        The class that is explained of each sample, int64 `[N]`; None for the one that is predicted.
    progress
        Whether to show a progress bar.

    Returns
    -------
    dict of str to numpy.ndarray
        By layer, float64 `[C]`.
    """
    checked_samples(data, labels)
    replica = prepare(model, composite_for(model, data[:1]).composite)
    squares: dict[str, Tensor] = {}
    for rows, batch in in_batches(data, BATCH, "scoring filters", shown=progress):
        with RelevanceFlow(replica, None, batch, list(layers), to_input=False) as flow:
            targets = flow.prediction.argmax(1) if labels is None else labels[rows]
            parts = {layer: flow.parts(layer, _CHANNELS) for layer in layers}

            def visit(layer: str, arriving: Tensor, parts: Mapping[str, Parts] = parts) -> None:
                found = parts[layer].total(arriving.double()).square().sum(0)
                squares[layer] = squares.get(layer, 0) + found

            flow.sweep(flow.output_relevance(targets), list(layers), visit)
    return {layer: (squares[layer] / len(data)).sqrt().cpu().numpy() for layer in layers}


def prune(model: nn.Module, data: Tensor, scores: Mapping[str, np.ndarray], share: float) -> Correction:
    """Take the filters with the smallest scores out of a model: their outputs become zero.

    Filters of all layers are compared with one another, as in Yeom et al. 2021 ("Pruning by explaining"). The best
    filter of each layer stays. Where a layer is the output of a convolution, a linear layer or a norm, the weights of
    the filter become zero; elsewhere a module of torch is added after the layer. Shapes of weights do not change.

    Parameters
    ----------
    model
        The model; it is not changed.
    data
        Two samples `[N, c, *S]` or more, on which the result is checked.
    scores
        By layer, a score of each of its channels, `[C]`: `relevance_scores`, or any other. Where explanations merge a
        batch norm into a layer, its channels are those of the norm, and are taken out there.
    share
        Of the filters, which are taken out, 0 to 1.

    Raises
    ------
    InputError
        If scores do not fit the layers, or the share is not between 0 and 1.
    ModelError
        If the model cannot be changed at a layer.
    """
    checked_samples(data)
    removed = filters_removed(scores, share)
    return _pruned(model, data, scores, removed, _layouts(model, data, scores))


def _pruned(
    model: nn.Module,
    data: Tensor,
    scores: Mapping[str, np.ndarray],
    removed: Mapping[str, np.ndarray],
    layouts: Mapping[str, tuple[str, Layout]],
) -> Correction:
    maps = {}
    for layer, filters in removed.items():
        own, layout = layouts[layer]
        if layout.channels != len(scores[layer]):
            raise InputError(f"Layer '{layer}' has {layout.channels} channels and {len(scores[layer])} scores.")
        kept = torch.ones(layout.channels, dtype=torch.float64)
        kept[torch.from_numpy(filters)] = 0
        maps[own] = layout, ChannelMap(torch.diag(kept), torch.zeros_like(kept))
    count, all_of_them = sum(map(len, removed.values())), sum(map(len, scores.values()))
    return all_mapped(model, data, maps, f"{count} of {all_of_them} filters taken out")


def _layouts(model: nn.Module, data: Tensor, layers: Collection[str]) -> dict[str, tuple[str, Layout]]:
    found = observed_layers(model, data, layers)
    names = [own for own, _ in found.values()]
    if twice := [layer for layer, (own, _) in found.items() if names.count(own) > 1]:
        raise InputError(f"The layers {listed(twice)} have the same channels: score one of them.")
    return found


def filters_removed(scores: Mapping[str, np.ndarray], share: float) -> dict[str, np.ndarray]:
    """Choose the filters with the smallest scores, of equal ones the first; the best of each layer stays.

    Returns
    -------
    dict of str to numpy.ndarray
        By layer, their ids in ascending order, int64.

    Raises
    ------
    InputError
        If there are no scores, a score is not finite, or the share is not between 0 and 1.

    Examples
    --------
    >>> filters_removed({"a": np.array([3.0, 1.0]), "b": np.array([0.5, 0.1, 2.0])}, 0.6)
    {'a': array([1]), 'b': array([0, 1])}
    """
    if not scores or not all(len(values) and np.isfinite(values).all() for values in scores.values()):
        raise InputError("Filters are chosen by finite scores, one for each channel of at least one layer.")
    if not 0 <= share <= 1:
        raise InputError(f"The share of filters that are taken out is between 0 and 1, given {share}.")
    best = {layer: int(np.argmax(values)) for layer, values in scores.items()}
    rows = [
        (float(value), place, layer, index)
        for place, (layer, values) in enumerate(scores.items())
        for index, value in enumerate(values)
    ]
    wanted = math.floor(share * len(rows) + 1e-9)
    chosen = [(layer, index) for _, _, layer, index in sorted(rows) if index != best[layer]][:wanted]
    return {
        layer: np.array(sorted(index for other, index in chosen if other == layer), dtype=np.int64) for layer in scores
    }


def pruning_curve(
    model: nn.Module,
    data: Tensor,
    scores: Mapping[str, np.ndarray],
    *,
    labels: Tensor | None = None,
    shares: Sequence[float] = SHARES,
    progress: bool = True,
) -> list[tuple[float, float]]:
    """Measure the accuracy after taking out more and more filters.

    Parameters
    ----------
    model, data, scores
        As in `prune`; accuracy is measured on `data`.
    labels
        Class of each sample, int64 `[N]`; None for what the whole model predicts.
    shares
        Of the filters, 0 to 1.
    progress
        Whether to show a progress bar.

    Returns
    -------
    list of (float, float)
        Each share and the accuracy, 0 to 1.
    """
    checked_samples(data, labels)
    wanted = predicted(copied(model), data) if labels is None else labels.to(data.device)
    layouts = _layouts(model, data, scores)
    curve = []
    with progress_bar("taking out filters", len(shares), shown=progress, unit="share") as bar:
        for share in shares:
            pruned = _pruned(model, data, scores, filters_removed(scores, share), layouts).model
            curve.append((share, float((predicted(pruned, data) == wanted).double().mean())))
            bar.update(1)
    return curve


@torch.no_grad()
def predicted(model: nn.Module, data: Tensor) -> Tensor:
    """Return the classes that a model in evaluation mode predicts, int64 `[N]`."""
    return torch.cat([model(batch).argmax(1) for batch in data.split(BATCH)])
