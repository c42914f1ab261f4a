"""One prediction explained, as frozen values: what an atlas draws and what its JSON holds.

    Explanation              one input, one class or other start: picture, heatmap, prediction, provenance
    ├── LayerExplanation     one layer: its concepts for and against, the rest, how much relevance arrives
    │   ├── ConceptPart      one concept: signed share, conditional heatmap, the classes that use it
    │   │   └── Patch        one crop of a reference sample, with the concept's heatmap in it
    │   ├── Ablations        the model's outputs without these concepts, one and two at a time
    │   └── ConceptMap       the input divided into cells: the strongest concept of each, all concepts in all cells
    ├── ConceptGraph         how lower concepts compose higher ones (crp.graphs.concept_graph)
    └── Explanation …        the same input, explained for another class or for the difference of two

They hold only numpy arrays and plain numbers, so that drawing needs neither torch nor the model. Constructors
raise an error if a value is inconsistent (shares that do not add up, a heatmap of another shape than the picture), and
arrays are read-only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from crp.errors import InputError
from crp.explanations.ablations import Ablations
from crp.explanations.concept_map import ConceptMap
from crp.graphs.concept_graph import ConceptGraph
from crp.library.given_names import LayerNaming
from crp.media.medium import Medium
from crp.places import ContextUse, Place, context_use
from crp.values import (
    ClassScore,
    ClassShare,
    ConceptEffect,
    Patch,
    StartScore,
    finite_array,
    frozen,
    heatmap_array,
    picture_array,
    set_fields,
)

# Shares are sums of float32 relevance over a whole layer; a larger deviation is an error, not rounding.
SHARE_TOLERANCE = 1e-4


@dataclass(frozen=True, eq=False)
class ConceptPart:
    """What one concept contributes to the prediction.

    Parameters
    ----------
    layer
        Name of the layer.
    concept
        Id of the concept in the layer.
    relevance
        Signed relevance that arrives at the concept, summed over space.
    share
        Share of the layer: `relevance` divided by the sum of the absolute relevance of all concepts of the layer,
        -1..1.
    heatmap
        float32 [*S], the concept's conditional heatmap at the input, not normalised.
    relevance_patches
        Best samples by relevance (RelMax), best first.
    activation_patches
        Best samples by activation (ActMax), best first.
    patches_missing
        Number of patches that would be shown, but have not been made yet.
    classes
        The classes that use the concept most in the mined data, in the order of `crp.library.profiles.class_shares`.
    effect
        What becomes of the explained output when the concept is removed from the model (its part of the layer's output
        becomes zero); None if this was not measured.

    Raises
    ------
    InputError
        If share and relevance differ in sign, the share is outside -1..1, or the heatmap is not finite.
    """

    layer: str
    concept: int
    relevance: float
    share: float
    heatmap: np.ndarray
    relevance_patches: tuple[Patch, ...] = ()
    activation_patches: tuple[Patch, ...] = ()
    patches_missing: int = 0
    classes: tuple[ClassShare, ...] = ()
    effect: ConceptEffect | None = None

    def __post_init__(self) -> None:
        """Check and convert the fields."""
        set_fields(self, classes=tuple(self.classes))
        set_fields(self, concept=int(self.concept), relevance=float(self.relevance), share=float(self.share))
        set_fields(self, heatmap=finite_array(self.heatmap, f"the heatmap of concept {self.concept} of {self.layer!r}"))
        set_fields(self, relevance_patches=tuple(self.relevance_patches))
        set_fields(self, activation_patches=tuple(self.activation_patches))
        if not -1 - SHARE_TOLERANCE <= self.share <= 1 + SHARE_TOLERANCE:
            raise InputError(f"the share of concept {self.concept} of {self.layer!r} is {self.share}, outside -1..1.")
        if self.share * self.relevance < 0:
            raise InputError(
                f"concept {self.concept} of {self.layer!r} has relevance {self.relevance} and share {self.share}: "
                "signs differ."
            )


@dataclass(frozen=True, eq=False)
class LayerExplanation:
    """What one layer contributes: the concepts for and against, and the rest.

    Parameters
    ----------
    layer
        Name of the layer.
    size
        Number of concepts of the layer.
    supporting
        Concepts with positive relevance, largest first.
    opposing
        Concepts with negative relevance, most negative first.
    rest
        Sum of absolute shares of all concepts not shown, 0..1.
    coverage
        Relevance arriving at the layer / relevance started at the output; NaN if none was started, or `first_order`.
    concept_map
        None for a layer without spatial axes.
    relevance
        float64 [size], signed relevance of all concepts, if it is kept.
    glimpses
        One patch for each concept that is not shown but that the ranking of a region may list: id -> patch.
    outside
        Relevance that arrives at the layer and belongs to none of its concepts; 0 if they divide all of it.
    first_order
        Whether relevance is the first-order effect of removing a concept, which does not add up to the output: in nets
        with norms, attention, gates or smooth activations.
    names
        The name of every concept (a person's label, or what its kind calls it), empty for those without; `()` if none
        has a name.
    naming
        What people said about the concepts, and what tells the concepts from others; None if this is not known.
    ablations
        What the model answers without the concepts that are shown, one and two at a time: their parts of the layer's
        output are zero. None if it was not measured.
    mean_ablations
        The same with their parts at their means over the mined data.
    overlooked
        Of `first_order` layers, the most active concepts that are not shown and whose removal changes what is explained
        by more than that of any concept that is shown: id -> effect, the largest first.

    Raises
    ------
    InputError
        If absolute shares and rest do not add up to 1 (or to 0 if no relevance arrives), a concept is listed
        twice or on the wrong side, or the lists are not sorted.
    """

    layer: str
    size: int
    supporting: tuple[ConceptPart, ...]
    opposing: tuple[ConceptPart, ...]
    rest: float
    coverage: float
    concept_map: ConceptMap | None = None
    relevance: np.ndarray | None = None
    glimpses: Mapping[int, Patch] = field(default_factory=dict)
    outside: float = 0.0
    first_order: bool = False
    names: tuple[str, ...] = ()
    naming: LayerNaming | None = None
    ablations: Ablations | None = None
    mean_ablations: Ablations | None = None
    overlooked: Mapping[int, ConceptEffect] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check and convert the fields."""
        set_fields(self, supporting=tuple(self.supporting), opposing=tuple(self.opposing))
        set_fields(self, size=int(self.size), rest=float(self.rest), coverage=float(self.coverage))
        set_fields(self, outside=float(self.outside), names=tuple(self.names))
        where = f"layer {self.layer!r}"
        if self.names and len(self.names) != self.size:
            raise InputError(f"{where} has {self.size} concepts and {len(self.names)} names.")
        for side, parts, sign in (("supporting", self.supporting, 1), ("opposing", self.opposing, -1)):
            shares = [sign * part.share for part in parts]
            if any(share < 0 for share in shares):
                raise InputError(f"{where} lists a concept as {side} whose share is {sign * min(shares)}.")
            if shares != sorted(shares, reverse=True):
                raise InputError(f"the {side} concepts of {where} are not sorted by share.")
        ids = [part.concept for part in self.ranked]
        if len(set(ids)) < len(ids):
            raise InputError(f"{where} lists concept {next(i for i in ids if ids.count(i) > 1)} twice.")
        if any(not 0 <= i < self.size for i in ids):
            raise InputError(
                f"{where} lists concept {next(i for i in ids if not 0 <= i < self.size)}; it has 0..{self.size - 1}."
            )
        if self.relevance is not None:
            set_fields(self, relevance=frozen(np.asarray(self.relevance, dtype=np.float64)))
            if self.relevance.shape != (self.size,):
                raise InputError(f"{where} has {self.size} concepts and relevance of shape {self.relevance.shape}.")
        set_fields(self, overlooked={int(concept): effect for concept, effect in self.overlooked.items()})
        if known := set(ids) & set(self.overlooked):
            raise InputError(f"{where} shows concept {min(known)}, and lists it as overlooked.")
        set_fields(self, glimpses={int(concept): patch for concept, patch in self.glimpses.items()})
        total = self.shown + self.rest
        silent = total == 0
        if self.rest < -SHARE_TOLERANCE or not (silent or abs(total - 1) <= SHARE_TOLERANCE):
            raise InputError(
                f"{where} shows {self.shown:.6f} of the relevance and leaves {self.rest:.6f}: together that must be 1."
            )

    @property
    def ranked(self) -> tuple[ConceptPart, ...]:
        """Supporting and opposing concepts in one list, the largest absolute share first."""
        return tuple(sorted((*self.supporting, *self.opposing), key=lambda part: -abs(part.share)))

    def shares(self) -> np.ndarray | None:
        """Return the signed share of every concept, float64 `[size]`; None if their relevance is not kept."""
        if self.relevance is None:
            return None
        total = np.abs(self.relevance).sum()
        return self.relevance / total if total else self.relevance

    def name_of(self, concept: int) -> str:
        """Return the name of a concept; empty if it has only its number."""
        return self.names[concept] if self.names else ""

    @property
    def shown(self) -> float:
        """Sum of absolute shares of the concepts that are shown, 0..1."""
        return math.fsum(abs(part.share) for part in (*self.supporting, *self.opposing))


@dataclass(frozen=True, eq=False)
class Explanation:
    """One prediction explained.

    Parameters
    ----------
    picture
        The model's input: a picture, uint8 [H, W, 3] (grey [H, W] and [H, W, 1] are converted); for a signal or a
        volume, its values, float32 [c, T] or [c, D, H, W].
    heatmap
        float32 [*S], relevance at the input, not normalised: [H, W], [T] or [D, H, W].
    classes
        The best classes (five, or all where there are fewer), best first. Empty if the model's output does not hold
        the logits of classes: a segmentation, a detector, an embedding.
    target
        The class that is explained, or another start (a mask, a similarity, several classes) with its value.
    layers
        The layers, in the order in which they are shown.
    absorbed
        Part of the relevance started at the output that does not reach the input (biases, stabilisers);
        negative if biases add relevance, NaN if none was started.
    absorbers
        The modules that absorb or add most relevance on the way to the input, the strongest first: name, and part of
        the relevance that started (negative where it adds).
    departure
        The first operation on the way to the input below which less than a tenth or more than three times of the
        relevance is left: name of its module (empty for the model itself), its class or function, and the part that is
        left. None if there is no such operation.
    provenance
        What is needed to check and to repeat the explanation; plain values only. Known keys, all optional: "image"
        (name of the input), "command", "versions" (dict), "fingerprints" (dict), "settings" (dict).
    against
        The class, or start, whose relevance was subtracted, if a difference is explained: "why `target` and not
        `against`".
    graph
        The attribution graph, if it was computed.
    beside
        The same input explained for another class, or for the difference of two.
    place
        The mask or box in the input that is explained, if there is one.
    probabilities
        How the logits became probabilities: "softmax", or "sigmoid" for each class on its own. Empty if there are none,
        or that is not known.
    medium
        What the input is, with the meaning of its axes; None for a picture, and where that is not known.

    Raises
    ------
    InputError
        If heatmaps, place and picture differ in shape, classes are not sorted by logit, a class is explained and none
        is listed, or `beside` holds another input.
    """

    picture: np.ndarray
    heatmap: np.ndarray
    classes: tuple[ClassScore, ...]
    target: ClassScore | StartScore
    layers: tuple[LayerExplanation, ...]
    absorbed: float
    provenance: Mapping[str, Any]
    against: ClassScore | StartScore | None = None
    graph: ConceptGraph | None = None
    beside: tuple[Explanation, ...] = ()
    absorbers: tuple[tuple[str, float], ...] = ()
    departure: tuple[str, str, float] | None = None
    medium: Medium | None = None
    place: Place | None = None
    probabilities: str = ""

    def __post_init__(self) -> None:
        """Check and convert the fields."""
        set_fields(self, picture=picture_array(self.picture), heatmap=heatmap_array(self.heatmap, self.picture))
        set_fields(self, classes=tuple(self.classes), layers=tuple(self.layers), absorbed=float(self.absorbed))
        set_fields(self, absorbers=tuple((str(name), float(part)) for name, part in self.absorbers))
        set_fields(self, provenance=dict(self.provenance), beside=tuple(self.beside))
        if any(not np.array_equal(other.picture, self.picture) for other in self.beside):
            raise InputError("all explanations in `beside` must be of the same input; these have other pictures.")
        if self.place is not None and self.place.mask.shape != self.heatmap.shape:
            sizes = list(self.place.mask.shape), list(self.heatmap.shape)
            raise InputError("the place that is explained has the size {}, and the picture {}.".format(*sizes))
        logits = [score.logit for score in self.classes]
        missing = not logits and isinstance(self.target, ClassScore)
        if missing or logits != sorted(logits, reverse=True):
            raise InputError(f"an explanation's classes must be sorted, best first; these have the logits {logits}.")
        for part in (part for layer in self.layers for part in layer.ranked):
            if part.heatmap.shape != self.heatmap.shape:
                raise InputError(
                    f"the heatmap of concept {part.concept} of {part.layer!r} has shape {part.heatmap.shape}, "
                    f"the picture {self.heatmap.shape}."
                )

    def context_of(self, part: ConceptPart) -> ContextUse | None:
        """Return how much of a concept's relevance, of its own sign, lies inside of the place; None without one."""
        return None if self.place is None else context_use(part.heatmap, self.place, -1 if part.share < 0 else 1)

    @property
    def best(self) -> ClassScore | None:
        """The class with the largest logit; None if the model's output has no classes."""
        return self.classes[0] if self.classes else None
