"""The patches of one layer as arrays: small pictures and heatmaps with their origin.

A patch's picture is stored as the bytes of a JPEG (quality 90, colours at full resolution), or of a PNG if that is
smaller, and its heatmap as int8, where -127 to 127 stands for -1 to 1. All pictures are concatenated in one array, with
their offsets in another, and so are the heatmaps: one patch can be read without the others.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from crp.errors import LibraryError
from crp.files import write_file
from crp.values import Patch

from .references import Limits
from .tables import Table, damaged, open_table, table_bytes

# Largest relevance (RelMax), largest activation (ActMax), most negative relevance.
MODES = ("relevance", "activation", "negative")


@dataclass(frozen=True, eq=False)
class StoredPatch:
    """One patch, encoded.

    Attributes
    ----------
    sample, score, target
        As in the references.
    position
        Flat position in the layer.
    box
        (top, left, bottom, right) in pixels of the model's input; of a signal (start, stop); of a volume the first
        slice, row and column, then the ends.
    picture
        Bytes of a JPEG or PNG; of a signal or volume those of `encode_values`.
    heatmap
        int8 `[h, w]`, of the picture's size; of a signal `[t]`, of a volume `[d, h, w]`.
    """

    sample: int
    score: float
    target: int
    position: int
    box: tuple[int, ...]
    picture: bytes
    heatmap: np.ndarray


# Concept -> mode -> patches, best first. A concept with an entry but without patches was processed and has none.
LayerPatches = dict[int, Mapping[str, tuple[StoredPatch, ...]]]


def encode_picture(picture: np.ndarray) -> bytes:
    """Encode uint8 `[h, w, 3]` as JPEG of quality 90 and as PNG, and return the smaller one (the PNG, if equal)."""
    encoded = []
    for kind, options in (("PNG", {}), ("JPEG", {"quality": 90, "subsampling": 0})):
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, kind, **options)
        encoded.append(buffer.getvalue())
    return min(encoded, key=len)


def encode_values(values: np.ndarray) -> bytes:
    """Encode float32 `[c, t]` or `[c, d, h, w]` as little-endian bytes, one channel after the other."""
    return values.astype("<f4").tobytes()


def write_patches(path: Path, layer: LayerPatches) -> None:
    """Write all patches of a layer, sorted by concept, mode and rank."""
    write_file(path, encoded(layer))


def encoded(layer: LayerPatches) -> bytes:
    """Encode all patches of a layer as the content of their file."""
    concepts = sorted(layer)
    patches = [patch for concept in concepts for mode in MODES for patch in layer[concept].get(mode, ())]
    counts = [[len(layer[concept].get(mode, ())) for mode in MODES] for concept in concepts]
    pictures = [np.frombuffer(patch.picture, dtype=np.uint8) for patch in patches]
    heatmaps = [patch.heatmap.view(np.uint8).reshape(-1) for patch in patches]
    axes = patches[0].heatmap.ndim if patches else 2
    return table_bytes(
        {
            "concept": np.array(concepts, dtype=np.int64),
            "count": np.array(counts, dtype=np.int64).reshape(-1, len(MODES)),
            "sample": np.array([patch.sample for patch in patches], dtype=np.int64),
            "score": np.array([patch.score for patch in patches], dtype=np.float32),
            "target": np.array([patch.target for patch in patches], dtype=np.int64),
            "position": np.array([patch.position for patch in patches], dtype=np.int64),
            "box": np.array([patch.box for patch in patches], dtype=np.int64).reshape(-1, 2 * axes),
            "size": np.array([patch.heatmap.shape for patch in patches], dtype=np.int64).reshape(-1, axes),
            "picture_start": _starts(pictures),
            "picture": _end_to_end(pictures),
            "heatmap_start": _starts(heatmaps),
            "heatmap": _end_to_end(heatmaps),
        }
    )


def _starts(parts: list[np.ndarray]) -> np.ndarray:
    return np.cumsum([0, *(len(part) for part in parts)], dtype=np.int64)


def _end_to_end(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0, dtype=np.uint8), *parts])


def stored_concepts(path: Path) -> list[int]:
    """List the concepts whose patches have been made, in ascending order.

    Raises
    ------
    LibraryError
        If the file is missing or damaged.
    """
    with open_table(path) as table:
        return table.array("concept", np.int64, (None,)).tolist()


def read_patches(path: Path, concepts: Iterable[int] | None = None) -> LayerPatches:
    """Read the patches of some concepts, by default of all.

    Concepts whose patches have not been made are omitted.

    Raises
    ------
    LibraryError
        If the file is missing or damaged.
    """
    with open_table(path) as table:
        known = table.array("concept", np.int64, (None,)).tolist()
        count = table.array("count", np.int64, (len(known), len(MODES)))
        length = len(table.array("sample", np.int64, (None,)))
        if ((count < 0) | (count > length)).any() or count.sum() != length:
            raise damaged(path, f"its counts do not add up to the {length} patches it holds")
        first = np.cumsum([0, *count.reshape(-1)])
        columns = _columns(table, length)
        wanted = set(known) if concepts is None else set(concepts)
        return {
            concept: {
                mode: tuple(
                    _stored(path, table, columns, index)
                    for index in range(first[row * len(MODES) + place], first[row * len(MODES) + place + 1])
                )
                for place, mode in enumerate(MODES)
            }
            for row, concept in enumerate(known)
            if concept in wanted
        }


def _columns(table: Table, length: int) -> dict[str, np.ndarray]:
    columns = {name: table.array(name, np.int64, (length,)) for name in ("sample", "target", "position")}
    columns["score"] = table.array("score", np.float32, (length,))
    columns["size"] = table.array("size", np.int64, (length, None))
    columns["box"] = table.array("box", np.int64, (length, 2 * columns["size"].shape[1]))
    for name in ("picture_start", "heatmap_start"):
        columns[name] = table.array(name, np.int64, (length + 1,))
    return columns


def _stored(path: Path, table: Table, columns: Mapping[str, np.ndarray], index: int) -> StoredPatch:
    picture, heatmap = (
        table.piece(name, np.uint8, *columns[f"{name}_start"][index : index + 2].tolist())
        for name in ("picture", "heatmap")
    )
    size = columns["size"][index].tolist()
    if len(size) not in (1, 2, 3) or min(size) < 1 or math.prod(size) != len(heatmap):
        raise damaged(path, f"a heatmap of {' x '.join(map(str, size))} pixels has {len(heatmap)} entries")
    return StoredPatch(
        sample=int(columns["sample"][index]),
        score=float(columns["score"][index]),
        target=int(columns["target"][index]),
        position=int(columns["position"][index]),
        box=tuple(columns["box"][index].tolist()),
        picture=picture.tobytes(),
        heatmap=heatmap.view(np.int8).reshape(size),
    )


def check_patches(path: Path, stored: LayerPatches, limits: Limits) -> None:
    """Refuse patches that mining cannot have written.

    Raises
    ------
    LibraryError
    """
    for concept, modes in stored.items():
        if not 0 <= concept < limits.concepts:
            raise damaged(path, f"it has patches of concept {concept}, but the layer has {limits.concepts} concepts")
        for patches in modes.values():
            if len(patches) > limits.references:
                raise damaged(path, f"concept {concept} has {len(patches)} patches of {limits.references} references")
            for patch in patches:
                _check_patch(path, patch, limits)


def _check_patch(path: Path, patch: StoredPatch, limits: Limits) -> None:
    if not (0 <= patch.sample < limits.samples and -1 <= patch.target < limits.classes):
        raise damaged(path, f"a patch is of sample {patch.sample} and class {patch.target}, which do not exist")
    if not 0 <= patch.position < limits.positions:
        raise damaged(path, f"position {patch.position} is not within 0 and {limits.positions - 1}")
    if not math.isfinite(patch.score):
        raise damaged(path, f"the score of a patch of sample {patch.sample} is {patch.score}")
    axes = len(limits.picture)
    sides = zip(patch.box[:axes], patch.box[axes:], limits.picture, strict=True) if len(patch.box) == 2 * axes else ()
    if not sides or not all(0 <= first < last <= size for first, last, size in sides):
        raise damaged(path, f"the box {patch.box} of a patch is not within a sample of size {list(limits.picture)}")
    if max(patch.heatmap.shape) > limits.patch_size:
        raise damaged(path, f"a patch of {patch.heatmap.shape} pixels is larger than {limits.patch_size}")


def decoded(
    path: Path, patch: StoredPatch, space: tuple[int, ...], class_names: tuple[str, ...], sample_name: str = ""
) -> Patch:
    """Decode a stored patch.

    Parameters
    ----------
    path
        Its file, for messages.
    patch
        The stored patch.
    space
        Shape of the layer's space `*S`, to which the position refers.
    class_names
        Names of the classes; may be empty.
    sample_name
        Name of the sample in its data set; empty if it is not known.

    Raises
    ------
    LibraryError
        If the picture cannot be decoded, or the position is outside the layer.
    """
    if not 0 <= patch.position < math.prod(space):
        raise damaged(path, f"position {patch.position} is outside the layer's space {list(space)}")
    return Patch(
        sample=patch.sample,
        score=patch.score,
        target=patch.target,
        position=np.unravel_index(patch.position, space),
        box=patch.box,
        picture=_picture(path, patch),
        heatmap=patch.heatmap.astype(np.float32) / 127,
        target_name=class_names[patch.target] if 0 <= patch.target < len(class_names) else "",
        sample_name=sample_name,
    )


def _picture(path: Path, patch: StoredPatch) -> np.ndarray:
    if patch.heatmap.ndim != 2:
        what = "signal" if patch.heatmap.ndim == 1 else "volume"
        if not patch.picture or len(patch.picture) % (4 * patch.heatmap.size):
            raise damaged(path, f"a {what} of {len(patch.picture)} bytes has a heatmap of {patch.heatmap.size} values")
        values = np.frombuffer(patch.picture, dtype="<f4").reshape(-1, *patch.heatmap.shape)
        if not np.isfinite(values).all():
            raise damaged(path, f"a {what} of sample {patch.sample} holds NaN or infinite values")
        return values
    height, width = patch.heatmap.shape
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large pictures, but here they are refused before decoding
            with Image.open(io.BytesIO(patch.picture), formats=("JPEG", "PNG")) as picture:
                if picture.size != (width, height):
                    raise damaged(path, f"a picture is {picture.size}, its heatmap {(width, height)}")
                return np.asarray(picture.convert("RGB"))
    except LibraryError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly any type for damaged bytes
        raise damaged(path, f"a picture of sample {patch.sample} cannot be decoded: {error}") from error
