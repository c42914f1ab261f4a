"""What pages and figures say about the measured effect of removing a concept."""

from __future__ import annotations

from crp.explanations import ConceptPart, Explanation
from crp.values import ClassScore, StartScore
from crp.visualization import wording
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

    mean = "" if found.at_mean is None else f"; at its mean {number(found.at_mean)}"
    values = f"{number(found.before)} → {number(found.after)}"
    if explanation.against is not None:
        return f"without it: difference {values}{mean}"
    if isinstance(target, StartScore) or found.probability is None:
        return f"without it: {values}{mean}"
    if found.at_mean is not None:
        mean = f"; at its mean {answer(found.at_mean, found.mean_probability)}, {number(found.at_mean)}"
    before = wording.class_value(target, explanation.best)
    return f"without it: {before} → {answer(found.after, found.probability)}, logit {values}{mean}"


def effect_means(explanation: Explanation) -> str:
    """Say what the numbers of `effect` are."""
    text = "the output if the concept's part of the layer's output is set to zero and the rest of the model runs again"
    if any(part.effect and part.effect.at_mean is not None for layer in explanation.layers for part in layer.ranked):
        text += "; at its mean: if the part is its mean over the mined data set instead"
    if wording.is_number(explanation.target):
        return text
    return f"{text}; a probability may fall although the logit rises, because those of other classes change, too"


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
            f"Differs from its effect by far: removing it changes the output by {times(ratio)} its relevance."
        )
    return ""
