"""Directions learned from activations: concept activation vectors and factors of NMF.

Axes: `M` samples or positions, `C` channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from crp.attribution import RelevanceFlow, prepare
from crp.concepts import Directions, NonNegative
from crp.errors import InputError
from crp.extras import optional
from crp.mining.dataset import data_subject

# Positions that NMF learns from.
_MOST = 20000


def layer_activations(model: nn.Module, dataset: object, layer: str, samples: int, *, seed: int = 0) -> Tensor:
    """Read the activations of a layer at positions of the first samples of a data set.

    Parameters
    ----------
    model, dataset
        As in `crp.mine`.
    layer
        A layer's name.
    samples
        How many samples to read.
    seed
        If there are more than 20000 positions, of the choice among them.

    Returns
    -------
    Tensor
        `[M, C]` on the CPU.
    """
    reader = data_subject(dataset, labelled=False, skip_bad=False).reader
    found, replica = [], prepare(model, None)
    for first in range(0, min(samples, len(reader)), 32):
        data = torch.stack([reader[index][0] for index in range(first, min(first + 32, samples, len(reader)))])
        with RelevanceFlow(replica, None, data, [layer], to_input=False) as flow:
            found.append(flow.layout(layer).split(flow.activation(layer)).movedim(1, -1).flatten(0, 1).cpu())
    values = torch.cat(found)
    chosen = torch.randperm(len(values), generator=torch.Generator().manual_seed(seed))[:_MOST]
    return values[chosen]


def pattern_directions(examples: Mapping[str, tuple[Tensor, Tensor]]) -> Directions:
    r"""Learn pattern-CAVs: how activations change with a concept.

    The pattern of a concept with labels t is :math:`cov(a, t) / var(t)` (Pahde et al. 2022, "Navigating Neural Space:
    Revisiting Concept Activation Vectors to Overcome Directional Divergence"), for labels 0 and 1 the difference of the
    two means. Unlike the normal of a separating plane, it does not depend on noise that both sets share.

    Parameters
    ----------
    examples
        By name of the concept, activations with it and without it, `[M, C]` each.

    Returns
    -------
    Directions
        Of length 1, with their names.

    Raises
    ------
    InputError
        If a set is empty, or the two means are equal.
    """
    return _named({name: a.mean(0) - b.mean(0) for name, (a, b) in _checked(examples).items()})


def filter_directions(examples: Mapping[str, tuple[Tensor, Tensor]], *, penalty: float = 1e-2) -> Directions:
    """Learn classical CAVs: the normal of the plane that separates activations with a concept from those without it.

    The plane is that of ridge regression on the labels (Kim et al. 2018, "Interpretability beyond feature attribution:
    quantitative testing with concept activation vectors").

    Parameters
    ----------
    examples
        As for `pattern_directions`.
    penalty
        On the squared length, relative to the mean variance of the channels.
    """
    found = {}
    for name, (positive, negative) in _checked(examples).items():
        values = torch.cat([positive, negative])
        labels = torch.cat([values.new_ones(len(positive)), values.new_zeros(len(negative))])
        centred, centred_labels = values - values.mean(0), labels - labels.mean()
        covariance = centred.T @ centred / len(values)
        ridge = penalty * covariance.diagonal().mean() * torch.eye(len(covariance), dtype=values.dtype)
        found[name] = torch.linalg.solve(covariance + ridge, centred.T @ centred_labels / len(values))
    return _named(found)


def nmf_directions(activation: Tensor, count: int, *, seed: int = 0) -> Directions:
    """Learn directions whose non-negative sums are near to non-negative activations (scikit-learn's NMF).

    Parameters
    ----------
    activation
        `[M, C]`, none negative.
    count
        Number of directions.
    seed
        Of the initialisation.

    Returns
    -------
    Directions
        `[count, C]` of length 1, with the encoder `NonNegative`.

    Raises
    ------
    InputError
        If an activation is negative.
    """
    factorization = optional("sklearn.decomposition", "scikit-learn", "NMF")
    if bool((activation < 0).any()):
        raise InputError("NMF needs activations that are not negative, as after a ReLU; this layer has negative ones.")
    model = factorization.NMF(count, init="nndsvda", random_state=seed, max_iter=500)
    model.fit(activation.double().cpu().numpy())
    found = torch.from_numpy(model.components_)
    lengths = found.norm(dim=1, keepdim=True)
    return Directions(torch.where(lengths > 0, found / lengths, found).float(), NonNegative())


def _checked(examples: Mapping[str, tuple[Tensor, Tensor]]) -> Mapping[str, Sequence[Tensor]]:
    if not examples:
        raise InputError("No concept is given; at least one is needed.")
    for name, pair in examples.items():
        if any(values.ndim != 2 or not len(values) for values in pair):
            raise InputError(f"Activations with and without {name!r} are two tensors [M, C], none of them empty.")
    return {name: [values.double().cpu() for values in pair] for name, pair in examples.items()}


def _named(found: Mapping[str, Tensor]) -> Directions:
    for name, direction in found.items():
        if not bool(direction.any()):
            raise InputError(f"Activations with {name!r} do not differ from those without it.")
    return Directions(
        torch.stack([direction / direction.norm() for direction in found.values()]).float(), names=tuple(found)
    )
