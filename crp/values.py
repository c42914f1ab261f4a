"""Small frozen values that explanations and graphs are made of, and arrays as JSON.

Constructors raise an error if a value is inconsistent; arrays are read-only.
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from crp.errors import InputError

_ARRAY_DTYPES = ("|u1", "<f4", "<f8")


@dataclass(frozen=True, eq=False)
class Patch:
    """The part of one reference sample in which a concept scored.

    Parameters
    ----------
    sample
        Index of the sample in the data set.
    score
        Score of the sample for the concept, as the library defines it.
    target
        Class that was explained when the sample was mined, -1 for none.
    position
        Where the concept scored, in the layer's coordinates; empty for a linear layer.
    box
        (top, left, bottom, right) in pixels of the model input, bottom and right exclusive; of a signal (start, stop);
        of a volume the first slice, row and column, then the ends.
    picture
        The crop: uint8 [h, w, 3] (grey [h, w] and [h, w, 1] are converted); for a signal or a volume its values,
        float32 [c, t] or [c, d, h, w].
    heatmap
        float32 [h, w], [t] or [d, h, w] in -1..1, the conditional heatmap in the box divided by its largest absolute
        value.
    target_name
        Name of the class `target`, empty if there is none.
    sample_name
        Name of the sample in its data set, such as that of a file; empty if it is not known.

    Raises
    ------
    InputError
        If the arrays do not have these shapes.
    """

    sample: int
    score: float
    target: int
    position: tuple[int, ...]
    box: tuple[int, ...]
    picture: np.ndarray
    heatmap: np.ndarray
    target_name: str = ""
    sample_name: str = ""

    def __post_init__(self) -> None:
        """Check and convert the fields."""
        set_fields(self, picture=picture_array(self.picture), heatmap=heatmap_array(self.heatmap, self.picture))
        set_fields(self, sample=int(self.sample), score=float(self.score), target=int(self.target))
        set_fields(self, position=tuple(int(i) for i in self.position), box=tuple(int(i) for i in self.box))


@dataclass(frozen=True)
class ClassScore:
    """One class of the prediction, or the only output of a model.

    Parameters
    ----------
    index
        Index of the class.
    name
        Its name.
    logit
        The model's output for it.
    probability
        Softmax over all classes, 0..1. None for a model with one output (a regression, a binary logit): there is
        nothing to take a softmax over.
    """

    index: int
    name: str
    logit: float
    probability: float | None

    def __post_init__(self) -> None:
        """Check and convert the fields."""
        set_fields(self, index=int(self.index), logit=float(self.logit))
        if self.probability is not None:
            set_fields(self, probability=float(self.probability))

    @property
    def value(self) -> float:
        """What is explained of it: the logit."""
        return self.logit


@dataclass(frozen=True)
class StartScore:
    """What is explained, where it is not the output for one class: a mask, a box, a similarity, several classes.

    Parameters
    ----------
    name
        What the start calls itself (`crp.attribution.starts`).
    value
        The number that is explained: the sum of the relevance that starts.
    outputs
        Of how many of the model's outputs, other than zero, that is the sum. None if it is not a sum of outputs, or not
        known (files of earlier versions).
    """

    name: str
    value: float
    outputs: int | None = None

    def __post_init__(self) -> None:
        """Check and convert the fields."""
        set_fields(self, value=float(self.value))

    @property
    def index(self) -> int:
        """The id of its node in a graph."""
        return 0


@dataclass(frozen=True)
class ConceptEffect:
    """What becomes of the explained output when a concept is removed from the model.

    Parameters
    ----------
    before, after
        The number that is explained, with the concept and without it: its part of the layer's output is zero.
    probability
        The probability of the explained class without it, 0..1; None if what is explained has no probability.
    at_mean, mean_probability
        The same with the concept's mean over the data set in its place; None if the library holds no means.
    """

    before: float
    after: float
    probability: float | None = None
    at_mean: float | None = None
    mean_probability: float | None = None

    def __post_init__(self) -> None:
        """Check that the numbers are finite."""
        numbers = [self.before, self.after, *([] if self.at_mean is None else [self.at_mean])]
        if not all(map(math.isfinite, numbers)):
            raise InputError(f"the effect of removing a concept is finite, given {', '.join(map(str, numbers))}.")

    @property
    def fall(self) -> float:
        """How much the explained number falls without the concept; negative if it rises."""
        return self.before - self.after

    @property
    def falls(self) -> tuple[float, ...]:
        """How much it falls by each way of removing the concept that was measured: zero, then the mean."""
        return (self.fall,) if self.at_mean is None else (self.fall, self.before - self.at_mean)


@dataclass(frozen=True, eq=False)
class ConceptMeans:
    """What the mean parts of a layer's concepts over a data set are made of (`crp.concepts.MeanParts`).

    Parameters
    ----------
    numbers
        float64 `[m]`. Of channels and attention heads, the mean activation of each of the layer's channels over samples
        and positions; of directions, their mean coefficients; of positions and tokens, the mean activation of each
        channel at each position, with `m = C * P`. `ConceptKind.averages` says it for any kind.
    samples
        Number of samples that the means are of; 0 if all were skipped, and the means are 0 then.
    """

    numbers: np.ndarray
    samples: int

    def __post_init__(self) -> None:
        """Check that the means are finite."""
        numbers = np.array(self.numbers, dtype=np.float64)
        numbers.flags.writeable = False
        set_fields(self, numbers=numbers)
        if numbers.ndim != 1 or not np.isfinite(numbers).all() or self.samples < 0:
            raise InputError(
                f"means are finite numbers [m] of some samples, given {list(numbers.shape)} of {self.samples}."
            )


@dataclass(frozen=True)
class ClassShare:
    """How much a class uses a concept.

    Parameters
    ----------
    index
        Index of the class.
    name
        Its name.
    share
        Mean signed share of the layer over the samples explained for the class, -1..1.
    samples
        Number of these samples; None in files of earlier versions.
    spread
        Standard deviation of the share over these samples (divided by their number); None for fewer than two.
    """

    index: int
    name: str
    share: float
    samples: int | None = None
    spread: float | None = None

    def __post_init__(self) -> None:
        """Check and convert the fields."""
        set_fields(self, index=int(self.index), share=float(self.share))
        if self.samples is not None:
            set_fields(self, samples=int(self.samples))
        if self.spread is not None:
            set_fields(self, spread=float(self.spread))


def class_numbers(score: ClassScore | StartScore) -> dict[str, Any]:
    """Turn a class, or another start, into plain JSON values."""
    if isinstance(score, StartScore):
        return {"name": score.name, "value": score.value, "outputs": score.outputs}
    return {"index": score.index, "name": score.name, "logit": score.logit, "probability": score.probability}


def class_from(content: Mapping[str, Any], outputs: int) -> ClassScore:
    """Read the class that `class_numbers` wrote, of a model with at least `outputs` outputs.

    Files of earlier versions hold a probability of 1 for the only output of a model; it is dropped.
    """
    return ClassScore(**content) if outputs > 1 else ClassScore(**{**content, "probability": None})


def target_from(content: Mapping[str, Any], outputs: int) -> ClassScore | StartScore:
    """Read the class or start that `class_numbers` wrote; `outputs` as in `class_from`."""
    return StartScore(**content) if "value" in content else class_from(content, outputs)


def patch_numbers(patch: Patch) -> dict[str, Any]:
    """Turn a patch into plain JSON values, without its two arrays."""
    return {
        "sample": patch.sample,
        "score": patch.score,
        "target": patch.target,
        "target_name": patch.target_name,
        "position": list(patch.position),
        "box": list(patch.box),
        **({"sample_name": patch.sample_name} if patch.sample_name else {}),
    }


def packed_patch(place: str, patch: Patch) -> dict[str, np.ndarray]:
    """Collect the arrays of a patch by name; `place` is the prefix of both names."""
    return {f"{place}/picture": patch.picture, f"{place}/heatmap": patch.heatmap}


def patch_from(content: Mapping[str, Any], place: str, arrays: Mapping[str, np.ndarray]) -> Patch:
    """Read the patch of `patch_numbers` and `packed_patch`; other entries of `content` are ignored."""
    fields = {name: content[name] for name in ("sample", "score", "target", "target_name", "position", "box")}
    return Patch(
        **fields,
        picture=arrays[f"{place}/picture"],
        heatmap=arrays[f"{place}/heatmap"],
        sample_name=content.get("sample_name", ""),
    )


def packed(array: np.ndarray) -> dict[str, Any]:
    """Pack an array as {"dtype", "shape", "data": base64 of zlib of its bytes in C order}."""
    little_endian = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    data = base64.b64encode(zlib.compress(little_endian.tobytes())).decode("ascii")
    return {"dtype": little_endian.dtype.str, "shape": list(array.shape), "data": data}


def unpacked(packed: Mapping[str, Any]) -> np.ndarray:
    """Unpack the array that `packed` wrote; ValueError or zlib.error if it is damaged."""
    if packed["dtype"] not in _ARRAY_DTYPES:
        raise ValueError(f"array of dtype {packed['dtype']!r}")
    size = math.prod(packed["shape"]) * np.dtype(packed["dtype"]).itemsize
    # Unpack no more than the shape needs, so that a small file cannot fill the memory.
    data = zlib.decompressobj().decompress(base64.b64decode(packed["data"], validate=True), size + 1)
    return np.frombuffer(data, dtype=packed["dtype"]).reshape(packed["shape"])


def defined(value: float) -> float | None:
    """Return None for NaN, which JSON cannot hold."""
    return value if math.isfinite(value) else None


def undefined(value: float | None) -> float:
    """Return NaN for None."""
    return math.nan if value is None else value


def picture_array(array: np.ndarray) -> np.ndarray:
    """Convert an input for drawing: an image to read-only uint8 `[h, w, 3]`, other inputs to float32 `[c, *S]`.

    Raises
    ------
    InputError
        If it is neither.
    """
    picture = np.asarray(array)
    if np.issubdtype(picture.dtype, np.floating):
        if picture.ndim not in (2, 4) or 0 in picture.shape:
            raise InputError(
                f"a signal is float [c, T] and a volume float [c, D, H, W]; this one is {list(picture.shape)}."
            )
        return frozen(picture.astype(np.float32))
    if picture.ndim == 2:
        picture = picture[..., None]
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] not in (1, 3) or 0 in picture.shape:
        raise InputError(
            f"a picture is uint8 [h, w, 3] or grey [h, w]; this one is {picture.dtype} {list(picture.shape)}."
        )
    return frozen(np.broadcast_to(picture, (*picture.shape[:2], 3)))


def finite_array(array: np.ndarray, what: str) -> np.ndarray:
    """Convert relevance to read-only float32 of any shape; `what` names it in messages.

    Raises
    ------
    InputError
        If a value is NaN or infinite.
    """
    relevance = np.asarray(array, dtype=np.float32)
    if not np.isfinite(relevance).all():
        raise InputError(f"{what} holds values that are not finite (NaN or infinite).")
    return frozen(relevance)


def heatmap_array(array: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """Convert a heatmap to read-only float32 `[*S]`.

    Raises
    ------
    InputError
        If it does not have the shape of the picture, or a value is not finite.
    """
    heatmap = finite_array(array, "a heatmap")
    if heatmap.shape != (picture.shape[:2] if picture.dtype == np.uint8 else picture.shape[1:]):
        raise InputError(f"a heatmap of shape {heatmap.shape} does not fit a picture of shape {np.shape(picture)}.")
    return heatmap


def frozen(array: np.ndarray) -> np.ndarray:
    """Make a read-only view; the caller's array keeps its flags."""
    view = array.view()
    view.flags.writeable = False
    return view


def set_fields(value: object, /, **fields: Any) -> None:
    """Set fields of a frozen value while it is made."""
    for name, content in fields.items():
        object.__setattr__(value, name, content)
