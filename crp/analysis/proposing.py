"""Names that are proposed for concepts, with a score, or none.

A concept gets the name of an attribute if it *responds* to it: its activation separates the samples with the attribute
from all others, as INVERT measures (Bykov et al. 2023), beyond what chance does over all concepts and attributes.
Concepts of networks with random weights often respond to simple attributes such as colours, too. So the model has to
have learned something: either its predictions agree with the labels of the samples, or the relevance of the concept
follows the attribute as its activation does. The latter cannot be asked of every concept of a trained network: a
colour may speak for some classes and against others, and a background for none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from crp.errors import InputError, LibraryError
from crp.library import GivenName, Library

from .attributes import LEAST, Attribute, attributes_of
from .separating import Separation, separation

# A concept gets a name if its activation separates at least so well, and its relevance where that has to follow; and by
# chance in at most one of twenty libraries does any concept of the layer do so.
RESPONDS, USES, CHANCE = 0.95, 0.75, 0.05
# Predictions agree with labels from this kappa on (Cohen 1960; at most 0.02 in networks with random weights), if it is
# so many standard errors above 0.
AGREES, _ERRORS = 0.2, 4
# Classes with fewer samples do not take part in comparing class profiles.
_SAMPLES = 10


@dataclass(frozen=True)
class Proposal:
    """A name for a concept, and how well it fits.

    Attributes
    ----------
    layer, concept
        The concept.
    label
        The name; "tagged or octagon" for two attributes that fit and that fewer than five samples tell apart.
    area
        0.95 to 1: how often the concept is more active on a sample with the attribute than on one without it. From
        embeddings: how often a patch of the concept fits the name better than a patch of another concept.
    use
        The same for its share of relevance, 0 to 1; at least 0.75 unless the model's predictions agree with the labels.
        NaN from embeddings.
    p
        Probability that by chance any concept of the layer separates any attribute as well.
    source
        "texture = striped", "class profile" or "embedding".
    other
        Label and area of that other attribute which the activation separates best; ("", nan) if there is only one.
    """

    layer: str
    concept: int
    label: str
    area: float
    use: float
    p: float
    source: str
    other: tuple[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return plain values; NaN becomes None."""
        values = {**vars(self), "other": list(self.other)}
        return {
            name: None if isinstance(value, float) and np.isnan(value) else value for name, value in values.items()
        }

    def as_name(self, library: Library, date: str) -> GivenName:
        """Return it as a name to import (`Library.merge_names`, `crp names --import`), with the figures as its note."""
        use = "" if np.isnan(self.use) else f", of relevance {self.use:.3f}"
        other = f" The next attribute: {self.other[0]}, {self.other[1]:.3f}." if self.other[0] else ""
        note = f"Proposed from {self.source}: AUC {self.area:.3f}{use} (p {self.p:.3f}).{other}"
        fingerprint = library.identity(self.layer).of(self.concept)
        return GivenName(
            self.layer, self.concept, self.label[:120], note, ("proposed",), date=date, fingerprint=fingerprint
        )


def propose(
    library: Library, columns: Mapping[str, Sequence[Any]], layers: Sequence[str] | None = None, *, seed: int = 0
) -> list[Proposal]:
    """Propose names from what is known of the samples.

    The vectors of a layer are read at once: `4 * N * C` bytes, and about five times that while they are ranked.

    Parameters
    ----------
    library
        Mined with vectors, of a model's own predictions or of labels.
    columns
        By name, a value for each sample of the data set: text, booleans, or a few different numbers; None where it is
        not known. `read_columns` reads them from a CSV file.
    layers
        Some of the library's layers; all by default.
    seed
        Of the permutations.

    Raises
    ------
    InputError
        If the library has no vectors, a column another length, or no column groups of at least five samples; or if a
        column "label" or "class" says other labels than those that were mined: then its rows are of other samples.

    Examples
    --------
    >>> propose(library, {"texture": textures, "tagged": tagged})                  # doctest: +SKIP
    """
    found = []
    for layer in layers or library.layers:
        vectors = library.vectors(layer)
        _check_order(columns, vectors.label, library.class_names)
        attributes, without = attributes_of(columns, vectors.mined)
        if not attributes:
            reasons = "; ".join(f"{name!r}: {reason}" for name, reason in without.items()) or "there are no columns"
            raise InputError(f"No column says which samples belong together. {reasons}.")
        active, relevant = (np.asarray(matrix) for matrix in (vectors.activation, vectors.relevance))
        responds, uses = (_of_columns(values, attributes, seed) for values in (active, relevant))
        sources = [f"{attribute.column} = {attribute.value}" for attribute in attributes]
        labels, alike = [attribute.label for attribute in attributes], _alike(attributes)
        required = not _agrees(vectors.prediction[vectors.mined], vectors.label[vectors.mined])
        found += _best(layer, labels, sources, responds, uses, required=required, alike=alike)
    return found


def propose_from_classes(library: Library, layers: Sequence[str] | None = None) -> list[Proposal]:
    """Propose names such as "octagon's" for concepts that belong to one class, from class profiles alone.

    The activation of a concept, and its share of relevance, are taken as normally distributed in each class, with the
    mean and variance that the library holds. `Proposal.area` is how often a sample of the class is above a sample of
    the class that comes nearest to it. Classes with fewer than ten samples do not take part; of fewer than three
    classes nothing is proposed.
    """
    found = []
    for layer in layers or library.layers:
        statistics = library.statistics(layer)
        known = np.flatnonzero(statistics.count >= _SAMPLES)
        if len(known) < 3:
            continue
        counts = statistics.count[known]
        responds, uses = (
            _of_profiles(mean[known], variance[known], counts)
            for mean, variance in (
                (statistics.activation, statistics.activation_variance),
                (statistics.share, statistics.share_variance),
            )
        )
        names = library.class_names or [f"class {index}" for index in range(len(statistics.count))]
        labels = [f"{names[index]}'s" for index in known.tolist()]
        found += _best(layer, labels, ["class profile"] * len(labels), responds, uses)
    return found


def propose_from_embeddings(
    library: Library,
    embed: Callable[[list[np.ndarray]], np.ndarray],
    labels: Mapping[str, np.ndarray],
    layers: Sequence[str] | None = None,
    *,
    seed: int = 0,
) -> list[Proposal]:
    """Propose names whose embedding is near to the concept's patches, by an embedder that the caller brings.

    Parameters
    ----------
    library
        With patches.
    embed
        Takes patches by relevance (uint8 pictures `[H, W, 3]`) and returns their embeddings `[n, d]`: the image
        encoder of CLIP, for instance.
    labels
        By name, its embedding `[d]`.
    layers, seed
        As in `propose`.

    Raises
    ------
    InputError
        If embeddings do not have the same length.
    """
    vectors = np.stack([_unit(np.asarray(vector, dtype=np.float64)[None])[0] for vector in labels.values()])
    found = []
    for layer in layers or library.layers:
        keys = [(concept, "relevance") for concept in range(library.limits(layer).concepts)]
        patches = library.patches_of(layer, keys)
        owner = np.array([concept for concept, _ in keys for _ in patches[concept, "relevance"]])
        if len(owner) == 0:
            raise LibraryError(f"The library '{library.path}' has no patches of layer {layer!r} to embed.")
        embedded = np.asarray(embed([patch.picture for key in keys for patch in patches[key]]), dtype=np.float64)
        if embedded.shape != (len(owner), vectors.shape[1]):
            raise InputError(
                f"The embedder returned {list(embedded.shape)} for {len(owner)} patches, but embeddings of names have "
                f"{vectors.shape[1]} numbers."
            )
        fits = separation(_unit(embedded) @ vectors.T, owner[:, None] == np.arange(len(keys)), seed=seed)
        fits = Separation(fits.area.T, fits.p.T)
        found += _best(layer, list(labels), ["embedding"] * len(labels), fits, None)
    return found


def _check_order(columns: Mapping[str, Sequence[Any]], labels: np.ndarray, names: Sequence[str]) -> None:
    """Refuse columns in another order than the samples, which show where one of them holds the labels."""
    for column in columns.keys() & {"label", "class"}:
        for sample, (said, label) in enumerate(zip(columns[column], labels.tolist(), strict=False)):
            mined = {str(label), *names[label : label + 1]} if label >= 0 else ()
            if mined and str(said) not in ("", "None", *mined):
                own = names[label] if names else label
                raise InputError(
                    f"The column {column!r} says {str(said)!r} of sample {sample}, which was mined with the label "
                    f"{own!r}: its rows are in another order, or of other samples. If its labels are others on "
                    "purpose, call it by another name."
                )


def _agrees(predictions: np.ndarray, labels: np.ndarray) -> bool:
    """Whether predictions `[N]` agree with labels `[N]` more than chance and constant answers do; -1 is unknown."""
    known = (predictions >= 0) & (labels >= 0)
    if not known.any():
        return False
    predictions, labels = predictions[known], labels[known]
    size = 1 + int(max(predictions.max(), labels.max()))
    shares = (np.bincount(values, minlength=size) / len(labels) for values in (predictions, labels))
    chance = float(np.prod([*shares], axis=0).sum())
    if chance == 1:
        return False
    kappa = (float((predictions == labels).mean()) - chance) / (1 - chance)
    error = np.sqrt(chance / (1 - chance) / len(labels))
    return kappa >= max(AGREES, _ERRORS * error)


def _alike(attributes: Sequence[Attribute]) -> np.ndarray:
    """Say which attributes fewer than `LEAST` samples tell apart, bool `[G, G]`."""
    inside, known = (np.stack([getattr(one, name) for one in attributes]) for name in ("inside", "known"))
    alone = (inside & ~inside[:, None] & known & known[:, None]).sum(-1)
    return alone + alone.T < LEAST


def _best(
    layer: str,
    labels: Sequence[str],
    sources: Sequence[str],
    responds: Separation,
    uses: Separation | None,
    *,
    required: bool = True,
    alike: np.ndarray | None = None,
) -> list[Proposal]:
    """Choose, for each concept, the attribute that it responds to best among those that fit; `[C, G]`.

    `required`: whether relevance has to follow. `alike`: attributes that are named together.
    """
    fits = (responds.area >= RESPONDS) & (responds.p <= CHANCE)
    judged = [responds]
    if uses is not None and required:
        fits &= (uses.area >= USES) & (uses.p <= CHANCE)
        judged.append(uses)
    found = []
    for concept in np.flatnonzero(fits.any(1)).tolist():
        area = responds.area[concept]
        best = int(np.where(fits[concept], area, -1).argmax())
        order = np.argsort(-area, kind="stable").tolist()
        same = [] if alike is None else [i for i in order if i != best and alike[best, i] and fits[concept, i]]
        others = [(labels[index], float(area[index])) for index in order if index not in (best, *same)]
        found.append(
            Proposal(
                layer,
                concept,
                " or ".join(labels[index] for index in (best, *same)),
                float(area[best]),
                float("nan") if uses is None else float(uses.area[concept, best]),
                max(float(one.p[concept, best]) for one in judged),
                " or ".join(sources[index] for index in (best, *same)),
                others[0] if others else ("", float("nan")),
            )
        )
    return found


def _of_columns(values: np.ndarray, attributes: Sequence[Attribute], seed: int) -> Separation:
    """Compare values `[N, C]` in and outside each attribute; those of one column have the same known samples."""
    parts, columns = [], {}
    for attribute in attributes:
        columns.setdefault(attribute.known.tobytes(), []).append(attribute)
    order = []
    for together in columns.values():
        known = together[0].known
        groups = np.stack([attribute.inside[known] for attribute in together], axis=1)
        parts.append(separation(values[known], groups, seed=seed))
        order += together
    place = [next(index for index, one in enumerate(order) if one is attribute) for attribute in attributes]
    area, p = (np.concatenate([getattr(part, name) for part in parts], axis=1)[:, place] for name in ("area", "p"))
    # one family for each set of columns with the same known samples: as many families, as much stricter
    return Separation(area, np.minimum(p * len(parts), 1))


def _of_profiles(mean: np.ndarray, variance: np.ndarray, counts: np.ndarray) -> Separation:
    """Compare each class with the one that comes nearest, `[K, C]` -> `[C, K]`; areas of normal distributions."""
    normal = np.vectorize(NormalDist().cdf, otypes=[float])
    classes, concepts = mean.shape
    area, p = np.empty((concepts, classes)), np.empty((concepts, classes))
    for index in range(classes):
        others = np.arange(classes) != index
        gap = mean[index] - mean[others]
        spread = np.sqrt(variance[index] + variance[others])
        error = np.sqrt(variance[index] / counts[index] + variance[others] / counts[others, None])
        area[:, index] = normal(_ratio(gap, spread).min(0))
        p[:, index] = np.minimum(normal(-_ratio(gap, error).min(0)) * mean.size, 1)
    return Separation(area, p)


def _ratio(gap: np.ndarray, spread: np.ndarray) -> np.ndarray:
    return np.divide(gap, spread, out=np.sign(gap) * 40.0, where=spread > np.abs(gap) / 40)


def _unit(rows: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 0, length, 1)
