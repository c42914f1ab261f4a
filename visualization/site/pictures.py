"""The pictures of a site: their page names, their labels, and how they look in the index."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from crp.class_names import class_index, class_name
from crp.errors import InputError
from crp.library import Library
from crp.visualization.encoding import SMALL_SIDE, fitted
from crp.visualization.page_files import file_name

THUMBNAIL = 256


def page_names(pictures: Sequence[str | os.PathLike[str]]) -> dict[Path, str]:
    """Give each picture a page name."""
    named: dict[Path, str] = {}
    for path in map(Path, pictures):
        named[path] = file_name(path.stem, named.values())
    return named


def picture_labels(
    labels: Mapping[str | os.PathLike[str], int | str], pictures: Mapping[Path, str], library: Library
) -> dict[Path, tuple[int, str]]:
    """Return index and name of the class of each picture that has a label.

    Raises
    ------
    InputError
        If a label is no class of the library, or belongs to no picture.
    """
    names, found = library.manifest["class_names"] or (), {}
    for path, label in labels.items():
        if Path(path) not in pictures:
            raise InputError(f"There is a label for '{path}', which is not one of the {len(pictures)} pictures.")
        index = class_index(names, label, library.manifest["classes"], "the library")
        found[Path(path)] = index, class_name(names, index)
    return found


def small_picture(picture: np.ndarray) -> np.ndarray:
    """Fit a picture into a square of `THUMBNAIL` pixels; each pixel of a small one becomes a block, as on its page."""
    if max(picture.shape[:2]) > SMALL_SIDE:
        return fitted(picture, THUMBNAIL)
    factor = THUMBNAIL // max(picture.shape[:2])
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)
