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
    """Say what becomes of what is explained when a concept is removed: its value, and a class's probability.

    Empty if that was not measured.
    """
    found, target = part.effect, explanation.target
    if found is None:
        return ""
    values = f"{number(found.before)} → {number(found.after)}"
    if explanation.against is not None:
        return f"without it: difference {values}"
    if isinstance(target, StartScore) or found.probability is None:
        return f"without it: {values}"
    without = ClassScore(target.index, target.name, found.after, found.probability)
    first, second = (wording.class_value(score, explanation.best) for score in (target, without))
    return f"without it: {first} → {second}, logit {values}"


def effect_means(explanation: Explanation) -> str:
    """Say what the numbers of `effect` are."""
    text = "the output if the concept's part of the layer's output is set to zero and the rest of the model runs again"
    if wording.is_number(explanation.target):
        return text
    return f"{text}; a probability may fall although the logit rises, because those of other classes change, too"


def disagreement(part: ConceptPart) -> str:
    """Say that relevance and measured effect of a concept disagree, in sign or by far; empty if they do not."""
    found = part.effect
    if found is None or part.relevance == 0:
        return ""
    if found.fall * part.relevance < 0 and abs(found.fall) >= _SMALL * abs(found.before):
        moves = "raises" if found.fall < 0 else "lowers"
        return f"Disagrees with its effect: it {wording.side(part)}, but removing it {moves} the output."
    ratio = abs(found.fall / part.relevance)
    if max(abs(found.fall), abs(part.relevance)) >= _LARGE * abs(found.before) and not 1 / _FAR <= ratio <= _FAR:
        return (
            f"Differs from its effect by far: removing it changes the output by {times(ratio)} its relevance."
        )
    return ""
