"""Values that a library hands out (references, class statistics, dead concepts of a layer), and their limits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .tables import damaged, open_table


@dataclass(frozen=True, eq=False)
class References:
    """The `k` best samples of each of a layer's `C` concepts, best first; equal scores by sample index.

    In mode `"negative"` the best are the most negative ones, and only samples with a negative score count.

    Attributes
    ----------
    sample
        Index in the data set, int64 `[C, k]`; -1 where there are fewer than `k` samples.
    score
        What the sample counts, float32 `[C, k]`; -inf where there is no sample (+inf in mode `"negative"`).
    target
        Class that was explained, int64 `[C, k]`.
    position
        Where the concept's largest signed value stood (in mode `"negative"` the smallest), counted along the flattened
        space, int64 `[C, k]`.
    """

    sample: np.ndarray
    score: np.ndarray
    target: np.ndarray
    position: np.ndarray


@dataclass(frozen=True, eq=False)
class ClassStatistics:
    """How much each class uses each concept of a layer, over all samples that were explained for the class.

    Everything is zero for classes without samples. Variances are those of the samples (divided by their number).

    Attributes
    ----------
    share, share_variance
        Mean and variance of the concept's signed share `R_c / sum_c |R_c|`, float64 `[classes, C]`.
    activation, activation_variance
        Mean and variance of the activation score, float64 `[classes, C]`.
    among_top
        On how many of the samples the concept had one of the layer's largest shares, and a positive one
        (`settings.top` of the library says how many are meant), int64 `[classes, C]`.
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
        Ids of concepts whose activation score was above zero on no sample, in increasing order, int64.
    never_relevant
        Ids of concepts whose relevance score was neither above nor below zero on any sample, likewise. A concept may
        be active and yet never relevant: what comes after the layer makes nothing of it for any explained class.
    """

    never_active: np.ndarray
    never_relevant: np.ndarray


@dataclass(frozen=True)
class Limits:
    """Between what the numbers in the tables of a layer lie, as the manifest has it.

    Attributes
    ----------
    samples, classes, concepts, positions
        Indices are below these.
    references
        Entries of each list, at most.
    picture
        Height and width of the model's input in pixels, in which boxes lie.
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
    """The references `[C, k]` of one mode, as a layer's file holds them, unchecked.

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


def check_references(path: Path, mode: str, found: References, limits: Limits) -> None:
    """Refuse references that no mining leaves: their numbers are looked up in data sets, layers and lists of names.

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
        raise damaged(path, "the score of a sample is no finite number")
    if (score[:, 1:] > score[:, :-1]).any():
        raise damaged(path, "references are not in order of their scores")


def check_statistics(path: Path, found: ClassStatistics) -> None:
    """Refuse statistics that no mining leaves.

    Raises
    ------
    LibraryError
    """
    for name, values in vars(found).items():
        if not np.isfinite(values).all():
            raise damaged(path, f"a value of '{name}' is no finite number")
        if name not in ("share", "activation") and (values < 0).any():
            raise damaged(path, f"a value of '{name}' is below 0")
