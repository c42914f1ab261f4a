"""What pages and figures say about the measured effect of removing a concept."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, pstdev

from crp.explanations import ConceptPart, Explanation, LayerExplanation
from crp.explanations.entries import Entry
from crp.graphs.concept_graph import Key
from crp.values import ClassScore, StartScore
from crp.visualization import concept_names, wording
from crp.visualization.number_formats import number, times

# Effects below this part of what is explained say nothing about signs.
_SMALL = 0.01
# Relevance and effect are compared in size if one of them is this part of what is explained; they differ by far from
# this ratio on.
_LARGE, _FAR = 0.05, 3


def effect(explanation: Explanation, part: ConceptPart) -> str:
    """Say what becomes of what is explained when a concept is removed, and at its mean: value, probability of a class.

    Empty if that was not measured.
    """
    found, target = part.effect, explanation.target
    if found is None:
        return ""

    def answer(value: float, probability: float) -> str:
        return wording.class_value(ClassScore(target.index, target.name, value, probability), explanation.best)

    at_mean = "" if found.at_mean is None else number(found.at_mean)
    same = at_mean == number(found.after)
    removed = "without it, or at its mean" if same else "without it"
    mean = f"; at its mean {at_mean}" if at_mean and not same else ""
    values = f"{number(found.before)} → {number(found.after)}"
    if explanation.against is not None:
        return f"{removed}: difference {values}{mean}"
    if isinstance(target, StartScore) or found.probability is None:
        return f"{removed}: {values}{mean}"
    if mean:
        mean = f"; at its mean {answer(found.at_mean, found.mean_probability)}, {at_mean}"
    before = wording.class_value(target, explanation.best)
    return f"{removed}: {before} → {answer(found.after, found.probability)}, logit {values}{mean}"


def effect_means(explanation: Explanation) -> str:
    """Say what the numbers of `effect` are."""
    text = "the output when the concept's part of the layer's output is zero and the rest of the model runs again"
    if any(part.effect and part.effect.at_mean is not None for layer in explanation.layers for part in layer.ranked):
        text += "; at its mean: the part is set to its mean over the mined data set instead"
    if wording.is_number(explanation.target):
        return text
    return f"{text}; a probability may fall although the logit rises, because other classes change, too"


def disagreement(part: ConceptPart) -> str:
    """Say that relevance and measured effect of a concept disagree, in sign or by far; empty if they do not.

    They disagree if both ways of removing the concept, as zero and at its mean, say so.
    """
    found = part.effect
    if found is None or part.relevance == 0:
        return ""
    falls, whole = found.falls, abs(found.before)
    if all(fall * part.relevance < 0 and abs(fall) >= _SMALL * whole for fall in falls):
        moves = "raises" if found.fall < 0 else "lowers"
        return f"Disagrees with its effect: it {wording.side(part)}, but removing it {moves} the output."
    ratios = [abs(fall / part.relevance) for fall in falls]
    large = all(max(abs(fall), abs(part.relevance)) >= _LARGE * whole for fall in falls)
    if large and (min(ratios) > _FAR or max(ratios) < 1 / _FAR):
        ratio = min(ratios) if min(ratios) > _FAR else max(ratios)  # the nearer one
        return (
            f"Far from its effect: removing it changes the output by {times(ratio)} its relevance."
        )
    return ""


def overlooked(layer: LayerExplanation) -> str:
    """Say that relevance overlooks concepts that change the output more than those shown; empty if it does not."""
    if not layer.overlooked:
        return ""
    names = [concept_names.in_sentence(concept, layer.name_of(concept)) for concept in layer.overlooked]
    effects = list(layer.overlooked.values())
    falls = "; ".join(
        f"without {name}: {number(one.before)} → {number(one.after)}" for name, one in zip(names, effects, strict=True)
    )
    what = "a concept" if len(names) == 1 else f"{len(names)} concepts"
    return (
        f"Relevance overlooks {what} whose removal changes the output more than that of any concept shown here "
        f"({falls}). Relevance is a derivative here, and norms hide from it what dominates a layer."
    )


def mean_effect(entries: Sequence[Entry], key: Key) -> str:
    """Say how much the predictions of a site with a card for a concept fall without it; empty if none was measured."""
    measured = [entry for entry in entries if key in entry.effects]
    if not measured:
        return ""
    names = {wording.printable(entry.target.name) for entry in measured}
    what = "what is explained"
    if all(isinstance(entry.target, ClassScore) for entry in measured):
        what = f"the logit of {names.pop()}" if len(names) == 1 else "the logit of the explained class"
    falls = [entry.effects[key] for entry in measured]
    ways = list(zip(*falls, strict=True)) if len(set(map(len, falls))) == 1 else [[fall[0] for fall in falls]]
    zero, *mean = [f"{'falls' if fmean(way) >= 0 else 'rises'} by {_with_spread(way)}" for way in ways]
    said = f"Without it, {what} {zero} (set to zero)"
    if mean == [zero]:
        said = f"Without it (set to zero or to its mean), {what} {zero}"
    elif mean:
        said += f" or {mean[0]} (set to its mean)"
    if len(measured) == 1:
        return f"{said} in the one prediction on this site that has a card for it."
    return (
        f"{said}: mean and standard deviation over the {len(measured)} predictions on this site that have a card for "
        "it."
    )


def _with_spread(falls: Sequence[float]) -> str:
    size = number(abs(fmean(falls)))
    return size if len(falls) < 2 else f"{size} ± {number(pstdev(falls))}"
