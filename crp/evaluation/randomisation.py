"""What becomes of explanations when the network forgets what it learned: cascading randomisation of its weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil

import numpy as np
from torch import Tensor
from torch.nn import functional

from crp.attribution import RelevanceFlow, prepare
from crp.attribution.starts import Start
from crp.evaluation.evaluation import Figure, Finding, figures_of
from crp.evaluation.measures import rank_correlation
from crp.evaluation.passes import modules_as_called, with_shuffled_weights
from crp.evaluation.subject import Subject

# Parts of the network that forget, from the output down.
_STEPS = (("last layer", 0), ("upper quarter", 1 / 4), ("upper half", 1 / 2), ("all layers", 1))
# Similarity: a window of this many pixels, and the constants of the paper for values of range 2.
_WINDOW, _FIRST, _SECOND = 7, (0.01 * 2) ** 2, (0.03 * 2) ** 2
_DEPENDS = 0.5

_MEANING = (
    "The weights are shuffled, from the last layer downwards (Adebayo et al. 2018), and the same class is explained "
    "again. An explanation of what the network learned must change: the rank correlation between the old and the new "
    "relevances of a layer's concepts should fall to about 0, and the similarity of the heatmaps (SSIM, Wang et al. "
    "2004; 1 is the same picture) far below 1."
)


def measure_randomisation(subject: Subject) -> Iterator[Finding]:
    """Compare concepts' relevances and heatmaps of the model with those of copies with partly shuffled weights."""
    names = modules_as_called(subject.model.model, subject.data[:1])
    replicas = [
        prepare(with_shuffled_weights(subject.model.model, subject.seed, names[-max(1, ceil(part * len(names))) :]),
                subject.model.composite)
        for _, part in _STEPS
    ]  # fmt: skip
    found: list[list[np.ndarray]] = [[] for _ in _STEPS]
    for _, batch in subject.batches("randomisation"):
        with subject.flow(batch) as flow:
            start = subject.target(flow.prediction)
            before = _explained(subject, flow, start)
        for numbers, replica in zip(found, replicas, strict=True):
            with RelevanceFlow(replica, None, batch, subject.layers) as flow:
                after = _explained(subject, flow, start)
            correlations = [rank_correlation(*pair) for pair in zip(before[0], after[0], strict=True)]
            numbers.append(np.stack([*correlations, similarity(before[1], after[1]).numpy()]))
    rows = figures_of({name: numbers for (name, _), numbers in zip(_STEPS, found, strict=True)})
    yield Finding(
        measure="randomisation",
        title="Do explanations change if the weights are shuffled?",
        meaning=_MEANING,
        place="random weights",
        verdict=_verdict(rows["upper half"], subject.layers),
        columns=(*(f"rank correlation, {layer}" for layer in subject.layers), "similarity of heatmaps"),
        rows=rows,
    )


def _explained(subject: Subject, flow: RelevanceFlow, start: Start) -> tuple[list[np.ndarray], Tensor]:
    """Return the concepts' relevances at each layer, `[N, n]`, and the heatmaps, `[N, *S]`."""
    relevance = flow.output_relevance(start)
    arriving = flow.down(relevance, to=subject.layers)
    scores = [flow.parts(layer, subject.concept).total(arriving[layer][0]).cpu().numpy() for layer in subject.layers]
    return scores, flow.down(relevance)[0].sum(1)


def similarity(first: Tensor, second: Tensor) -> Tensor:
    r"""Compute the structural similarity of heatmaps, each divided by its largest absolute value.

    .. math:: \frac{(2\mu_x\mu_y + c_1)(2\sigma_{xy} + c_2)}{(\mu_x^2 + \mu_y^2 + c_1)(\sigma_x^2 + \sigma_y^2 + c_2)}

    is averaged over windows of 7 pixels in each direction (Wang et al. 2004, 'Image quality assessment: from error
    visibility to structural similarity', with equal weights and sample covariances); values lie in -1..1.

    Parameters
    ----------
    first, second
        `[N, *S]`, one to three axes.

    Returns
    -------
    Tensor
        `[N]`, float64, -1..1.
    """
    size = [min(_WINDOW, length) for length in first.shape[1:]]
    pool = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)[len(size) - 1]
    x, y = (
        (values.double() / values.abs().flatten(1).amax(1).clamp_min(1e-300).view(-1, *[1] * len(size)))[:, None]
        for values in (first, second)
    )

    def mean(values: Tensor) -> Tensor:
        return pool(values, size, 1)

    count = float(np.prod(size))
    unbiased = count / max(1, count - 1)
    mean_x, mean_y = mean(x), mean(y)
    variances = unbiased * (mean(x * x) - mean_x**2 + mean(y * y) - mean_y**2)
    covariance = unbiased * (mean(x * y) - mean_x * mean_y)
    likeness = (2 * mean_x * mean_y + _FIRST) * (2 * covariance + _SECOND)
    return (likeness / ((mean_x**2 + mean_y**2 + _FIRST) * (variances + _SECOND))).flatten(1).mean(1).cpu()


def _verdict(figures: Sequence[Figure], layers: Sequence[str]) -> str:
    *correlations, maps = (figure.mean for figure in figures)
    if np.isnan([*correlations, maps]).all():
        return "With shuffled weights no relevance arrives, so nothing can be said."
    worst = int(np.nanargmax(correlations))
    depends = correlations[worst] < _DEPENDS and maps < _DEPENDS
    says = "depend on what the network learned" if depends else "hardly depend on what the upper half learned"
    return (
        f"Explanations {says}: with the weights of the upper half shuffled, the rank correlation with the old ranking "
        f"is {correlations[worst]:.2f} at {layers[worst]} (the highest of all layers), and the similarity of the "
        f"heatmaps is {maps:.2f}."
    )
