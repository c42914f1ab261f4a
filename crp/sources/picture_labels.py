"""The true classes of pictures, as their folders or a file name them."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from crp.class_names import class_index
from crp.errors import InputError, listed
from crp.files import user_path

_COLUMNS = ("file", "label")


def labels_of_folder(folder: Path, pictures: Sequence[Path], class_names: Sequence[str]) -> dict[Path, int]:
    """Read the labels of pictures from the class subfolders in which they lie.

    Parameters
    ----------
    folder
        The folder that holds the subfolders.
    pictures
        Pictures in it, at any depth.
    class_names
        Names of the classes.

    Returns
    -------
    dict of Path to int
        The class of each picture; empty unless the subfolder of every picture has the name of exactly one class.
    """
    found = {}
    for picture in pictures:
        inside = picture.relative_to(folder).parts
        if len(inside) < 2 or list(class_names).count(inside[0]) != 1:
            return {}
        found[picture] = list(class_names).index(inside[0])
    return found


def read_labels(file: str, pictures: Sequence[Path], class_names: Sequence[str], classes: int) -> dict[Path, int]:
    """Read the labels of pictures from a CSV file with the columns "file" and "label".

    Parameters
    ----------
    file
        Path of the CSV file. A picture is named by its path, absolute or relative to the folder of the CSV file, or by
        its file name if no other picture has it. A class is given by name or index.
    pictures
        The pictures; other lines of the file are ignored, and pictures without a line have no label.
    class_names, classes
        Names and number of the classes.

    Raises
    ------
    InputError
        If the file cannot be read, a column or a label is missing, a class does not exist, a name is that of several
        pictures, two lines give it two classes, or none of the pictures is named.
    """
    path = user_path(file)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The labels '{path}' cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    lines = csv.DictReader(io.StringIO(text), skipinitialspace=True)
    columns = lines.fieldnames or ()
    missing = [name for name in _COLUMNS if name not in columns]
    if missing:
        raise InputError(
            f"The labels '{path}' have no column '{missing[0]}', but {listed(columns)}; they need the "
            "columns file and label, separated by commas."
        )
    given: dict[str, int] = {}
    for line in lines:
        if line["label"] is None:
            raise InputError(f"The labels '{path}' have no label in line {lines.line_num}.")
        named, label = line["file"], class_index(class_names, line["label"], classes, "the library")
        if given.setdefault(named, label) != label:
            raise InputError(f"The labels '{path}' give '{named}' two classes.")
    found = _labels(path, pictures, given)
    if not found:
        raise InputError(
            f"The labels '{path}' name none of the {len(pictures)} pictures: they name "
            f"{listed(given, 2)}, and the first picture is '{pictures[0]}'."
        )
    return found


def _labels(path: Path, pictures: Sequence[Path], given: Mapping[str, int]) -> dict[Path, int]:
    places = Counter(picture.name for picture in pictures)
    folder = path.parent.resolve()
    found = {}
    for picture in pictures:
        resolved = picture.resolve()
        names = [str(picture), picture.as_posix(), str(resolved)]
        if resolved.is_relative_to(folder):
            names.append(resolved.relative_to(folder).as_posix())
        named = next((name for name in names if name in given), None)
        if named is None and picture.name in given:
            named = picture.name
            if places[named] > 1:
                raise InputError(
                    f"The labels '{path}' name '{named}', which {places[named]} pictures are called: give their paths."
                )
        if named is not None:
            found[picture] = given[named]
    return found
