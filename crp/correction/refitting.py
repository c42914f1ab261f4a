"""The last layer, or what lies above any layer, fitted again so that a concept no longer decides: `refit`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from crp.concepts import ChannelConcept, ConceptKind
from crp.correction.boost_choice import HeldOut, chosen_boost
from crp.correction.corrections import Correction, copied
from crp.correction.counterfactuals import COPIES, NAMES, Counterfactuals, Variants
from crp.correction.presence import ACTIVE, REACH, find_presence
from crp.correction.reruns import Rerun, as_classes, checked_samples
from crp.correction.upper_fit import fitted_from
from crp.errors import InputError, ModelError
from crp.progress import progress_bar

_CHANNELS = ChannelConcept()
# Weights that samples whose concept was taken out may have, and the number of parts held out in turn to choose one.
_BOOSTS, _FOLDS = (1, 2, 4, 8, 16), 3
# Penalty on the squared distance to the original weights, of features with variance 1.
_PENALTY = 1e-4


def refit(
    model: nn.Module,
    data: Tensor,
    layer: str,
    concept: int | Sequence[int],
    *,
    labels: Tensor | None = None,
    kind: ConceptKind = _CHANNELS,
    after: Correction | None = None,
    from_layer: str | None = None,
    budget: float = 0.02,
    active: float = ACTIVE,
    reach: int = REACH,
    seed: int = 0,
    progress: bool = True,
) -> Correction:
    """Fit the last linear layer again, on samples in which the concept is present or absent whatever their class is.

    Deep feature reweighting (Kirichenko et al. 2023, "Last layer re-training is sufficient for robustness to spurious
    correlations") needs samples in which the spurious concept and the class do not go together. Here they are made: at
    the layer, activations around the concept are exchanged between samples with and without it (`counterfactuals`).
    The classes to be learnt are the labels, or without labels the model's own predictions on the samples as they are.

    Samples with the concept weigh 1, 2, 4, 8 or 16 times as much as others, both as they are and with it taken out, so
    that the concept says nothing about the class. Thirds of the samples are held out in turn to choose the weight
    (`chosen_boost`): the one with which the worse of two groups is best, samples without the concept and those it was
    taken out of, if at most `budget` of the accuracy on both is lost. The last fit uses all samples.

    What the layers below do not tell the last layer, it cannot use. With `from_layer`, that module and all that run
    after it are trained on the same kind of samples, which takes several hundred samples with the concept. Which layer
    is best depends on where the classes that are confused become alike (Lee et al. 2023, "Surgical fine-tuning improves
    adaptation to distribution shifts"). The concept is exchanged at its own layer, or at the input of `from_layer` if
    that is not above it. A fifth of the samples is held out to choose in the same way how much those with the concept
    count (`fitted_from`).

    Parameters
    ----------
    model
        The model; it is not changed. Its output `[N, classes]` is that of a `torch.nn.Linear`.
    data
        Samples `[N, c, *S]`, at least 10 with the concept and 10 without.
    layer, concept, kind
        As in `suppress`.
    labels
        Class of each sample, int64 `[N]`; None for the model's own predictions.
    after
        A correction of the same model, after which the last layer is fitted; not with `from_layer`.
    from_layer
        Name of a module; None for the last linear layer alone. All that runs after it reads its output only.
    budget
        Accuracy (0 to 1) that may be lost.
    active, reach
        What counts as the concept, as in `find_presence`.
    seed
        Of the exchanged samples.
    progress
        Whether to show progress bars.

    Returns
    -------
    Correction
        With the architecture of the model, or of the model of `after`.

    Raises
    ------
    InputError
        If there are too few samples with or without the concept, or it cannot be exchanged at the layer.
    ModelError
        If the output is not that of a linear layer, or what lies above `from_layer` cannot be trained alone.
    """
    checked_samples(data, labels)
    if not 0 <= budget < 1:
        raise InputError(f"budget is {budget}; the accuracy that may be lost must be at least 0 and below 1.")
    if after is not None and from_layer is not None:
        raise InputError(f"After another correction, the last layer is fitted alone, not from '{from_layer}'.")
    presence = find_presence(model, data, layer, concept, kind, active=active, reach=reach, progress=progress)
    wanted = presence.outputs.argmax(1) if labels is None else as_classes(labels, presence.outputs)
    rerun = Rerun(model, presence.layer)
    rerun.run(data[:2])
    name, _ = rerun.features()
    linear = copied(model).get_submodule(name)
    if linear.bias is None:
        raise ModelError(f"The last layer '{name}' has no bias, which is needed to fit it.")
    truth = "the model's own predictions" if labels is None else "the labels"
    if from_layer is not None:
        fixed, boost = fitted_from(
            model, data, presence, from_layer, name, wanted, budget=budget, seed=seed, progress=progress
        )
        return Correction(fixed, f"trained from {from_layer} on {truth}; {_counted(boost)}", True, layer)
    made = Counterfactuals(model, data, presence, seed)

    def examples_of(correction: Correction | None, names: Sequence[str]) -> list[_Examples]:
        runs = made.run(correction, names=names, features=True, progress=progress)
        return [_examples(one, wanted, made) for one in runs]

    examples = examples_of(after, NAMES)
    before = examples if after is None else examples_of(None, NAMES[:2])
    least = _right([linear] * _FOLDS, before).right - budget
    found = {}
    with progress_bar("fitting the last layer", len(_BOOSTS), shown=progress, unit="weight") as bar:
        for tried in _BOOSTS:
            found[tried] = _right([_fitted(linear, examples, tried, fold) for fold in range(_FOLDS)], examples)
            bar.update(1)
    boost = chosen_boost(found, least)
    fitted = _fitted(linear, examples, boost)
    fixed = copied(model if after is None else after.model)
    last = _within(fixed, name)
    with torch.no_grad():
        last.weight.copy_(fitted.weight)
        last.bias.copy_(fitted.bias)
    words = f"last layer fitted to {truth}; {_counted(boost)}"
    if after is None:
        return Correction(fixed, words, True, layer, last=last)
    return replace(after, model=fixed, method=f"{after.method}; {words}", last=last)


def _counted(boost: float) -> str:
    times = {1: "once", 2: "twice"}.get(boost, f"{boost:.3g} times")
    return f"samples with the concept count {times}, as they are and with it removed"


@dataclass(frozen=True, eq=False)
class _Examples:
    """Features `[M, D]`, classes, the fold of each, which have the concept and which count when held out, all `[M]`."""

    features: Tensor
    wanted: Tensor
    weight: float
    fold: Tensor
    having: Tensor
    counts: Tensor
    taken_out: bool

    def weights(self, boost: float) -> Tensor:
        """Return how much each counts: those that have the concept as often as those that it was taken out of."""
        return torch.where(self.having, boost * self.weight, self.weight).double()


def _examples(variants: Variants, wanted: Tensor, made: Counterfactuals) -> _Examples:
    samples = variants.samples
    taken_out = variants.name == "taken out"
    lacking = torch.isin(samples, made.lacking)
    return _Examples(
        variants.features.double(),
        wanted[samples],
        1 / COPIES if taken_out else 1.0,
        samples % _FOLDS,
        ~lacking,
        torch.ones_like(lacking) if taken_out else lacking & (variants.name == "as they are"),
        taken_out,
    )


def _right(fitted: Sequence[nn.Linear], examples: Sequence[_Examples]) -> HeldOut:
    """Return how many samples are right with the layer that was fitted without their fold, of those that count."""
    right, total = {True: 0.0, False: 0.0}, {True: 0.0, False: 0.0}
    for one in examples:
        for fold, linear in enumerate(fitted):
            rows = (one.fold == fold) & one.counts
            found = functional.linear(one.features[rows], linear.weight.double(), linear.bias.double()).argmax(1)
            right[one.taken_out] += one.weight * float((found == one.wanted[rows]).sum())
            total[one.taken_out] += one.weight * int(rows.sum())
    share = total[True] / (total[True] + total[False])
    return HeldOut(right[False] / total[False], right[True] / total[True], share)


def _fitted(linear: nn.Linear, examples: Sequence[_Examples], boost: float, fold: int | None = None) -> nn.Linear:
    """Fit a linear layer by weighted cross-entropy, from the weights of another, without a fold if one is given."""
    kept = [one.fold != (-1 if fold is None else fold) for one in examples]
    features = torch.cat([one.features[rows] for one, rows in zip(examples, kept, strict=True)])
    wanted = torch.cat([one.wanted[rows] for one, rows in zip(examples, kept, strict=True)])
    weights = torch.cat([one.weights(boost)[rows] for one, rows in zip(examples, kept, strict=True)]).to(features)
    mean, scale = features.mean(0), features.std(0).clamp(min=1e-6)
    scaled = (features - mean) / scale
    start = linear.weight.detach().double() * scale
    weight = start.clone().requires_grad_()
    bias = (linear.bias.detach().double() + linear.weight.detach().double() @ mean).requires_grad_()
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=100, tolerance_change=1e-7, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        each = functional.cross_entropy(scaled @ weight.T + bias, wanted, reduction="none")
        value = (each * weights).sum() / weights.sum() + _PENALTY * (weight - start).square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    result = nn.Linear(len(mean), len(start), dtype=torch.float64, device=features.device)
    with torch.no_grad():
        result.weight.copy_(weight / scale)
        result.bias.copy_(bias - (weight / scale) @ mean)
    return result


def _within(model: nn.Module, name: str) -> nn.Module:
    """Return a linear layer by its name, in a model where modules may have been put beside it."""
    module = model.get_submodule(name)
    return module if isinstance(module, nn.Linear) else next(one for one in module if isinstance(one, nn.Linear))
