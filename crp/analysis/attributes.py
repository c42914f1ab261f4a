"""What is known of the samples of a data set: columns of values, and the groups of samples that their values make."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from crp.errors import InputError, shortened
from crp.files import user_path

# Fewer samples of a group say too little; a column of more values is no attribute (a name, a measurement).
LEAST, _VALUES = 5, 100
_MISSING = ("", "nan", "none", "null", "n/a")
_TRUE, _FALSE = ("true", "yes", "1"), ("false", "no", "0")


@dataclass(frozen=True, eq=False)
class Attribute:
    """The samples with one value of one column.

    Attributes
    ----------
    column, value
        Where it comes from.
    label
        Its name: the value ("striped"), or column and value where the value alone says nothing ("tagged", "period 9").
    inside, known
        bool `[N]`: the samples with this value, and those of which the column says anything.
    """

    column: str
    value: str
    label: str
    inside: np.ndarray
    known: np.ndarray


def read_columns(path: str | os.PathLike[str], length: int) -> dict[str, list[str]]:
    """Read the columns of a CSV file, one row for each sample of a data set, after a row of names.

    Rows are in the order of the samples, all of them; or a column `sample` gives the index of each row's sample, and
    samples without a row are unknown.

    Parameters
    ----------
    path
        The file, UTF-8, with commas.
    length
        Number of samples.

    Raises
    ------
    InputError
        If the file cannot be read, its rows are not those of the samples, or a column is named twice.
    """
    path = user_path(path)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            names, *rows = [row for row in csv.reader(file) if row] or [[]]
    except OSError as error:
        raise InputError(f"'{path}' cannot be read: {error.strerror}.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"'{path}' is not a CSV file in UTF-8: {error}.") from error
    if len(set(names)) < len(names):
        raise InputError(f"'{path}' names the column {Counter(names).most_common(1)[0][0]!r} twice.")
    for number, row in enumerate(rows, 2):
        if len(row) != len(names):
            raise InputError(f"Row {number} of '{path}' has {len(row)} values, and there are {len(names)} columns.")
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)) if rows else {}
    samples = columns.pop("sample", None)
    if samples is None and len(rows) != length:
        raise InputError(
            f"'{path}' has {len(rows)} rows, and the data set has {length} samples: give a row for each, in their "
            "order, or a column 'sample' with their indices."
        )
    return columns if samples is None else _in_order(columns, samples, length, path)


def _in_order(columns: Mapping[str, list[str]], samples: list[str], length: int, path: Any) -> dict[str, list[str]]:
    wrong = [sample for sample in samples if not (sample.strip().isdecimal() and int(sample) < length)]
    if wrong:
        raise InputError(f"'{path}' has a row of sample {shortened(wrong[0])}; samples are 0 to {length - 1}.")
    places = [int(sample) for sample in samples]
    if len(set(places)) < len(places):
        raise InputError(f"'{path}' has two rows of sample {Counter(places).most_common(1)[0][0]}.")
    found = {name: [""] * length for name in columns}
    for name, values in columns.items():
        for place, value in zip(places, values, strict=True):
            found[name][place] = value
    return found


def attributes_of(
    columns: Mapping[str, Sequence[Any]], mined: np.ndarray
) -> tuple[list[Attribute], dict[str, str]]:
    """Divide the samples by the values of each column.

    Parameters
    ----------
    columns
        A value for each sample: text, numbers, booleans; None, NaN and empty text are unknown.
    mined
        bool `[N]`: the samples that count.

    Returns
    -------
    tuple of list of Attribute and dict
        Those with at least five samples in and outside, and why columns have none.

    Raises
    ------
    InputError
        If a column has another length.
    """
    found, without = [], {}
    texts = {name: _texts(name, values, len(mined)) for name, values in columns.items()}
    common = Counter(value for values in texts.values() for value in set(values.tolist()))
    for name, values in texts.items():
        known = mined & ~np.isin([value.lower() for value in values], _MISSING)
        counted = Counter(values[known].tolist())
        if len(counted) > _VALUES:
            without[name] = f"it has {len(counted)} different values; give at most {_VALUES}, such as ranges"
            continue
        own = []
        for value in sorted(counted):
            inside = known & (values == value)
            if counted[value] >= LEAST and known.sum() - counted[value] >= LEAST:
                label = _label(name, value, counted, alone=common[value] == 1)
                own += [Attribute(name, value, label, inside, known)] if label else []
        if not own:
            without[name] = f"it has no two values with at least {LEAST} samples each"
        found += own
    return found, without


def _texts(name: str, values: Sequence[Any], length: int) -> np.ndarray:
    if isinstance(values, str) or len(values) != length:
        raise InputError(f"The column {name!r} has {len(values)} values, and the data set has {length} samples.")
    return np.array(["" if value is None else str(value).strip() for value in values], dtype=object)


def _label(column: str, value: str, counted: Mapping[str, int], *, alone: bool) -> str:
    """Name a group; empty for "not" of a column that is yes or no."""
    words = {known.lower() for known in counted}
    if words <= {*_TRUE, *_FALSE} and len(words) == 2:
        return column if value.lower() in _TRUE else ""
    return value if alone and not _is_number(value) else f"{column} {value}"


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True
