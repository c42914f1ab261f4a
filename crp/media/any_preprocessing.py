"""Preprocessing of any kind: from the JSON values of a library, and applied to files."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any

from crp.errors import InputError
from crp.files import user_path
from crp.media.medium import Medium
from crp.preprocessing import Preprocessing, read_picture

if TYPE_CHECKING:
    from torch import Tensor

AnyPreprocessing = Preprocessing | Medium


def preprocessing_from(values: Mapping[str, Any]) -> AnyPreprocessing:
    """Return the preprocessing or medium that its `to_json` wrote; raises InputError for anything else."""
    if isinstance(values, Mapping) and "kind" in values:
        return Medium.from_json(values)
    return Preprocessing.from_json(values)


def read_input(path: str | PathLike[str], preprocessing: AnyPreprocessing) -> tuple[Tensor, Medium | None]:
    """Read a file as a model's input `[c, *S]`, and say what it is; None for a picture.

    Raises
    ------
    InputError
        If it cannot be read, or does not fit; names the file.
    """
    if isinstance(preprocessing, Preprocessing):
        return preprocessing.to_input(read_picture(path)), None
    from crp.media.recordings import read_recording

    path = user_path(path)
    recording = read_recording(path)
    try:
        return preprocessing.of_recording(recording)
    except InputError as error:
        raise InputError(f"'{path}': {error}") from None
