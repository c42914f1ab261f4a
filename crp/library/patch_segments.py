"""Segments: files with some patches of a layer, which are there until the layer has all of its patches.

A segment lies in the folder `patches` beside the layer's tables and is named by the SHA-256 of its content. So any
number of processes can add segments at the same time, and none is ever changed. Two segments may hold the same patch.
What a reference says of a patch (sample, score, class, position) is not repeated in a segment.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from crp.errors import LibraryError
from crp.files import write_file

from .patches import MODES, StoredPatch
from .references import References
from .tables import damaged, open_table, table_bytes

FOLDER = "patches"

# A patch of a layer: concept, place of the mode in MODES, rank.
PatchKey = tuple[int, int, int]


def segment_files(tables: Path) -> list[Path]:
    """List the segments of the layer whose tables are in a folder; links are not followed."""
    folder = tables / FOLDER
    if folder.is_symlink():
        return []
    return sorted(file for file in folder.glob("*.safetensors") if file.is_file() and not file.is_symlink())


def write_segment(tables: Path, made: Mapping[PatchKey, StoredPatch]) -> Path:
    """Write patches of the layer whose tables are in a folder, and return the file.

    Raises
    ------
    LibraryError
        If the system refuses to write.
    """
    keys = sorted(made)
    pictures = [np.frombuffer(made[key].picture, dtype=np.uint8) for key in keys]
    heatmaps = [made[key].heatmap.view(np.uint8).reshape(-1) for key in keys]
    content = table_bytes(
        {
            "key": np.array(keys, dtype=np.int64),
            "box": np.array([made[key].box for key in keys], dtype=np.int64),
            "size": np.array([made[key].heatmap.shape for key in keys], dtype=np.int64),
            "picture_start": np.cumsum([0, *map(len, pictures)], dtype=np.int64),
            "picture": np.concatenate(pictures),
            "heatmap_start": np.cumsum([0, *map(len, heatmaps)], dtype=np.int64),
            "heatmap": np.concatenate(heatmaps),
        }
    )
    folder = tables / FOLDER
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise LibraryError(f"'{folder}' cannot be created: {error.strerror}.") from error
    file = folder / f"{hashlib.sha256(content).hexdigest()}.safetensors"
    write_file(file, content)
    return file


def segment_keys(file: Path, expected: np.ndarray) -> list[PatchKey]:
    """List the patches in a segment.

    Parameters
    ----------
    file
        The segment.
    expected
        Number of patches of each concept and mode, int64 `[C, 3]`.

    Raises
    ------
    FileNotFoundError
        If the file does not exist (any more).
    LibraryError
        If the file is damaged.
    """
    if not file.exists():
        raise FileNotFoundError(file)
    try:
        with open_table(file) as table:
            keys = table.array("key", np.int64, (None, 3))
            concept, mode, rank = keys.T
            if (keys < 0).any() or (concept >= len(expected)).any() or (mode >= len(MODES)).any():
                raise damaged(file, "it names concepts or modes that do not exist")
            if (rank >= expected[concept, mode]).any():
                raise damaged(file, "it names references that do not exist")
    except LibraryError:
        if not file.exists():
            raise FileNotFoundError(file) from None
        raise
    return [tuple(key) for key in keys.tolist()]


def read_segment(
    file: Path, keys: Mapping[PatchKey, int], references: Mapping[str, References]
) -> dict[PatchKey, StoredPatch]:
    """Read some patches of a segment.

    Parameters
    ----------
    file
        The segment.
    keys
        The patches to read, each with its row in the segment.
    references
        The references of the layer by mode.

    Raises
    ------
    LibraryError
        If the file is missing or damaged.
    """
    with open_table(file) as table:
        length = len(table.array("key", np.int64, (None, 3)))
        size = table.array("size", np.int64, (length, None))
        box = table.array("box", np.int64, (length, 2 * size.shape[1]))
        starts = {name: table.array(f"{name}_start", np.int64, (length + 1,)) for name in ("picture", "heatmap")}
        patches = {}
        for key, row in keys.items():
            concept, mode, rank = key
            found = references[MODES[mode]]
            picture, heatmap = (
                table.piece(name, np.uint8, int(start[row]), int(start[row + 1])) for name, start in starts.items()
            )
            if (size[row] < 1).any() or int(size[row].prod()) != len(heatmap):
                raise damaged(file, f"a heatmap of {size[row].tolist()} pixels has {len(heatmap)} entries")
            patches[key] = StoredPatch(
                sample=int(found.sample[concept, rank]),
                score=float(found.score[concept, rank]),
                target=int(found.target[concept, rank]),
                position=int(found.position[concept, rank]),
                box=tuple(box[row].tolist()),
                picture=picture.tobytes(),
                heatmap=heatmap.view(np.int8).reshape(size[row]),
            )
        return patches
