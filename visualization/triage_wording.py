"""What a site says about labels, uncertain predictions and unusual ones."""

from __future__ import annotations

from collections.abc import Sequence

from crp.explanations.entries import Entry

# A prediction is uncertain if its best class has a lower probability, unless the reader chooses another limit.
UNCERTAIN = 0.5
# The index lists predictions in which a concept holds this share of its layer, unless the reader chooses another one.
HOLDS = 0.01


def is_right(entry: Entry) -> bool | None:
    """Whether the best class is the label; None without a label, or without classes."""
    if entry.label is None or not entry.classes:
        return None
    return entry.classes[0].index == entry.label[0]


def label(entry: Entry) -> str:
    """Say the true class beside the predicted one; empty if it is not known."""
    right = is_right(entry)
    if right is None:
        return ""
    return f"{'right' if right else 'wrong'}, labelled {entry.label[1]}"


def accuracy(entries: Sequence[Entry]) -> str:
    """Count the right and wrong predictions; empty if no picture has a label."""
    known = [right for right in map(is_right, entries) if right is not None]
    if not known:
        return ""
    unknown = len(entries) - len(known)
    said = f"{sum(known)} right, {len(known) - sum(known)} wrong"
    return f"{said}, {unknown} without a label" if unknown else said


def deviation_means(layer: str, fewest: int) -> str:
    """Say what the deviation from the class is."""
    return (
        f"Deviation from the class: half the summed absolute differences between the prediction’s shares in {layer} "
        "and their means over the mined samples of the explained class. It is 0 % if all shares equal the means, and "
        f"100 % if they have nothing in common. Classes with fewer than {fewest} mined samples have none."
    )


def low_scores(mode: str, scores: Sequence[float]) -> str:
    """Say what scores of 0 below patches mean; empty if there are none.

    Parameters
    ----------
    mode
        What samples were ranked by: `"relevance"`, `"activation"` or `"negative"`.
    scores
        Of the patches shown, at least one.
    """
    if mode == "activation":
        if max(scores) > 0:
            return "" if min(scores) > 0 else "Samples with a score of 0 or below do not activate it."
        return "No mined sample activates it: even the highest score is not positive."
    if mode == "relevance" and min(scores) <= 0:
        if max(scores) <= 0:
            return "No mined sample has positive relevance for it, so these samples are in no particular order."
        return "Samples with a score of 0 have no positive relevance for it, and are in no particular order."
    return ""


NO_SAMPLES = (
    "They are not listed, because the library holds no concept vectors: mine with --vectors (vectors=True) to list "
    "every mined sample that uses a concept."
)


def sample_uses(count: int, mined: int, listed: int) -> str:
    """Say how many mined samples use a concept, and how many of them are listed."""
    if not count:
        return f"None of the {mined} mined samples gives it 0.05 % of the layer or more."
    said = (
        f"{count} of the {mined} mined samples give it at least 0.05 % of the layer’s absolute relevance, for or "
        "against the class that was explained."
    )
    return said if listed == count else f"{said} The {listed} with the largest absolute shares are listed."
