"""Reads and writes the .npy files of zennit-crp. `crp.interchange` turns them into libraries.

    PATH/RelMax_sum_normed/LAYER_data.npy, LAYER_rel.npy, LAYER_rf.npy            samples, scores, positions [n, C]
    PATH/RelStats_sum_normed/LAYER/CLASS_data.npy, CLASS_rel.npy, CLASS_rf.npy    the same for one class
    PATH/RelStats_sum_normed/targets.npy                                          the classes

`ActMax_...` and `ActStats_...` are the same for activations; `_max_` and `_unnormed` stand for the other scores. Files
of a part of the data set have `_START_END_` in their names. Pickled data are refused, so nothing is executed.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from crp.errors import InputError, nearest
from crp.files import write_file
from crp.library.tables import damaged

_PREFIX = {"relevance": "Rel", "activation": "Act"}
_TABLES = ("data", "rel", "rf")


def sub_folder(kind: str, mode: str, max_target: str, abs_norm: bool) -> str:
    """Return the name of the folder for a kind (`"Max"`, `"Stats"`), a mode and a score.

    >>> sub_folder("Max", "relevance", "sum", True)
    'RelMax_sum_normed'
    """
    if mode not in _PREFIX:
        raise InputError(f"The mode is 'relevance' or 'activation', given {mode!r}.")
    return f"{_PREFIX[mode]}{kind}_{max_target}_{'normed' if abs_norm else 'unnormed'}"


# -- one set of tables -------------------------------------------------------------------------------------------


def read_tables(start: str | Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Memory-map samples, scores and positions `[n, C]`; `start` is the prefix of their paths.

    Raises
    ------
    FileNotFoundError
        If a file is missing; names similar ones.
    LibraryError
        If a file is damaged, or the shapes do not match.
    """
    start = Path(start)
    found = []
    for table in _TABLES:
        path = start.with_name(f"{start.name}{table}.npy")
        try:
            found.append(np.load(path, mmap_mode="r"))
        except FileNotFoundError:
            known = sorted(file.name[: -len("_data.npy")] for file in start.parent.glob("*_data.npy"))
            raise FileNotFoundError(
                f"There is no '{path}': {nearest(start.name.rstrip('_'), known)} Has the run been collected?"
            ) from None
        except (ValueError, EOFError) as error:
            raise damaged(path, str(error)) from error
        if found[-1].ndim != 2 or found[-1].shape != found[0].shape:
            raise damaged(path, f"its shape is {list(found[-1].shape)}, that of the samples {list(found[0].shape)}")
    return tuple(found)


def write_tables(start: Path, samples: np.ndarray, scores: np.ndarray, positions: np.ndarray) -> None:
    """Write samples, scores and positions, each file atomically."""
    start.parent.mkdir(parents=True, exist_ok=True)
    for table, array in zip(_TABLES, (samples, scores, positions), strict=True):
        _write(start.with_name(f"{start.name}{table}.npy"), array)


def move_tables(start: str | Path, goal: str | Path) -> None:
    """Give the three files another prefix; files that have it are replaced."""
    for table in _TABLES:
        os.replace(f"{start}{table}.npy", f"{goal}{table}.npy")


def remove_tables(start: str | Path) -> None:
    """Remove the three files."""
    for table in _TABLES:
        Path(f"{start}{table}.npy").unlink()


def write_stat_targets(folder: Path, targets: Sequence[int]) -> None:
    """Write the list of classes."""
    _write(folder / "targets.npy", np.array(targets, dtype=np.int64))


def _write(path: Path, array: np.ndarray) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    write_file(path, buffer.getvalue(), durable=False)


# -- zennit-crp's readers ----------------------------------------------------------------------------------------


def load_maximization(path_folder: str | Path, layer_name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Load samples, scores and positions `[n, C]` of a layer, best first, from a folder such as `RelMax_sum_normed`.

    Errors as in `read_tables`.
    """
    return read_tables(Path(path_folder) / f"{layer_name}_")


def load_statistics(
    path_folder: str | Path, layer_name: str, target: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Load the same for one class, from a folder such as `RelStats_sum_normed`."""
    return read_tables(Path(path_folder) / layer_name / f"{target}_")


def load_stat_targets(path_folder: str | Path) -> np.ndarray:
    """Load the list of classes, int64."""
    # zennit-crp writes them as text
    return np.load(Path(path_folder) / "targets.npy").astype(np.int64)
