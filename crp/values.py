"""Small frozen values that explanations and graphs are made of, and how arrays become JSON and come back.

Values refuse to be built where their promises fail, and their arrays are read-only.
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
        (top, left, bottom, right) in pixels of the model input, bottom and right exclusive; of a signal (start, stop).
    picture
        The crop: uint8 [h, w, 3] (grey [h, w] and [h, w, 1] are converted); of a signal its values, float32 [c, t].
    heatmap
        float32 [h, w] or [t] in -1..1, the conditional heatmap in the box divided by its largest absolute value.
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
    box: tuple[int, ...]
    picture: np.ndarray
    heatmap: np.ndarray
    target_name: str = ""

    def __post_init__(self) -> None:
        set_fields(self, picture=picture_array(self.picture), heatmap=heatmap_array(self.heatmap, self.picture))
        set_fields(self, sample=int(self.sample), score=float(self.score), target=int(self.target))
        set_fields(self, position=tuple(int(i) for i in self.position), box=tuple(int(i) for i in self.box))


@dataclass(frozen=True)
class ClassScore:
    """One class of the prediction: index, name, logit and softmax probability (0..1)."""

    index: int
    name: str
    logit: float
    probability: float

    def __post_init__(self) -> None:
        set_fields(self, index=int(self.index), logit=float(self.logit), probability=float(self.probability))


@dataclass(frozen=True)
class ClassShare:
    """How much a class uses a concept: index, name, and the concept's mean signed share over the class's samples."""

    index: int
    name: str
    share: float

    def __post_init__(self) -> None:
        set_fields(self, index=int(self.index), share=float(self.share))


def class_numbers(score: ClassScore) -> dict[str, Any]:
    """A class as plain JSON values."""
    return {"index": score.index, "name": score.name, "logit": score.logit, "probability": score.probability}


def patch_numbers(patch: Patch) -> dict[str, Any]:
    """A patch as plain JSON values, without its two arrays."""
    return {
        "sample": patch.sample,
        "score": patch.score,
        "target": patch.target,
        "target_name": patch.target_name,
        "position": list(patch.position),
        "box": list(patch.box),
    }


def packed_patch(place: str, patch: Patch) -> dict[str, np.ndarray]:
    """The arrays of a patch by name, `place` being where it belongs."""
    return {f"{place}/picture": patch.picture, f"{place}/heatmap": patch.heatmap}


def patch_from(content: Mapping[str, Any], place: str, arrays: Mapping[str, np.ndarray]) -> Patch:
    """The patch of `patch_numbers` and `packed_patch`; further entries of `content` are left alone."""
    fields = {name: content[name] for name in ("sample", "score", "target", "target_name", "position", "box")}
    return Patch(**fields, picture=arrays[f"{place}/picture"], heatmap=arrays[f"{place}/heatmap"])


def packed(array: np.ndarray) -> dict[str, Any]:
    """An array as {"dtype", "shape", "data": base64 of zlib of its bytes in C order}."""
    little_endian = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    data = base64.b64encode(zlib.compress(little_endian.tobytes())).decode("ascii")
    return {"dtype": little_endian.dtype.str, "shape": list(array.shape), "data": data}


def unpacked(packed: Mapping[str, Any]) -> np.ndarray:
    """The array that `packed` wrote; ValueError or zlib.error if it is none."""
    if packed["dtype"] not in _ARRAY_DTYPES:
        raise ValueError(f"array of dtype {packed['dtype']!r}")
    size = math.prod(packed["shape"]) * np.dtype(packed["dtype"]).itemsize
    # No more than the shape asks for: a small file must not unpack into a large one.
    data = zlib.decompressobj().decompress(base64.b64decode(packed["data"], validate=True), size + 1)
    return np.frombuffer(data, dtype=packed["dtype"]).reshape(packed["shape"])


def defined(value: float) -> float | None:
    """None for nan, which JSON cannot hold."""
    return value if math.isfinite(value) else None


def undefined(value: float | None) -> float:
    """Nan for None."""
    return math.nan if value is None else value


def picture_array(array: np.ndarray) -> np.ndarray:
    """What is drawn of an input: a picture as read-only uint8 [h, w, 3], other inputs as float32 [c, *S].

    InputError if it is neither.
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
    """Relevance as read-only float32 of any shape; `what` names it in messages.

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
    """A heatmap as read-only float32 `[*S]`.

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
    """A read-only view: the caller's own array keeps its flags."""
    view = array.view()
    view.flags.writeable = False
    return view


def set_fields(value: object, **fields: Any) -> None:
    """Set fields of a frozen value while it is made."""
    for name, content in fields.items():
        object.__setattr__(value, name, content)
