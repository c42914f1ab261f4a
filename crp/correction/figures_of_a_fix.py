"""How much a concept decides, before and after a correction: `measure_fix`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn

from crp.concepts import ChannelConcept, ConceptKind
from crp.correction.compared_predictions import ChangedPredictions, changed_predictions, share_of
from crp.correction.corrections import Correction
from crp.correction.counterfactuals import Counterfactuals
from crp.correction.presence import find_presence
from crp.correction.proportions import difference_interval, least_difference
from crp.correction.reruns import as_classes, checked_samples
from crp.errors import InputError

_CHANNELS = ChannelConcept()


@dataclass(frozen=True)
class Dependence:
    """How far predictions depend on a concept, as fractions of samples (0 to 1).

    "Right" is the label, or without labels the prediction of the original model on the sample as it is.

    Attributes
    ----------
    right
        Of all samples.
    right_with, right_without
        Of the samples with the concept, and of those without it.
    right_taken_out
        Of the samples with the concept, after it was taken out.
    pulled
        Of the samples without the concept and of another class: taken for the class that has the concept most often,
        after the concept was put in.
    """

    right: float
    right_with: float
    right_without: float
    right_taken_out: float
    pulled: float


@dataclass(frozen=True)
class FixFigures(ChangedPredictions):
    """Figures of a model and of a correction of it, beside the predictions that changed.

    Attributes
    ----------
    target
        The class that has the concept most often.
    having, lacking
        Number of samples with the concept and without it.
    before, after
        The figures.
    """

    target: int
    having: int
    lacking: int
    before: Dependence
    after: Dependence

    def reading(self, name: str) -> str:
        """Say what the corrected model does with the samples that have the concept; `name` is their class.

        What differs is told by the interval of `difference_interval`: these samples are few.
        """
        kept, removed = self.after.right_with, self.after.right_taken_out
        both = f"This one gets {_percent(kept)} right as they are and {_percent(removed)} with the concept removed"
        low, high = (float(end) for end in difference_interval(kept, self.having, removed, self.having))
        if low > 0:
            found = f"the model still relies on the concept for {name!r}"
        elif high < 0:
            found = f"the concept now speaks against {name!r}, which is more than intended; try another method"
        else:
            found = f"no clear difference (95 % interval: {_points(low)} to {_points(high)} points), as intended"
            if least_difference(self.before.right_with, self.having, kept, self.having) > 0:
                found += f", and {self._fall()}"
        ideal = "A model that does not use the concept gets these samples right just as often with the concept removed."
        return f"{ideal} {both}: {found}."

    def _fall(self) -> str:
        """Explain the fall on samples with the concept by those without it, which have nothing to lose."""
        if least_difference(self.before.right_without, self.lacking, self.after.right_without, self.lacking) > 0:
            return (
                "accuracy also falls on the samples without the concept, so not all of the fall is what the model "
                "knew from the concept"
            )
        return "accuracy falls only by what the model knew from the concept"

    def lines(self, class_names: Sequence[str] = ()) -> list[str]:
        """Return the figures as lines of a table, and what they say."""
        name = class_names[self.target] if self.target < len(class_names) else f"class {self.target}"
        truth = "right" if self.by_labels else "as the original model"
        rows = [
            (f"{truth}, all samples", "right"),
            (f"{truth}, the {self.having} samples with the concept", "right_with"),
            (f"{truth}, the same {self.having} with the concept removed", "right_taken_out"),
            (f"{truth}, the {self.lacking} samples without the concept", "right_without"),
            (f"other classes taken for {name!r} with the concept put in", "pulled"),
        ]
        width = max(len(words) for words, _ in rows)
        return [f"{'':{width}}  before   after"] + [
            f"{words:{width}}  {getattr(self.before, row):6.1%}  {getattr(self.after, row):6.1%}" for words, row in rows
        ] + [self.reading(name)]

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return asdict(self)


def measure_fix(
    model: nn.Module,
    correction: Correction,
    data: Tensor,
    layer: str,
    concept: int | Sequence[int],
    *,
    labels: Tensor | None = None,
    kind: ConceptKind = _CHANNELS,
    seed: int = 1,
    progress: bool = True,
) -> FixFigures:
    """Measure how much a concept decides, in the model and in the corrected one.

    Parameters
    ----------
    model
        The original model.
    correction
        A correction of it.
    data
        Samples `[N, c, *S]`, best others than those that the correction was made with.
    layer, concept, kind, labels
        As in `refit`.
    seed
        Of the exchanged samples.
    progress
        Whether to show progress bars.
    """
    checked_samples(data, labels)
    presence = find_presence(model, data, layer, concept, kind, progress=progress)
    made = Counterfactuals(model, data, presence, seed)
    wanted = presence.outputs.argmax(1) if labels is None else as_classes(labels, presence.outputs)
    target = int(wanted[made.having].bincount().argmax())
    before, first = _dependence(made, None, wanted, target, progress)
    after, second = _dependence(made, correction, wanted, target, progress)
    changed = changed_predictions(first, second, wanted, labels is not None)
    having, lacking = len(made.having), len(made.lacking)
    return FixFigures(**vars(changed), target=target, having=having, lacking=lacking, before=before, after=after)


def _points(difference: float) -> str:
    return f"{100 * difference:+.0f}".replace("-", "\N{MINUS SIGN}")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _dependence(
    made: Counterfactuals, correction: Correction | None, wanted: Tensor, target: int, progress: bool
) -> tuple[Dependence, Tensor]:
    found = {one.name: (one.samples, one.outputs.argmax(1)) for one in made.run(correction, progress=progress)}
    samples, predicted = found["as they are"]
    right = predicted == wanted[samples]
    taken, after_taking = found["taken out"]
    put, after_putting = found["put in"]
    others = wanted[put] != target

    found_figures = Dependence(
        share_of(right),
        share_of(right[made.having]),
        share_of(right[made.lacking]),
        share_of(after_taking == wanted[taken]),
        share_of(after_putting[others] == target),
    )
    return found_figures, predicted


def exchange_effects(
    model: nn.Module, data: Tensor, layer: str, concept: int, target: int, kind: ConceptKind, *, progress: bool
) -> tuple[float, float] | None:
    """Measure what a concept decides about a class in the model as it is.

    Returns
    -------
    tuple of two floats, or None
        Of the samples with the concept that are predicted as the class, how many still are when it is taken out; of
        those without it that are predicted as others, how many are taken for the class when it is put in. None if the
        concept is in too few or too many of the samples to be exchanged, or none with it is predicted as the class.
    """
    try:
        presence = find_presence(model, data, layer, concept, kind, progress=progress)
        made = Counterfactuals(model, data, presence)
    except InputError:
        return None
    predicted = presence.outputs.argmax(1)
    taken, put = made.run(names=("taken out", "put in"), progress=progress)
    own, others = predicted[taken.samples] == target, predicted[put.samples] != target
    if not own.any() or not others.any():
        return None
    return share_of(taken.outputs.argmax(1)[own] == target), share_of(put.outputs.argmax(1)[others] == target)
