"""One prediction explained, as frozen values: what an atlas draws and what its JSON holds.

    Explanation              one input, one class: picture, heatmap, prediction, provenance
    └── LayerExplanation     one layer: which concepts count, what they leave over, how much relevance came by
        ├── ConceptPart      one concept: signed share, conditional heatmap
        │   └── Patch        one crop of a reference sample, with the concept's heatmap in it
        └── ConceptMap       the input cut into cells, the strongest concept of each

Only numpy arrays and plain Python numbers live here, so that drawing needs neither torch nor the model. The values
refuse to be built where their promises fail (shares that do not add up, a heatmap of another shape than the picture),
and their arrays are read-only. `numbers` gives everything but the pixels and heatmaps, `to_json` everything,
`from_json` reads it back.
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from crp.errors import InputError

FORMAT = "crp-atlas explanation"
VERSION = 1

# Shares are sums of float32 relevance over a whole layer; what is further off than this is a mistake, not rounding.
SHARE_TOLERANCE = 1e-4

_ARRAY_DTYPES = ("|u1", "<f4")


@dataclass(frozen=True, eq=False)
class Patch:
    """The part of one reference sample that a concept looks at.

    Parameters
    ----------
    sample
        Index of the sample in the data set.
    score
        What the sample counts for the concept, in the unit the library names.
    target
        Class that was explained when the sample was mined, -1 where none was.
    position
        Where the concept scored, in the layer's coordinates; empty for a linear layer.
    box
        (top, left, bottom, right) in pixels of the model input, bottom and right exclusive.
    picture
        uint8 [h, w, 3] (grey [h, w] and [h, w, 1] are converted), the crop.
    heatmap
        float32 [h, w] in -1..1, the conditional heatmap in the box divided by its largest absolute value.
    target_name
        Name of the class `target`, empty where there is none.

    Raises
    ------
    InputError
        The arrays do not have these shapes.
    """

    sample: int
    score: float
    target: int
    position: tuple[int, ...]
    box: tuple[int, int, int, int]
    picture: np.ndarray
    heatmap: np.ndarray
    target_name: str = ""

    def __post_init__(self) -> None:
        _set(self, picture=_picture(self.picture), heatmap=_heatmap(self.heatmap, self.picture))
        _set(self, sample=int(self.sample), score=float(self.score), target=int(self.target))
        _set(self, position=tuple(int(i) for i in self.position), box=tuple(int(i) for i in self.box))


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
        Relevance divided by the sum of absolute relevance of all concepts of the layer, -1..1.
    heatmap
        float32 [H, W], the concept's conditional heatmap at the input, not normalised.
    relevance_patches
        Best samples by relevance (RelMax), best first.
    activation_patches
        Best samples by activation (ActMax), best first.

    Raises
    ------
    InputError
        Share and relevance differ in sign, or the share is outside -1..1.
    """

    layer: str
    concept: int
    relevance: float
    share: float
    heatmap: np.ndarray
    relevance_patches: tuple[Patch, ...] = ()
    activation_patches: tuple[Patch, ...] = ()

    def __post_init__(self) -> None:
        _set(self, concept=int(self.concept), relevance=float(self.relevance), share=float(self.share))
        _set(self, heatmap=_frozen(np.asarray(self.heatmap, dtype=np.float32)))
        _set(self, relevance_patches=tuple(self.relevance_patches), activation_patches=tuple(self.activation_patches))
        if not -1 - SHARE_TOLERANCE <= self.share <= 1 + SHARE_TOLERANCE:
            raise InputError(f"the share of concept {self.concept} of {self.layer!r} is {self.share}, outside -1..1.")
        if self.share * self.relevance < 0:
            raise InputError(
                f"concept {self.concept} of {self.layer!r} has relevance {self.relevance} and share {self.share}: "
                "signs differ."
            )


@dataclass(frozen=True, eq=False)
class ConceptMap:
    """The input cut into a grid of cells, each with the concept that has most positive relevance in it.

    Parameters
    ----------
    layer
        Name of the layer.
    concept
        int64 [rows, columns], id of the concept (of all of the layer's), -1 where the cell holds almost no relevance.
    relevance
        float32 [rows, columns], relevance of that concept in that cell, 0 where blank.
    shape
        (height, width) of the input in pixels; cell (r, c) covers rows r * height / rows to (r + 1) * height / rows.

    Raises
    ------
    InputError
        The two tables differ in shape, or an id is below -1.
    """

    layer: str
    concept: np.ndarray
    relevance: np.ndarray
    shape: tuple[int, int]

    def __post_init__(self) -> None:
        _set(self, concept=_frozen(np.asarray(self.concept, dtype=np.int64)))
        _set(
            self,
            relevance=_frozen(np.asarray(self.relevance, dtype=np.float32)),
            shape=tuple(int(i) for i in self.shape),
        )
        if self.concept.ndim != 2 or self.concept.shape != self.relevance.shape:
            raise InputError(
                f"the concept map of {self.layer!r} has concepts of shape {self.concept.shape} and relevance of shape "
                f"{self.relevance.shape}; both are [rows, columns]."
            )
        if (self.concept < -1).any():
            raise InputError(
                f"the concept map of {self.layer!r} has concept {self.concept.min()}; ids start at 0, -1 is blank."
            )

    def strength(self) -> dict[int, float]:
        """Relevance each concept gathers over its cells: id -> sum, the largest first (ties: the smaller id first)."""
        ids = [int(i) for i in np.unique(self.concept) if i >= 0]
        sums = {i: float(self.relevance[self.concept == i].sum(dtype=np.float64)) for i in ids}
        return dict(sorted(sums.items(), key=lambda item: (-item[1], item[0])))


@dataclass(frozen=True, eq=False)
class LayerExplanation:
    """What one layer contributes: the concepts for and against, and what they leave over.

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
        Relevance arriving at the layer / relevance started at the output; nan where none was started.
    concept_map
        None for a layer without a place in the input.

    Raises
    ------
    InputError
        Absolute shares and rest do not add up to 1 (or, where no relevance arrives at all, to 0), a concept is listed
        twice or on the wrong side, or the lists are not sorted.
    """

    layer: str
    size: int
    supporting: tuple[ConceptPart, ...]
    opposing: tuple[ConceptPart, ...]
    rest: float
    coverage: float
    concept_map: ConceptMap | None = None

    def __post_init__(self) -> None:
        _set(self, supporting=tuple(self.supporting), opposing=tuple(self.opposing))
        _set(self, size=int(self.size), rest=float(self.rest), coverage=float(self.coverage))
        where = f"layer {self.layer!r}"
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

    @property
    def shown(self) -> float:
        """Sum of absolute shares of the concepts that are shown, 0..1."""
        return math.fsum(abs(part.share) for part in (*self.supporting, *self.opposing))


@dataclass(frozen=True)
class ClassScore:
    """One class of the prediction: index, name, logit and softmax probability (0..1)."""

    index: int
    name: str
    logit: float
    probability: float

    def __post_init__(self) -> None:
        _set(self, index=int(self.index), logit=float(self.logit), probability=float(self.probability))


@dataclass(frozen=True, eq=False)
class Explanation:
    """One prediction explained.

    Parameters
    ----------
    picture
        uint8 [H, W, 3] (grey [H, W] and [H, W, 1] are converted), what the model was given.
    heatmap
        float32 [H, W], relevance at the input, not normalised.
    classes
        The best classes (five, or all where there are fewer), best first.
    target
        The class that is explained.
    layers
        In the order they are shown.
    absorbed
        Part of the relevance started at the output that does not reach the input (biases, stabilisers);
        negative where biases add relevance, nan where none was started.
    provenance
        What is needed to trust and repeat it; plain values only. Known keys, all optional: "image" (name of the
        input), "command", "versions" (dict), "fingerprints" (dict), "settings" (dict).

    Raises
    ------
    InputError
        Heatmaps and picture differ in shape, or classes are not sorted by logit.
    """

    picture: np.ndarray
    heatmap: np.ndarray
    classes: tuple[ClassScore, ...]
    target: ClassScore
    layers: tuple[LayerExplanation, ...]
    absorbed: float
    provenance: Mapping[str, Any]

    def __post_init__(self) -> None:
        _set(self, picture=_picture(self.picture), heatmap=_heatmap(self.heatmap, self.picture))
        _set(self, classes=tuple(self.classes), layers=tuple(self.layers), absorbed=float(self.absorbed))
        _set(self, provenance=dict(self.provenance))
        logits = [score.logit for score in self.classes]
        if not logits or logits != sorted(logits, reverse=True):
            raise InputError(f"the classes of an explanation are given best first; these have the logits {logits}.")
        for part in (part for layer in self.layers for part in layer.ranked):
            if part.heatmap.shape != self.heatmap.shape:
                raise InputError(
                    f"the heatmap of concept {part.concept} of {part.layer!r} has shape {part.heatmap.shape}, "
                    f"the picture {self.heatmap.shape}."
                )

    @property
    def best(self) -> ClassScore:
        """The class with the largest logit."""
        return self.classes[0]


def numbers(explanation: Explanation) -> dict[str, Any]:
    """All numbers and names of an explanation as plain JSON values, without pictures and heatmaps.

    A number that is undefined (nan) is None. This is what the page embeds; `to_json` holds the same and the arrays.
    """
    height, width = explanation.heatmap.shape
    return {
        "format": FORMAT,
        "version": VERSION,
        "input": {"height": height, "width": width},
        "classes": [_class_numbers(score) for score in explanation.classes],
        "target": _class_numbers(explanation.target),
        "absorbed": _defined(explanation.absorbed),
        "layers": [_layer_numbers(layer) for layer in explanation.layers],
        "provenance": dict(explanation.provenance),
    }


def to_json(explanation: Explanation) -> dict[str, Any]:
    """The whole explanation as plain JSON values: `numbers` and a table "arrays".

    An array is {"dtype": "|u1" or "<f4", "shape": [...], "data": base64 of zlib of its bytes in C order}; its name says
    where it belongs, as in "layers/0/supporting/2/heatmap".
    """
    arrays = {"picture": explanation.picture, "heatmap": explanation.heatmap}
    for place, part in _parts(explanation):
        arrays[f"{place}/heatmap"] = part.heatmap
        for kind in ("relevance_patches", "activation_patches"):
            for index, patch in enumerate(getattr(part, kind)):
                arrays[f"{place}/{kind}/{index}/picture"] = patch.picture
                arrays[f"{place}/{kind}/{index}/heatmap"] = patch.heatmap
    return numbers(explanation) | {"arrays": {name: _packed(array) for name, array in arrays.items()}}


def from_json(content: Mapping[str, Any]) -> Explanation:
    """Build the explanation that `to_json` wrote.

    Raises
    ------
    InputError
        `content` is something else, of a newer version, or incomplete.
    """
    if not isinstance(content, Mapping) or content.get("format") != FORMAT:
        raise InputError(f'this is no explanation: its "format" is not {FORMAT!r}.')
    if content.get("version") != VERSION:
        raise InputError(
            f"this explanation has version {content.get('version')!r}; this program reads version {VERSION}."
        )
    if "arrays" not in content:
        raise InputError(
            "this explanation holds numbers only (as embedded in a page); the file saved as .json holds the arrays too."
        )
    try:
        return _explanation(content)
    except (KeyError, IndexError, TypeError, ValueError, zlib.error) as error:
        raise InputError(f"this explanation is damaged: {type(error).__name__} {error}.") from error


def _explanation(content: Mapping[str, Any]) -> Explanation:
    arrays = {name: _unpacked(packed) for name, packed in content["arrays"].items()}
    return Explanation(
        picture=arrays["picture"],
        heatmap=arrays["heatmap"],
        classes=tuple(ClassScore(**score) for score in content["classes"]),
        target=ClassScore(**content["target"]),
        layers=tuple(_layer(layer, f"layers/{index}", arrays) for index, layer in enumerate(content["layers"])),
        absorbed=_undefined(content["absorbed"]),
        provenance=content["provenance"],
    )


def _layer(content: Mapping[str, Any], place: str, arrays: Mapping[str, np.ndarray]) -> LayerExplanation:
    concept_map = content["concept_map"]
    if concept_map is not None:
        concept_map = ConceptMap(layer=content["layer"], **concept_map)
    sides = {
        side: tuple(
            _part(content["layer"], part, f"{place}/{side}/{i}", arrays) for i, part in enumerate(content[side])
        )
        for side in ("supporting", "opposing")
    }
    return LayerExplanation(
        layer=content["layer"],
        size=content["size"],
        rest=content["rest"],
        coverage=_undefined(content["coverage"]),
        concept_map=concept_map,
        **sides,
    )


def _part(layer: str, content: Mapping[str, Any], place: str, arrays: Mapping[str, np.ndarray]) -> ConceptPart:
    patches = {
        kind: tuple(
            Patch(**patch, picture=arrays[f"{place}/{kind}/{i}/picture"], heatmap=arrays[f"{place}/{kind}/{i}/heatmap"])
            for i, patch in enumerate(content[kind])
        )
        for kind in ("relevance_patches", "activation_patches")
    }
    return ConceptPart(
        layer=layer,
        concept=content["concept"],
        relevance=content["relevance"],
        share=content["share"],
        heatmap=arrays[f"{place}/heatmap"],
        **patches,
    )


def _class_numbers(score: ClassScore) -> dict[str, Any]:
    return {"index": score.index, "name": score.name, "logit": score.logit, "probability": score.probability}


def _layer_numbers(layer: LayerExplanation) -> dict[str, Any]:
    concept_map = layer.concept_map
    if concept_map is not None:
        concept_map = {
            "concept": concept_map.concept.tolist(),
            "relevance": concept_map.relevance.tolist(),
            "shape": list(concept_map.shape),
        }
    return {
        "layer": layer.layer,
        "size": layer.size,
        "supporting": [_part_numbers(part) for part in layer.supporting],
        "opposing": [_part_numbers(part) for part in layer.opposing],
        "rest": layer.rest,
        "coverage": _defined(layer.coverage),
        "concept_map": concept_map,
    }


def _part_numbers(part: ConceptPart) -> dict[str, Any]:
    return {
        "concept": part.concept,
        "relevance": part.relevance,
        "share": part.share,
        "relevance_patches": [_patch_numbers(patch) for patch in part.relevance_patches],
        "activation_patches": [_patch_numbers(patch) for patch in part.activation_patches],
    }


def _patch_numbers(patch: Patch) -> dict[str, Any]:
    return {
        "sample": patch.sample,
        "score": patch.score,
        "target": patch.target,
        "target_name": patch.target_name,
        "position": list(patch.position),
        "box": list(patch.box),
    }


def _parts(explanation: Explanation) -> Iterator[tuple[str, ConceptPart]]:
    for index, layer in enumerate(explanation.layers):
        for side in ("supporting", "opposing"):
            for number, part in enumerate(getattr(layer, side)):
                yield f"layers/{index}/{side}/{number}", part


def _packed(array: np.ndarray) -> dict[str, Any]:
    little_endian = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    data = base64.b64encode(zlib.compress(little_endian.tobytes())).decode("ascii")
    return {"dtype": little_endian.dtype.str, "shape": list(array.shape), "data": data}


def _unpacked(packed: Mapping[str, Any]) -> np.ndarray:
    if packed["dtype"] not in _ARRAY_DTYPES:
        raise ValueError(f"array of dtype {packed['dtype']!r}")
    size = math.prod(packed["shape"]) * np.dtype(packed["dtype"]).itemsize
    # No more than the shape asks for: a small file must not unpack into a large one.
    data = zlib.decompressobj().decompress(base64.b64decode(packed["data"], validate=True), size + 1)
    return np.frombuffer(data, dtype=packed["dtype"]).reshape(packed["shape"])


def _defined(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _undefined(value: float | None) -> float:
    return math.nan if value is None else value


def _picture(array: np.ndarray) -> np.ndarray:
    picture = np.asarray(array)
    if picture.ndim == 2:
        picture = picture[..., None]
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] not in (1, 3) or 0 in picture.shape:
        raise InputError(
            f"a picture is uint8 [h, w, 3] or grey [h, w]; this one is {picture.dtype} {list(picture.shape)}."
        )
    return _frozen(np.broadcast_to(picture, (*picture.shape[:2], 3)))


def _heatmap(array: np.ndarray, picture: np.ndarray) -> np.ndarray:
    heatmap = np.asarray(array, dtype=np.float32)
    if heatmap.shape != np.shape(picture)[:2]:
        raise InputError(f"a heatmap of shape {heatmap.shape} does not fit a picture of shape {np.shape(picture)}.")
    return _frozen(heatmap)


def _frozen(array: np.ndarray) -> np.ndarray:
    # A view: the caller's own array keeps its flags.
    view = array.view()
    view.flags.writeable = False
    return view


def _set(value: object, **fields: Any) -> None:
    for name, content in fields.items():
        object.__setattr__(value, name, content)
