"""A layer and all that runs after it, trained again so that a concept no longer decides: `fitted_from`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from crp.attribution.isolation import isolated_pass
from crp.attribution.upper_part import UpperPart
from crp.correction.boost_choice import HeldOut, chosen_boost
from crp.correction.corrections import copied
from crp.correction.counterfactuals import COPIES
from crp.correction.presence import Presence
from crp.correction.reruns import BATCH
from crp.correction.upper_samples import UpperSamples, exchanged_at
from crp.errors import ModelError
from crp.progress import progress_bar

# A training: its steps, the samples in each, the highest learning rate, and the decay of weights in AdamW.
_STEPS, _PICKED, _RATE, _DECAY = 800, 50, 3e-3, 0.02
# One of how many samples is held out to choose a boost, and the boosts.
_PARTS, _BOOSTS = 5, tuple(2 ** (step / 4) for step in range(33))
# Difference of outputs, relative to the largest, by rounding.
_ROUNDING = 1e-3


def fitted_from(
    model: nn.Module,
    data: Tensor,
    presence: Presence,
    module: str,
    last: str,
    wanted: Tensor,
    *,
    budget: float,
    seed: int,
    progress: bool,
) -> tuple[nn.Module, float]:
    """Train a module and all that runs after it on samples with and without a concept.

    Samples that have the concept, samples it was taken out of, samples that lack it and samples it was put in are drawn
    equally often, so that it says nothing about the class. A fifth of the samples is held out; with these, a boost is
    chosen for the trained model (`chosen_boost`). Batch norms keep their statistics. A boost says how much more than
    samples that lack the concept those count that it was taken out of. It is set by the biases of the classes: each
    changes by the logarithm of how much more often the class occurs with this boost than with that of the training
    (Menon et al. 2021, "Long-tail learning via logit adjustment").

    Parameters
    ----------
    model, data, budget, seed, progress
        As in `refit`.
    presence
        Where the concept is in the samples.
    module, last
        Names of the module, and of the linear layer that makes the output.
    wanted
        The classes to be learnt, int64 `[N]`.

    Returns
    -------
    tuple of nn.Module and float
        The corrected model, and the boost.

    Raises
    ------
    InputError
        If there is no such module, or the concept cannot be exchanged at its input.
    ModelError
        If what runs after the module also reads what was computed before, or uses the same weights.
    """
    samples = exchanged_at(model, data, presence, module, seed, progress=progress)
    wanted = wanted.cpu()[samples.samples]
    every, held = torch.arange(len(samples)), _held_out(samples, len(data), seed)
    judged = held & (samples.lacking | samples.taken_out)
    trained = _Trained(model, data, samples, wanted)
    before = trained.outputs(every)
    as_they_are = presence.outputs.to(before)
    if not _near(before[: len(data)], as_they_are):
        raise ModelError(
            f"What runs from '{module}' on also reads what was computed before, past a skip connection or "
            "in another branch: name the block around it, or a layer above."
        )
    with progress_bar(f"training from {module}", _STEPS, shown=progress, unit="step") as bar:
        trained.train(every[~held], seed, bar.update)
    shifts = {boost: _shift(samples, wanted, boost, before.shape) for boost in _BOOSTS}
    after, kind = trained.outputs(every[judged]), samples.taken_out[judged]
    found = {boost: _right(after + shift, wanted[judged], kind) for boost, shift in shifts.items()}
    boost = chosen_boost(found, _right(before[judged], wanted[judged], kind).right - budget)
    return trained.corrected(last, shifts[boost]), boost


class _Trained:
    """A copy of a model, of which the part above a layer is trained."""

    def __init__(self, model: nn.Module, data: Tensor, samples: UpperSamples, wanted: Tensor) -> None:
        self._copy, self._data, self._samples, self._wanted = copied(model), data, samples, wanted
        self._upper = UpperPart(self._copy, data[:1], samples.layer)

    @torch.no_grad()
    def outputs(self, places: Tensor) -> Tensor:
        """Return the outputs for some of the samples, `[n, classes]`, on the CPU."""
        batches = (self._samples.taken(some)[:, None] for some in places.split(BATCH))
        return torch.cat([self._upper.outputs(batch)[:, 0].cpu() for batch in batches])

    @isolated_pass()
    def train(self, places: Tensor, seed: int, done: Callable[[int], object]) -> None:
        """Train on some of the samples, with equally many of each group."""
        draw, group = torch.Generator().manual_seed(seed), self._samples.group[places]
        chance = 1 / group.bincount()[group]
        weights = [value.requires_grad_() for value in self._upper.model.parameters() if value.is_floating_point()]
        optimizer = schedule = None
        for _ in range(_STEPS):
            picked = places[torch.multinomial(chance, _PICKED, replacement=True, generator=draw)]
            found = self._upper.trainable(self._samples.taken(picked)[:, None])[:, 0]
            loss = functional.cross_entropy(found, self._wanted[picked].to(found.device))
            slopes = torch.autograd.grad(loss, weights, allow_unused=True)
            if optimizer is None:  # only what runs after the layer has gradients
                weights = [value for value, slope in zip(weights, slopes, strict=True) if slope is not None]
                slopes = [slope for slope in slopes if slope is not None]
                optimizer = torch.optim.AdamW(weights, _RATE, weight_decay=_DECAY)
                schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=_STEPS, pct_start=0.25)
            for value, slope in zip(weights, slopes, strict=True):
                value.grad = slope
            optimizer.step()
            schedule.step()
            done(1)
        for value in self._upper.model.parameters():
            value.requires_grad_(False)

    @torch.no_grad()
    def corrected(self, last: str, shift: Tensor) -> nn.Module:
        """Return the whole model, with numbers added to the biases of the classes."""
        trained = dict(self._upper.model.named_parameters())
        for name, value in self._copy.named_parameters():
            value.copy_(trained[name])
        some = torch.arange(min(BATCH, len(self._data)))
        expected = self.outputs(some) + shift
        bias = self._copy.get_submodule(last).bias
        bias += shift.to(bias)
        if not _near(self._copy(self._data[some]).cpu(), expected):
            raise ModelError(f"Layers before '{self._samples.module}' use weights of those after: name a layer above.")
        return self._copy


def _held_out(samples: UpperSamples, count: int, seed: int) -> Tensor:
    """Return which samples are held out, bool `[M]`: one part of those with the concept, and of those without."""
    draw = torch.Generator().manual_seed(seed)
    having = torch.zeros(count, dtype=torch.bool)
    having[samples.samples[samples.taken_out]] = True
    order = torch.randperm(count, generator=draw)
    order = torch.cat([order[having[order]], order[~having[order]]])
    held = torch.zeros(count, dtype=torch.bool)
    held[order[::_PARTS]] = True
    return held[samples.samples]


def _shift(samples: UpperSamples, wanted: Tensor, boost: float, shape: Sequence[int]) -> Tensor:
    """Return what a boost adds to the logit of each class, `[classes]`, for outputs of a shape `[M, classes]`."""
    lacking = torch.bincount(wanted[samples.lacking], minlength=shape[1]).double()
    having = torch.bincount(wanted[samples.taken_out], minlength=shape[1]).double() / COPIES
    trained = float(samples.lacking.sum() / having.sum())
    more = (lacking + boost * having) / (lacking + trained * having)
    return torch.where(lacking + having > 0, more, 1.0).log().float()


def _right(outputs: Tensor, wanted: Tensor, taken_out: Tensor) -> HeldOut:
    """Return how many are right, of samples without the concept and of those it was taken out of (bool `[n]`)."""
    right = (outputs.argmax(1) == wanted).double()
    copied = float(taken_out.sum()) / COPIES
    share = copied / (copied + float((~taken_out).sum()))
    return HeldOut(float(right[~taken_out].mean()), float(right[taken_out].mean()), share)


def _near(found: Tensor, expected: Tensor) -> bool:
    return float((found - expected).abs().max()) <= _ROUNDING * max(float(expected.abs().max()), 1e-6)
