"""The sentences and number formats that pages and figures share, so that both say the same.

A concept has two numbers. Both have one definition, used wherever one of them is shown:

========================  ==========================================================================================
share of the layer        relevance of the concept / sum of the absolute relevance of all concepts of its layer
                          (`ConceptPart.share`, JSON key `layers/supporting/share`); absolute shares add up to 100 %
share of the prediction   relevance of the concept / relevance that started at the output (`GraphNode.share`, JSON key
                          `graph/nodes/share`); exceeds 100 % where concepts for and against cancel out
========================  ==========================================================================================

Names of classes and files are passed through unchanged: the caller escapes them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from crp import class_names
from crp.explanations import ClassScore, ClassShare, ConceptPart, Explanation, LayerExplanation, Patch, StartScore
from crp.sample_names import sample_words
from crp.visualization.number_formats import MINUS, SPACE, number, percent, probability, rounded, signed_percent

# The two numbers of a concept: what they are called, and their definitions.
LAYER_SHARE, PREDICTION_SHARE = "share of the layer", "share of the prediction"
LAYER_SHARE_MEANS = "relevance of the concept divided by the sum of the absolute relevance of all concepts of its layer"
PREDICTION_SHARE_MEANS = "relevance of the concept divided by the relevance that started at the output"
# What the numbers beside a class that uses a concept mean.
USES_MEAN = (
    "mean share of the layer over the n mined samples of the class, ± standard deviation; "
    "classes with few samples rank lower"
)
# Below this number of samples a mean says little.
FEW_SAMPLES = 5
# What the only output of a model is called where it has no name; the second one in files of earlier versions.
_UNNAMED_OUTPUT = ("output", class_names.class_name((), 0))
_PROBABILITIES = {"": "", "softmax": " (softmax)", "sigmoid": ", each on its own (sigmoid)"}
# The model's answer is spread over many classes if not even the best class has this probability.
_SPREAD = 0.01


def spread_over_many_classes(best: ClassScore) -> bool:
    """Whether not even the best class has a probability of 1 %."""
    return best.probability is not None and best.probability < _SPREAD


def is_number(score: ClassScore | StartScore) -> bool:
    """Whether only a number is known of what is explained: it is a start, or the only output of the model."""
    return isinstance(score, StartScore) or score.probability is None


def class_value(score: ClassScore | StartScore, best: ClassScore | None) -> str:
    """Format what the model gives for a class: its probability. Of a start, or the only output, it is the value.

    Parameters
    ----------
    score
        The class or start.
    best
        The class with the largest logit. If its probability is below 1 %, probabilities keep two significant digits.
    """
    if is_number(score):
        return number(score.value)
    if spread_over_many_classes(best):
        return f"{score.probability * 100:.2g}{SPACE}%"
    return probability(score.probability)


def classes_title(explanation: Explanation) -> str:
    """Name the numbers of `class_value` in a heading."""
    best = explanation.best
    if best is None:
        return "What is explained"
    more = ", and what is explained" if isinstance(explanation.target, StartScore) else ""
    if best.probability is None:
        return f"Output of the model{more}"
    how = _PROBABILITIES[explanation.probabilities]
    if spread_over_many_classes(best):
        return f"Class probabilities{how}, spread over many classes{more}"
    return f"Class probabilities{how}{more}"


def class_name(score: ClassScore | StartScore) -> str:
    """Name of a class, `class 3` where it has none; or of a start."""
    return score.name or class_names.class_name((), score.index)


def patch_class(value: Patch) -> str:
    """Name of the class that a patch was mined for; empty where there is none."""
    return "" if value.target < 0 else value.target_name or class_names.class_name((), value.target)


def printable(name: str) -> str:
    r"""Put a name on one line; invisible and direction-changing characters become a replacement mark.

    >>> printable("two\n  lines")
    'two lines'
    """
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(name.split()))


def shortened(name: str, length: int) -> str:
    """Shorten a name to one line of at most `length` characters, with an ellipsis for what is left out.

    >>> shortened("American lobster, Northern lobster", 18)
    'American lobster,…'
    """
    name = printable(name)
    return name if len(name) <= length else f"{name[: length - 1].rstrip()}…"


def headline(explanation: Explanation) -> tuple[tuple[str, bool], ...]:
    """Say what the model predicts, in one or two sentences, split at class names: (text, whether it is a name).

    Where the model's output has no classes, it is what is explained, and its value.
    """
    best, target = explanation.best, explanation.target
    if best is None:
        return ((class_name(target), True), (f": {class_value(target, best)}", False))
    value = class_value(best, best)
    if best.probability is None:
        if class_name(best) in _UNNAMED_OUTPUT:
            return ((f"The model sees this input as {value}", False),)
        return (("The model’s value for ", False), (class_name(best), True), (f" is {value}", False))
    spread = ", spread over many classes" if spread_over_many_classes(best) else ""
    seen = (("The model sees ", False), (class_name(best), True), (f" ({value}{spread})", False))
    if target == best:
        return seen
    return (
        *seen,
        (". What raises or lowers " if isinstance(target, StartScore) else ". What speaks for ", False),
        (class_name(target), True),
        (f" ({class_value(target, best)})?", False),
    )


def question(explanation: Explanation) -> tuple[tuple[str, bool], ...]:
    """Say what is explained, in a few words, split at class names: (text, whether it is a name)."""
    target = (class_name(explanation.target), True)
    if explanation.against is not None:
        return (("Why ", False), target, (" and not ", False), (class_name(explanation.against), True))
    if is_number(explanation.target):
        return (("What raises or lowers ", False), (subject(explanation), target[0] not in _UNNAMED_OUTPUT))
    return (("What speaks for ", False), target)


def lead(explanation: Explanation) -> tuple[str, str, str]:
    """Say what a page shows, in a sentence split around the name of what is explained."""
    about = ", where in the input they lie, and reference samples that show what each of them stands for."
    if is_number(explanation.target):
        return "The concepts of the network that raise or lower ", subject(explanation), about
    return "The concepts of the network that speak for or against ", class_name(explanation.target), about


def number_means(explanation: Explanation) -> str:
    """Say what the number of a start is, in a sentence; empty for a class, whose number needs no words."""
    target = explanation.target
    if not isinstance(target, StartScore):
        return ""
    value = number(target.value)
    if target.outputs is None:
        return f"{value} is the sum of the relevance that starts at the model’s outputs."
    if target.outputs == 1:
        return f"{value} is the model’s output there, before a softmax or sigmoid."
    mean = number(target.value / target.outputs)
    return f"{value} is the sum of {target.outputs} outputs of the model, {mean} on average."


def subject(explanation: Explanation) -> str:
    """Name what relevance is for: the class, the only output, a start, or one of them rather than another."""
    if explanation.against is None:
        lone = isinstance(explanation.target, ClassScore) and explanation.target.probability is None
        unnamed = lone and class_name(explanation.target) in _UNNAMED_OUTPUT
        return "the output" if unnamed else class_name(explanation.target)
    return f"{class_name(explanation.target)} rather than {class_name(explanation.against)}"


def negative(explanation: Explanation) -> str:
    """Warn that what is explained is negative; empty if it is not."""
    value = explanation.target.value - (explanation.against.value if explanation.against else 0.0)
    if value >= 0:
        return ""
    return f"What is explained is negative ({number(value)}): supporting concepts raise it, opposing ones lower it." + (
        " Shares of the prediction have the opposite sign." if explanation.graph else ""
    )


def side(part: ConceptPart) -> str:
    """Return "supports", "opposes" or, for a concept without relevance, "is silent"."""
    if part.share == 0:
        return "is silent"
    return "supports" if part.share > 0 else "opposes"


def share_of_side(part: ConceptPart) -> str:
    """Write a concept's share beside its `side`; what would round to 0 is given as a bound."""
    return bounded_percent(part.share)


def bounded_percent(share: float) -> str:
    """Write a signed share; what would round to 0 is given as a bound."""
    return f"under 0.1{SPACE}%" if share and not rounded(share) else signed_percent(share)


def shown_smaller(shape: tuple[int, int], side: int, block: int) -> str:
    """Say that a picture is shown reduced to `side` pixels, and its heatmaps as means of blocks of pixels.

    Empty if it is shown as large as it is.

    >>> shown_smaller((300, 400), 448, 1)
    ''
    >>> print(shown_smaller((3000, 4000), 448, 4).replace(SPACE, " "))
    The picture has 4000 × 3000 pixels and is shown at 448 × 336. Heatmap colours are means over 4 × 4 pixels; all \
other numbers refer to the full size.
    """
    if max(shape) <= side:
        return ""
    means = f"Heatmap colours are means over {size((block, block))} pixels; all other" if block > 1 else "All"
    return (
        f"The picture has {size(shape)} pixels and is shown at {size(_fitted(shape, side))}. "
        f"{means} numbers refer to the full size."
    )


def zoomed(shape: tuple[int, int], stored: tuple[int, int], whole: int, of_concept: int) -> str:
    """Say what a reader sees who zooms into a picture that is shown reduced.

    Parameters
    ----------
    shape
        Height and width of the picture.
    stored
        Those of the picture that the page has.
    whole, of_concept
        The longer side of heatmaps of the prediction and of single concepts, unless the picture is smaller.

    Examples
    --------
    >>> print(zoomed((3000, 4000), (2250, 3000), 896, 448).replace(SPACE, " "))
    Zoomed in, it is shown at 3000 × 2250, the largest that the page has room for; its heatmaps at 896 × 672, those \
of concepts at 448 × 336.
    """
    seen = "full size" if stored == shape else f"{size(stored)}, the largest that the page has room for"
    sizes = [size(_fitted(shape, side)) for side in (whole, of_concept)]
    return f"Zoomed in, it is shown at {seen}; its heatmaps at {sizes[0]}, those of concepts at {sizes[1]}."


def size(shape: tuple[int, int]) -> str:
    """Write height and width as pictures are told: width first."""
    height, width = shape
    return f"{width}{SPACE}×{SPACE}{height}"


def _fitted(shape: tuple[int, int], side: int) -> tuple[int, int]:
    scale = min(1.0, side / max(shape))
    height, width = (max(1, round(length * scale)) for length in shape)
    return height, width


def where(heatmap: np.ndarray) -> str:
    """Say where the absolute relevance of a heatmap `[H, W]` is concentrated: "in the upper left"."""
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


def class_mean(use: ClassShare) -> str:
    """Give the mean share of the layer that a concept has in a class, with its standard deviation if there is one."""
    return signed_percent(use.share) + ("" if use.spread is None else f" ±{SPACE}{percent(use.spread)}")


def used_by(explanation: Explanation) -> str:
    """Head the list of classes that use a concept most; a library of one output or start has no classes to list."""
    return "Used most by" if mined_for_classes(explanation) else "Mean over mined samples"


def mined_for_classes(explanation: Explanation) -> bool:
    """Whether the library's samples were mined for several classes."""
    if isinstance(explanation.target, ClassScore):
        return explanation.target.probability is not None
    return any(use.index > 0 for layer in explanation.layers for part in layer.ranked for use in part.classes)


def class_use(use: ClassShare) -> str:
    """Say how much a class uses a concept: mean share of the layer, standard deviation, number of samples.

    >>> plain = lambda text: text.replace(SPACE, " ")
    >>> plain(class_use(ClassShare(3, "ant", 0.12, samples=40, spread=0.031)))
    '+12.0 % ± 3.1 %, n = 40'
    >>> plain(class_use(ClassShare(3, "ant", 0.059, samples=1)))
    '+5.9 %, n = 1, few samples'
    """
    text = class_mean(use)
    if use.samples is None:
        return text
    few = ", few samples" if use.samples < FEW_SAMPLES else ""
    return f"{text}, n{SPACE}={SPACE}{use.samples}{few}"


def mined_classes(settings: Mapping[str, object]) -> str:
    """Say that the classes of a library are the model's own predictions; empty if they are labels.

    Parameters
    ----------
    settings
        Those of the library: `library.manifest["settings"]` or `explanation.provenance["settings"]`.
    """
    if settings.get("targets") != "prediction":
        return ""
    return "Classes are what the model predicted for the mined samples, not labels."


def ledger(layer: LayerExplanation) -> dict[str, str]:
    """Format the absolute shares of a layer: "for", "against", "shown" and "rest"; they add up to 100.0.

    Each is rounded to a tenth; the rest takes up the rounding errors, at most a tenth.
    """
    supporting = rounded(math.fsum(part.share for part in layer.supporting))
    opposing = rounded(-math.fsum(part.share for part in layer.opposing))
    shown = supporting + opposing
    rest = max(0.0, 100 - shown) if layer.shown + layer.rest else 0.0
    figures = {"for": supporting, "against": opposing, "shown": shown, "rest": rest}
    return {name: f"{value:.1f}{SPACE}%" for name, value in figures.items()}


def hidden(layer: LayerExplanation) -> str:
    """Say how many concepts the rest consists of."""
    count = layer.size - len(layer.ranked)
    if count == 0:
        return "no other concept"
    return "1 other concept" if count == 1 else f"{count:,} other concepts".replace(",", "\N{NARROW NO-BREAK SPACE}")


def share_of_all(share: float) -> str:
    """Format a share of the prediction; it is undefined if no relevance started."""
    return "no share" if math.isnan(share) else signed_percent(share)


def both_shares(explanation: Explanation, part: ConceptPart) -> str:
    """Give both numbers of a concept: its share of the layer and, if the graph has it, of the prediction."""
    node = explanation.graph.node(part.layer, part.concept) if explanation.graph else None
    own = f"{signed_percent(part.share)} of the layer"
    return own if node is None else f"{own}, {share_of_all(node.share)} of the prediction"


# In place of a row of patches.
PATCHES_NOT_MADE = "not made yet (crp patches)"


def missing_patches(missing: int, shown: int) -> str:
    """Say that patches of a concept have not been made yet, and how to make them; empty if none are missing.

    >>> missing_patches(3, 13)
    '3 of its 16 patches have not been made yet: crp patches LIBRARY makes them.'
    >>> missing_patches(16, 0)
    'Its patches have not been made yet: crp patches LIBRARY makes them.'
    """
    if not missing:
        return ""
    which = f"{missing} of its {missing + shown} patches have" if shown else "Its patches have"
    if missing == 1 and shown:
        which = f"1 of its {1 + shown} patches has"
    return f"{which} not been made yet: crp patches LIBRARY makes them."


def sample_caption(value: Patch) -> str:
    """Name a patch's sample where there is little room: its file, without folders, or its number."""
    return printable(value.sample_name).rpartition("/")[2] or sample_words(value.sample, "")


def patch(value: Patch) -> str:
    """Describe a patch: sample, class and score."""
    sample = sample_words(value.sample, printable(value.sample_name))
    score = f"score {value.score:.3g}".replace("-", MINUS)
    return ", ".join(filter(None, (sample, patch_class(value), score)))


def _third(position: float, low: str, high: str) -> str:
    # Centres of mass lie close to the middle, so that a small offset already indicates a side.
    return low if position < 0.42 else high if position > 0.58 else ""
