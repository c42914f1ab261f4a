"""Concepts that a class may use for the wrong reason, from a library alone: `candidates`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from torch import Tensor, nn

from crp.class_names import class_name
from crp.concepts import ConceptKind
from crp.correction.coincidence import Coincidences
from crp.correction.figures_of_a_fix import exchange_effects
from crp.correction.location import relevance_outside
from crp.correction.proportions import least_difference
from crp.correction.usual_place import placed_direction
from crp.library import Library
from crp.library.vectors import Vectors
from crp.progress import progress_bar

# Fewest samples on each side of a split. Concepts are listed that have this mean share of a class's relevance, or this
# one in those samples that use them most, however few they are.
LEAST, SMALLEST_SHARE, RARE_SHARE = 3, 0.05, 0.25
# A candidate is called likely above these. The first two were chosen on libraries of the demo networks as trained (two
# draws of scenes) and of a ResNet-20 on CIFAR, so that what shows the tag is called likely, and nothing else is.
LIKELY: Mapping[str, float] = MappingProxyType({"exclusive": 0.3, "gap": 0.2, "errors": 0.0})
# Or if it is one content at one place this much (`coincidences`); such concepts are listed whatever their share is.
# In four ResNet-20 fine-tuned on images with a watermark, the best concept of each layer has 0.88 or more; the best of
# their other classes, of that network before, and of three demo networks without a fault 0.21, on 1,000 samples each.
FIXED = 0.5
# Samples on which effects are measured at most: each concept takes several passes over them.
EFFECTS = 300
STATED = (
    "likely if exclusive is above {exclusive:.0%}, gap above {gap:.0%} and errors above {errors:.0%}, or if place is "
    "above {place:.0%}."
).format(**LIKELY, place=FIXED).replace("%", " %")


@dataclass(frozen=True)
class Candidate:
    """A concept that a class may use for the wrong reason.

    Attributes
    ----------
    layer, concept
        The concept.
    target, target_name
        The class.
    having, lacking
        Number of samples explained for the class that use it much, and little. Of the borders with at least three
        samples on both sides it is the one at which `gap` and `errors` together are largest.
    share, share_lacking
        Its mean signed share of the layer's relevance in both groups.
    right, right_lacking
        Fractions of both groups that are predicted correctly; None without labels.
    mean, elsewhere
        Its mean share in the class, and the largest mean share in another class.
    kept, pulled
        Measured, if samples were given: how many of the samples with the concept are still recognised when it is taken
        out, and how many others are taken for the class when it is put in (0 to 1); otherwise None.
    place
        Measured, if samples were given: how much of it is one content at one place, on which the class relies (0 to 1,
        `coincidences`); otherwise None.
    relevance_outside, area_outside
        Measured, if masks of the samples' objects were given: how much of its supporting relevance for the class lies
        outside them, and how much of these samples does (0 to 1); otherwise None.
    """

    layer: str
    concept: int
    target: int
    target_name: str
    having: int
    lacking: int
    share: float
    share_lacking: float
    right: float | None
    right_lacking: float | None
    mean: float
    elsewhere: float
    kept: float | None = None
    pulled: float | None = None
    place: float | None = None
    relevance_outside: float | None = None
    area_outside: float | None = None

    @property
    def gap(self) -> float:
        """Mean share where it is used minus that where it is not, 0 to 2."""
        return self.share - self.share_lacking

    @property
    def errors(self) -> float:
        """How much more often samples of the class that lack it are wrong, at least, 0 to 1; 0 without labels.

        The groups are small: three samples, two of them wrong, say little. So it is the lower end of an interval
        (`least_difference`).
        """
        if self.right is None or self.right_lacking is None:
            return 0.0
        return float(least_difference(self.right, self.having, self.right_lacking, self.lacking))

    @property
    def exclusive(self) -> float:
        """How much more of the class's relevance it holds than of any other's, 0 to 2."""
        return max(0.0, self.mean - self.elsewhere)

    @property
    def decides(self) -> float | None:
        """How far the concept alone decides, both when it is taken out and when it is put in; None if not measured."""
        return None if self.kept is None or self.pulled is None else min(1 - self.kept, self.pulled)

    @property
    def outside(self) -> float | None:
        """How much of its relevance lies outside the object beyond what even spread would put there, 0 to 1.

        None if it was not measured; 0 where nothing lies outside.
        """
        if self.relevance_outside is None or self.area_outside is None:
            return None
        return max(0.0, self.relevance_outside - self.area_outside) / max(1 - self.area_outside, 1e-9)

    @property
    def rare(self) -> bool:
        """Whether few samples of the class use it, and these much: a cluster that the class's mean hides."""
        return self.mean < SMALLEST_SHARE and self.share >= RARE_SHARE

    @property
    def score(self) -> float:
        """The sum of the evidence, `exclusive + gap + errors`, and of what was measured, `place + decides + outside`.

        It compares concepts for which the same was measured: others are ranked apart.
        """
        found = self.exclusive + self.gap + self.errors + (self.decides or 0.0) + (self.outside or 0.0)
        return found + (self.place or 0.0)

    @property
    def likely(self) -> bool:
        """Whether `exclusive`, `gap` and `errors` are all above the stated thresholds, `LIKELY`; or it is `fixed`."""
        return self.fixed or all(getattr(self, evidence) > least for evidence, least in LIKELY.items())

    @property
    def fixed(self) -> bool:
        """Whether it is the same at one place, as a watermark is: `place` is above the stated threshold, `FIXED`."""
        return self.place is not None and self.place > FIXED

    @property
    def name(self) -> str:
        """The concept as `crp fix` takes it, such as `conv5/37`."""
        return f"{self.layer}/{self.concept}"

    def to_json(self) -> dict[str, Any]:
        """Return the evidence as JSON values."""
        evidence = ("gap", "errors", "exclusive", "decides", "outside", "rare", "fixed", "score", "likely")
        found = {name: getattr(self, name) for name in evidence}
        return {**asdict(self), **found, "likely_above": {**LIKELY, "place": FIXED}}


def candidates(
    library: Library, *, layers: tuple[str, ...] | None = None, places: Coincidences | None = None
) -> list[Candidate]:
    """List concepts that a class may use for the wrong reason, the most suspicious first.

    A concept that only one class relies on, that some of its samples lack, and whose absence makes the model wrong, may
    be a Clever Hans: the classifier relies on what only goes along with the class. It may also be a legitimate feature.
    Groups of three samples are found, too, also if the concept has next to no share in the rest of the class.

    Parameters
    ----------
    library
        Mined with `vectors=True`.
    layers
        Some of its layers; by default all that have vectors.
    places
        How constant the places of its concepts are, as `coincidences` measured it on samples.

    Returns
    -------
    list of Candidate
        For each concept its most suspicious class. Likely ones come first, then concepts whose effects were measured;
        among equals the highest score is first.

    Raises
    ------
    InputError
        If the library has no concept vectors, or no such layer.
    """
    found = []
    for layer in layers or tuple(library.layers):
        found += _of_layer(library, layer, library.vectors(layer), (places or {}).get(layer, {}))
    return sorted(found, key=_order)


def _order(one: Candidate) -> tuple[bool, bool, float, str, int]:
    return not one.likely, one.decides is None, -one.score, one.layer, one.concept


def _of_layer(library: Library, layer: str, vectors: Vectors, places: Mapping[int, np.ndarray]) -> list[Candidate]:
    targets = [int(target) for target in np.unique(vectors.target[vectors.mined & (vectors.target >= 0)])]
    shares = {target: vectors.relevance[vectors.rows(target=target)].astype(np.float64) for target in targets}
    means = np.stack([values.mean(0) for values in shares.values()])
    best: dict[int, Candidate] = {}
    for place, (target, values) in enumerate(shares.items()):
        rows = vectors.rows(target=target)
        if len(rows) < 2 * LEAST:
            continue
        labelled = (vectors.label[rows] >= 0).all()
        right = vectors.prediction[rows] == vectors.label[rows]
        others = np.delete(means, place, 0)
        for concept in range(values.shape[1]):
            having = split(values[:, concept], right if labelled else np.ones_like(right))
            if having is None:
                continue
            one = Candidate(
                layer, concept, target, class_name(library.class_names, target, library.manifest["classes"]),
                int(having.sum()), int((~having).sum()),
                float(values[having, concept].mean()), float(values[~having, concept].mean()),
                float(right[having].mean()) if labelled else None,
                float(right[~having].mean()) if labelled else None,
                float(values[:, concept].mean()),
                float(others[:, concept].max()) if len(others) else 0.0,
                place=float(places[target][concept]) if target in places else None,
            )  # fmt: skip
            listed = one.mean >= SMALLEST_SHARE or one.share >= RARE_SHARE or one.fixed
            if listed and (concept not in best or _order(one) < _order(best[concept])):
                best[concept] = one
    return list(best.values())


def split(values: np.ndarray, right: np.ndarray) -> np.ndarray | None:
    """Split samples in two groups of at least three by their values `[n]`.

    The border is where the difference of the groups' means, plus how much their fractions of `right` predictions (bool
    `[n]`) differ at least (`least_difference`), is largest.

    Returns
    -------
    numpy.ndarray or None
        Which belong to the upper group, bool `[n]`; None if all values between which a border may lie are equal.

    Examples
    --------
    >>> split(np.array([0.0, 0.5, 0.1, 0.6, 0.0, 0.5, 0.1]), np.ones(7)).tolist()
    [False, True, False, True, False, True, False]
    """
    order = np.argsort(values, kind="stable")
    ordered, correct = values[order].astype(float), right[order].astype(float)
    count = len(order)
    below = np.arange(1, count)

    def means(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        low, total = numbers.cumsum()[:-1], numbers.sum()
        return (total - low) / (count - below), low / below

    allowed = (below >= LEAST) & (below <= count - LEAST) & (ordered[1:] > ordered[:-1])
    if not allowed.any():
        return None
    (high, low), (right_high, right_low) = means(ordered), means(correct)
    found = high - low + least_difference(right_high, count - below, right_low, below)
    return values > ordered[int(np.argmax(np.where(allowed, found, -np.inf)))]


def with_effects(
    found: list[Candidate],
    model: nn.Module,
    data: Tensor,
    kind: ConceptKind,
    count: int,
    *,
    masks: Tensor | None = None,
    progress: bool = True,
) -> list[Candidate]:
    """Measure what the first `count` candidates decide, by exchanging each between samples `[N, c, *S]`.

    The first 300 samples are used. Of candidates that are the same at one place, what is exchanged is the concept there
    (`placed_direction`). Those that fewer than 10 of the samples have, or lack, stay without figures. With `masks`,
    bool `[N, *S]`, where the samples show their object, the relevance outside them is measured, too. `progress` shows a
    bar.
    """
    data, masks = data[:EFFECTS], None if masks is None else masks[:EFFECTS]
    measured = []
    with progress_bar("measuring concepts", len(found[:count]), shown=progress, unit="concept") as bar:
        for one in found[:count]:
            concept, watched = one.concept, kind
            if one.fixed:
                concept = 0
                watched = placed_direction(model, data, one.layer, one.concept, kind=kind, progress=False)
            effects = exchange_effects(model, data, one.layer, concept, one.target, watched, progress=False)
            kept, pulled = effects or (None, None)
            there = None
            if masks is not None:
                there = relevance_outside(model, data, masks, one.layer, one.concept, one.target, kind)
            outside, area = there or (None, None)
            measured.append(replace(one, kept=kept, pulled=pulled, relevance_outside=outside, area_outside=area))
            bar.update(1)
    return sorted(measured + found[count:], key=_order)
