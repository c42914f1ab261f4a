"""The sentences and numbers that the page and the figure share, so that both say the same.

Names of classes and files are passed through as they are: whoever draws them makes them harmless.
"""

from __future__ import annotations

import math

import numpy as np

from crp import class_names
from crp.explanations import ClassScore, ConceptPart, Explanation, LayerExplanation, Patch
from crp.graphs.concept_graph import ConceptGraph, GraphNode

MINUS = "\N{MINUS SIGN}"
SPACE = "\N{NO-BREAK SPACE}"


def percent(value: float) -> str:
    """A part of one, to a tenth of a percent.

    >>> percent(0.1234).replace(SPACE, " ")
    '12.3 %'
    """
    return f"{_rounded(value):.1f}{SPACE}%".replace("-", MINUS)


def signed_percent(value: float) -> str:
    """A signed share; the sign is always written, for zero neither.

    >>> signed_percent(0.1234).replace(SPACE, " "), signed_percent(0.0).replace(SPACE, " ")
    ('+12.3 %', '0.0 %')
    """
    return ("+" if _rounded(value) > 0 else "") + percent(value)


def probability(value: float) -> str:
    """A probability in whole percent; what would round to certainty or to nothing says so.

    >>> [probability(p).replace(SPACE, " ") for p in (0.914, 0.9991, 0.0001)]
    ['91 %', 'over 99 %', 'under 1 %']
    """
    if value > 0.99:
        return f"over 99{SPACE}%"
    if value < 0.01:
        return f"under 1{SPACE}%"
    return f"{value * 100:.0f}{SPACE}%"


def class_name(score: ClassScore) -> str:
    """Name of a class; `class 3` where it has none."""
    return score.name or class_names.class_name((), score.index)


def patch_class(value: Patch) -> str:
    """Name of the class that a patch was mined for; empty where there is none."""
    return "" if value.target < 0 else value.target_name or class_names.class_name((), value.target)


def printable(name: str) -> str:
    """A name on one line; characters that draw nothing or turn the direction of writing become a replacement mark.

    >>> printable("two\\n  lines")
    'two lines'
    """
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(name.split()))


def shortened(name: str, length: int) -> str:
    """A name on one line of at most `length` characters; what is left out is an ellipsis.

    >>> shortened("American lobster, Northern lobster", 18)
    'American lobster,…'
    """
    name = printable(name)
    return name if len(name) <= length else f"{name[: length - 1].rstrip()}…"


def headline(explanation: Explanation) -> tuple[tuple[str, bool], ...]:
    """What the model sees, in one or two sentences, cut where a class name stands: (text, is it a name)."""
    best, target = explanation.best, explanation.target
    seen = (("The model sees ", False), (class_name(best), True), (f" ({probability(best.probability)})", False))
    if best.index == target.index:
        return seen
    return (
        *seen,
        (". What speaks for ", False),
        (class_name(target), True),
        (f" ({probability(target.probability)})?", False),
    )


def question(explanation: Explanation) -> tuple[tuple[str, bool], ...]:
    """What is explained, in a few words, cut where a class name stands: (text, is it a name)."""
    target = (class_name(explanation.target), True)
    if explanation.against is None:
        return (("What speaks for ", False), target)
    return (("Why ", False), target, (" and not ", False), (class_name(explanation.against), True))


def subject(explanation: Explanation) -> str:
    """What relevance is for: the class, or one class rather than another."""
    if explanation.against is None:
        return class_name(explanation.target)
    return f"{class_name(explanation.target)} rather than {class_name(explanation.against)}"


def side(part: ConceptPart) -> str:
    """ "supports", "opposes" or, for a concept without relevance, "is silent"."""
    if part.share == 0:
        return "is silent"
    return "supports" if part.share > 0 else "opposes"


def where(heatmap: np.ndarray) -> str:
    """Where in the input the absolute relevance of a heatmap [H, W] gathers, in words: "in the upper left"."""
    magnitude = np.abs(heatmap).astype(np.float64)
    total = magnitude.sum()
    if total == 0:
        return "nowhere"
    height, width = magnitude.shape
    row = magnitude.sum(axis=1) @ (np.arange(height) + 0.5) / height / total
    column = magnitude.sum(axis=0) @ (np.arange(width) + 0.5) / width / total
    vertical = _third(row, "upper", "lower")
    horizontal = _third(column, "left", "right")
    if vertical and horizontal:
        return f"in the {vertical} {horizontal}"
    if horizontal:
        return f"on the {horizontal}"
    return f"in the {vertical} part" if vertical else "around the centre"


def coverage(layer: LayerExplanation) -> str:
    """How much of the relevance that started at the output arrives at the layer, and where the difference is."""
    value = layer.coverage
    if math.isnan(value):
        return "No relevance started at the output."
    amount = f"{value * 100:.0f}{SPACE}%".replace("-", MINUS)
    if value < 0:
        return (
            f"What arrives here is {amount} of the relevance that started at the output: "
            "biases on the way took more than all of it."
        )
    if value < 0.995:
        return (
            f"{amount} of the relevance that started at the output arrives here; "
            "the rest was absorbed by biases or went a parallel way."
        )
    if value <= 1.005:
        return "All relevance that started at the output arrives here."
    return f"{amount} of the relevance that started at the output arrives here: biases on the way added to it."


def absorbed(explanation: Explanation) -> str:
    """How much of the relevance that started at the output reaches the input."""
    value = explanation.absorbed
    if math.isnan(value):
        return "No relevance started at the output."
    amount = f"{abs(value) * 100:.0f}{SPACE}%"
    if abs(value) < 0.005:
        return "All relevance that started at the output reaches the input."
    if value < 0:
        return f"The input holds {amount} more relevance than started at the output: biases added it."
    return f"On the way from the output to the input {amount} of the relevance was absorbed by biases and stabilisers."


def ledger(layer: LayerExplanation) -> dict[str, str]:
    """The absolute shares of a layer as they are written: "for", "against", "shown" and "rest"; they add up to 100.0.

    Each is rounded to a tenth; the rounding errors, at most a tenth, are left to the rest.
    """
    supporting = _rounded(math.fsum(part.share for part in layer.supporting))
    opposing = _rounded(-math.fsum(part.share for part in layer.opposing))
    shown = supporting + opposing
    rest = max(0.0, 100 - shown) if layer.shown + layer.rest else 0.0
    figures = {"for": supporting, "against": opposing, "shown": shown, "rest": rest}
    return {name: f"{value:.1f}{SPACE}%" for name, value in figures.items()}


def hidden(layer: LayerExplanation) -> str:
    """How many concepts the rest is made of, in words."""
    count = layer.size - len(layer.ranked)
    if count == 0:
        return "no other concept"
    return "1 other concept" if count == 1 else f"{count:,} other concepts".replace(",", "\N{NARROW NO-BREAK SPACE}")


def share_of_all(share: float) -> str:
    """A signed part of the whole prediction; nothing where no relevance was started."""
    return "no relevance" if math.isnan(share) else signed_percent(share)


def node_name(node: GraphNode) -> str:
    """What a node of the graph is called: the class's name, or layer and number."""
    return node.name or f"{node.layer} {node.concept}"


def node_sentence(graph: ConceptGraph, node: GraphNode) -> str:
    """What one node of the graph holds, where it comes from, and what it is made of.

    The incoming parts and the rest are 100 %.
    """
    sentences = [f"{node_name(node)}: {share_of_all(node.share)} of the whole prediction."]
    into = graph.into(node)
    if into and node.relevance:
        parts = [f"{percent(edge.part)} from {node_name(graph.node(*edge.upper))}" for edge in into]
        rest = f"{percent(node.rest / node.relevance)} from concepts not drawn"
        sentences.append(f"Of that, {', '.join([*parts, rest])}.")
    out = graph.out_of(node)
    if out:
        parts = [f"{node_name(graph.node(*edge.lower))} {share_of_all(edge.share)}" for edge in out]
        sentences.append(
            f"It is made of {', '.join(parts)}; edges drawn carry {percent(node.carried)} of what leaves it."
        )
    return " ".join(sentences)


def graph(value: ConceptGraph) -> str:
    """What a graph shows, in one sentence."""
    below = ", ".join(layer for layer in value.layers[1:] if any(node.layer == layer for node in value.nodes))
    mean = f", mean of {value.samples} samples" if value.samples > 1 else ""
    if not below:
        return f"Attribution graph of {node_name(value.root)}{mean}: no relevance flows into the layers chosen."
    return (
        f"Attribution graph of {node_name(value.root)}{mean}: {len(value.nodes) - 1} concepts of {below}, "
        f"{len(value.edges)} edges."
    )


def patch(value: Patch) -> str:
    """One patch in words: sample, class and score."""
    explained = f", {patch_class(value)}" if value.target >= 0 else ""
    return f"sample {value.sample}{explained}, score {value.score:.3g}".replace("-", MINUS)


def _rounded(share: float) -> float:
    # Adding zero turns -0.0, which would print a sign, into 0.0.
    return round(share * 100, 1) + 0.0


def _third(position: float, low: str, high: str) -> str:
    # Centres of mass crowd around the middle: less than half the width of a third already says a side.
    return low if position < 0.42 else high if position > 0.58 else ""
