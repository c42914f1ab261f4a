"""What two libraries of the same samples have in common, concept by concept: `difference`.

Concepts are matched by what they respond to, not by their numbers: checkpoints, training runs and models can be
compared.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from crp.class_names import class_name
from crp.errors import InputError, LibraryError, shortened
from crp.extras import optional
from crp.library import Library
from crp.models import rules_in

# Smallest correlation of two concepts that are the same, and smallest change of a class's mean share that is listed.
SAME, CHANGED = 0.5, 0.05
_RULE = re.compile(r"(?P<target>.+?) uses (?P<layer>\S+)/(?P<concept>\d+) (?P<sign>[<>]) (?P<share>\d+(?:\.\d+)?)\s*%")


@dataclass(frozen=True)
class Pair:
    """A concept of each library that respond to the same samples, and the correlation of their activations, 0 to 1."""

    first: int
    second: int
    correlation: float


@dataclass(frozen=True)
class ShareChange:
    """A class that uses a matched concept more or less: mean share of the layer's relevance in both libraries."""

    target: int
    target_name: str
    pair: Pair
    before: float
    after: float


@dataclass(frozen=True)
class LayerDifference:
    """What changed at a layer.

    Attributes
    ----------
    layer
        Its name.
    pairs
        Concepts that are in both libraries.
    lost, new
        Ids of active concepts that are in the first library only, and in the second only.
    changes
        Classes whose share of a matched concept changed by at least five points, the largest change first.
    """

    layer: str
    pairs: tuple[Pair, ...]
    lost: tuple[int, ...]
    new: tuple[int, ...]
    changes: tuple[ShareChange, ...]

    @property
    def moved(self) -> tuple[Pair, ...]:
        """Pairs with two numbers: the same concept at another place."""
        return tuple(pair for pair in self.pairs if pair.first != pair.second)

    @property
    def empty(self) -> bool:
        """Whether nothing but places differs."""
        return not (self.lost or self.new or self.changes)

    def to_json(self) -> dict[str, Any]:
        """Return the difference as JSON values."""
        return {
            "layer": self.layer,
            "pairs": [[pair.first, pair.second, pair.correlation] for pair in self.pairs],
            "lost": list(self.lost),
            "new": list(self.new),
            "changes": [
                {"class": one.target_name, "concept": one.pair.first, "before": one.before, "after": one.after}
                for one in self.changes
            ],
        }


@dataclass(frozen=True)
class RuleAnswer:
    """Whether a rule holds, and why, as a sentence."""

    holds: bool
    sentence: str


@dataclass(frozen=True, eq=False)
class LibraryDifference:
    """What changed from a first library to a second one, layer by layer."""

    first: Library
    second: Library
    layers: tuple[LayerDifference, ...]

    @property
    def empty(self) -> bool:
        """Whether nothing but the places of concepts differs."""
        return all(layer.empty for layer in self.layers)

    def holds(self, rule: str) -> str | None:
        """Return a sentence if a rule holds for the second library, and None if it does not.

        Parameters
        ----------
        rule
            `"octagon uses conv5/37 > 5%"`: the mean share of a concept in the relevance of a class, with `>` or `<`.
            The concept is one of the first library; in the second it is the one that matches it, and its share is 0 if
            none does.

        Raises
        ------
        InputError
            If the rule has another form, or names what the libraries do not have.
        """
        answer = self.answer(rule)
        return answer.sentence if answer.holds else None

    def answer(self, rule: str) -> RuleAnswer:
        """Say whether a rule holds for the second library, and why; parameters and errors as in `holds`."""
        found = _RULE.fullmatch(rule.strip())
        if found is None:
            raise InputError(f"A rule has the form 'octagon uses conv5/37 > 5%', given {rule!r}.")
        layers = {layer.layer: layer for layer in self.layers}
        if found["layer"] not in layers:
            raise InputError(
                f"Layer {found['layer']!r} is not among the layers that are compared: {', '.join(layers)}."
            )
        concept = self.first.concept_id(found["layer"], int(found["concept"]))
        target = self.second.class_index(found["target"])
        counts = [library.statistics(found["layer"]).count[target] for library in (self.first, self.second)]
        if not any(counts):
            raise InputError(
                f"No sample was explained for the class {found['target']!r} in either library, so the rule {rule!r} "
                "says nothing."
            )
        name = f"{found['layer']}/{concept}"
        matched = {pair.first: pair.second for pair in layers[found["layer"]].pairs}
        if concept in matched:
            share = float(self.second.statistics(found["layer"]).share[target, matched[concept]])
            said = f"The class {found['target']!r} uses {name} with a mean share of {share:.1%}"
        else:
            share = 0.0
            said = f"No concept of '{self.second.path.name}' matches {name}, so its share counts as 0"
        limit = float(found["share"]) / 100
        holds = share > limit if found["sign"] == ">" else share < limit
        return RuleAnswer(holds, f"{said}: {rule}." if holds else f"{said}. The rule does not hold for B: {rule}.")


def difference(first: Library, second: Library, *, layers: tuple[str, ...] | None = None) -> LibraryDifference:
    """Compare two libraries that were mined on the same samples.

    At each layer, concepts are assigned one to one so that the sum of the correlations of their activation scores over
    all samples is largest (Li et al. 2016, "Convergent learning: do different neural networks learn the same
    representations?"). Pairs with a correlation of at least 0.5 are the same concept. Concepts whose activation is the
    same on all samples are left out.

    Parameters
    ----------
    first, second
        Mined with `vectors=True`.
    layers
        Layers that both have; by default all that both have.

    Raises
    ------
    LibraryError
        If the libraries were mined on other samples, for other targets or by other rules, have other classes, or have
        no layer in common.
    InputError
        If a library has no vectors or no such layer, or SciPy is not installed.
    """
    if first.manifest["data"]["fingerprint"] != second.manifest["data"]["fingerprint"]:
        raise LibraryError(
            f"The libraries '{first.path}' and '{second.path}' were mined on other samples: concepts can be matched "
            "only by what they do on the same ones."
        )
    _check_settings(first, second)
    _check_classes(first, second)
    layers = layers or tuple(layer for layer in first.layers if layer in second.layers)
    if not layers:
        raise LibraryError(f"The libraries '{first.path}' and '{second.path}' have no layer in common.")
    return LibraryDifference(first, second, tuple(_of_layer(first, second, layer) for layer in layers))


def _check_settings(first: Library, second: Library) -> None:
    """Refuse libraries whose shares differ even for the same model: of other targets, or by other rules."""
    for what, of in (
        ("targets", lambda library: library.manifest["settings"]["targets"]),
        ("rules", lambda library: rules_in(library.manifest)),
    ):
        ours, theirs = of(first), of(second)
        if ours != theirs:
            raise LibraryError(
                f"The {what} of '{first.path}' are {shortened(ours)}, and those of '{second.path}' "
                f"{shortened(theirs)}: only libraries that were mined alike can be compared."
            )


def _check_classes(first: Library, second: Library) -> None:
    """Refuse libraries whose classes are not the same ones in the same order: shares are compared class by class."""
    counts = [library.manifest["classes"] for library in (first, second)]
    if counts[0] != counts[1]:
        raise LibraryError(
            f"The library '{first.path}' has {counts[0]} classes and '{second.path}' has {counts[1]}: only libraries "
            "of the same classes can be compared."
        )
    names = zip(first.class_names or (), second.class_names or (), strict=False)
    for index, (ours, theirs) in enumerate(names):
        if ours != theirs:
            raise LibraryError(
                f"Class {index} is {ours!r} in '{first.path}' and {theirs!r} in '{second.path}': only libraries of the "
                "same classes in the same order can be compared."
            )


def _of_layer(first: Library, second: Library, layer: str) -> LayerDifference:
    optimize = optional("scipy.optimize", "scipy", "Matching concepts")
    both = first.vectors(layer), second.vectors(layer)
    mined = both[0].mined & both[1].mined
    (ours, own), (theirs, other) = (_profiles(np.asarray(vectors.activation)[mined]) for vectors in both)
    correlation = ours.T @ theirs
    rows, columns = optimize.linear_sum_assignment(-correlation)
    pairs = tuple(
        Pair(int(own[row]), int(other[column]), float(correlation[row, column]))
        for row, column in zip(rows, columns, strict=True)
        if correlation[row, column] >= SAME
    )
    return LayerDifference(
        layer,
        pairs,
        tuple(sorted({*own.tolist()} - {pair.first for pair in pairs})),
        tuple(sorted({*other.tolist()} - {pair.second for pair in pairs})),
        tuple(sorted(_changes(first, second, layer, pairs), key=lambda one: -abs(one.after - one.before))),
    )


def _profiles(activation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the columns of `[N, C]` that vary, centred and of length 1, and their ids."""
    centred = activation.astype(np.float64)
    centred -= centred.mean(0)
    length = np.linalg.norm(centred, axis=0)
    varying = np.flatnonzero(length > 1e-6 * max(float(np.abs(activation).max(initial=0)), 1e-30))
    return centred[:, varying] / length[varying], varying


def _changes(first: Library, second: Library, layer: str, pairs: tuple[Pair, ...]) -> Iterator[ShareChange]:
    before, after = first.statistics(layer), second.statistics(layer)
    for target in np.flatnonzero((before.count > 0) & (after.count > 0)).tolist():
        for pair in pairs:
            shares = float(before.share[target, pair.first]), float(after.share[target, pair.second])
            if abs(shares[1] - shares[0]) >= CHANGED:
                yield ShareChange(target, class_name(first.class_names, target, len(before.count)), pair, *shares)
