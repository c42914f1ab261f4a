"""References, class statistics and dead concepts of a layer, and the valid ranges of their numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .tables import damaged, open_table


@dataclass(frozen=True, eq=False)
class References:
    """The `k` best samples of each of a layer's `C` concepts, best first; ties are sorted by sample index.

    In mode `"negative"` the best samples have the most negative scores, and only negative scores count.

    Attributes
    ----------
    sample
        Index in the data set, int64 `[C, k]`; -1 where there are fewer than `k` samples.
    score
        Score of the sample, float32 `[C, k]`; -inf where there is no sample (+inf in mode `"negative"`).
    target
        Class that was explained, int64 `[C, k]`.
    position
        Position of the concept's largest signed value (in mode `"negative"` the smallest) in the flattened space, int64
        `[C, k]`.
    """

    sample: np.ndarray
    score: np.ndarray
    target: np.ndarray
    position: np.ndarray


@dataclass(frozen=True, eq=False)
class ClassStatistics:
    """How much each class uses each concept of a layer, over all samples that were explained for the class.

    All values are 0 for classes without samples. Variances are divided by the number of samples.

    Attributes
    ----------
    share, share_variance
        Mean and variance of the concept's signed share `R_c / sum_c |R_c|`, float64 `[classes, C]`.
    activation, activation_variance
        Mean and variance of the activation score, float64 `[classes, C]`.
    among_top
        Number of samples on which the concept had a positive share that was among the layer's largest `settings.top`
        (in the manifest), int64 `[classes, C]`.
    count
        Number of samples, int64 `[classes]`.
    """

    share: np.ndarray
    share_variance: np.ndarray
    activation: np.ndarray
    activation_variance: np.ndarray
    among_top: np.ndarray
    count: np.ndarray


@dataclass(frozen=True, eq=False)
class DeadConcepts:
    """Concepts of a layer that no sample of the data set used.

    Attributes
    ----------
    never_active
        Ids of concepts whose activation score was not positive on any sample, in ascending order, int64.
    never_relevant
        Ids of concepts whose relevance score was 0 on all samples, in ascending order, int64. A concept can be active
        and never relevant: the layers above do not use it for any explained class.
    """

    never_active: np.ndarray
    never_relevant: np.ndarray


@dataclass(frozen=True)
class Limits:
    """Valid ranges of the numbers in the tables of a layer, according to the manifest.

    Attributes
    ----------
    samples, classes, concepts, positions
        Upper bounds (exclusive) of indices.
    references
        Largest length of a list.
    picture
        Height and width of the model's input in pixels, the upper bounds of boxes.
    patch_size
        Longest side of a stored picture in pixels.
    """

    samples: int
    classes: int
    concepts: int
    positions: int
    references: int
    picture: tuple[int, ...]
    patch_size: int


def read_references(path: Path, mode: str, shape: tuple[int, int]) -> References:
    """Read the references `[C, k]` of one mode from a layer's file, without checking their numbers.

    Raises
    ------
    LibraryError
        If the file is missing or damaged.
    """
    with open_table(path) as table:
        return References(
            sample=table.array(f"{mode}.sample", np.int64, shape),
            score=table.array(f"{mode}.score", np.float32, shape),
            target=table.array(f"{mode}.target", np.int64, shape),
            position=table.array(f"{mode}.position", np.int64, shape),
        )


def read_class_references(path: Path, mode: str, shape: tuple[int, int, int], target: int) -> References:
    """Read the references `[C, n]` of one mode and class from a layer's file `[classes, C, n]`, and no others.

    Raises
    ------
    LibraryError
        If the file is missing or damaged.
    """
    with open_table(path) as table:
        sample = table.part(f"{mode}.sample", np.int64, shape, target)
        return References(
            sample=sample,
            score=table.part(f"{mode}.score", np.float32, shape, target),
            target=np.where(sample >= 0, target, -1),
            position=table.part(f"{mode}.position", np.int64, shape, target),
        )


def read_statistics(path: Path, shape: tuple[int, int]) -> ClassStatistics:
    """Read class statistics `[classes, C]` from a layer's file, without checking their numbers.

    Raises
    ------
    LibraryError
        If the file is missing or damaged.
    """
    with open_table(path) as table:
        return ClassStatistics(
            **{
                name: table.array(name, np.float64, shape)
                for name in ("share", "share_variance", "activation", "activation_variance")
            },
            among_top=table.array("among_top", np.int64, shape),
            count=table.array("count", np.int64, shape[:1]),
        )


def check_references(path: Path, mode: str, found: References, limits: Limits) -> None:
    """Refuse references that mining cannot have written: their numbers are indices of samples, classes and positions.

    Raises
    ------
    LibraryError
    """
    for name, least, most in (
        ("sample", -1, limits.samples),
        ("target", -1, limits.classes),
        ("position", 0, limits.positions),
    ):
        values = getattr(found, name)
        wrong = values[(values < least) | (values >= most)]
        if len(wrong):
            raise damaged(path, f"{name} {wrong[0]} is not within {least} and {most - 1}")
    score = -found.score if mode == "negative" else found.score
    if not (np.isfinite(score) | (np.isneginf(score) & (found.sample < 0))).all():
        raise damaged(path, "the score of a sample is not finite")
    if (score[:, 1:] > score[:, :-1]).any():
        raise damaged(path, "references are not sorted by score")


def check_statistics(path: Path, found: ClassStatistics) -> None:
    """Refuse statistics that mining cannot have written.

    Raises
    ------
    LibraryError
    """
    for name, values in vars(found).items():
        if not np.isfinite(values).all():
            raise damaged(path, f"a value of '{name}' is not finite")
        if name not in ("share", "activation") and (values < 0).any():
            raise damaged(path, f"a value of '{name}' is below 0")
