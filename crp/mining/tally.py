"""What mining keeps of the samples so far. It can be stored, resumed, and merged in any order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from crp.library.patches import MODES
from crp.library.references import ClassStatistics, References
from crp.values import ConceptMeans

from .class_sums import ClassSums
from .mean_sums import MeanSums
from .topk import ClassTopK, TopK

# Default number of references of each class, and the memory in bytes that they may take.
_CLASS_REFERENCES, _CLASS_REFERENCES_MEMORY = 3, 256 * 10**6
_BYTES_OF_ONE = 20  # sample and position of 8 bytes, score of 4


def default_class_references(classes: int, concepts: int) -> int:
    """Choose how many references of each class to keep by default: 3, or as many as fit into 256 MB.

    >>> default_class_references(10, 40), default_class_references(1000, 2048), default_class_references(1000, 15104)
    (3, 2, 0)
    """
    return min(_CLASS_REFERENCES, _CLASS_REFERENCES_MEMORY // (classes * concepts * len(MODES) * _BYTES_OF_ONE))


@dataclass(frozen=True)
class Survey:
    """Results of one pass over the data set.

    Attributes
    ----------
    references
        By layer and mode (`"relevance"`, `"activation"`, `"negative"`).
    statistics, means
        By layer.
    class_references
        `sample`, `score` and `position` `[classes, C, n]` as in `References`, by layer and mode; empty if not kept.
    """

    references: dict[tuple[str, str], References]
    statistics: dict[str, ClassStatistics]
    means: dict[str, ConceptMeans]
    class_references: dict[tuple[str, str], dict[str, np.ndarray]]


class Tally:
    """References and class sums of every layer for a set of samples.

    Tallies of disjoint sets merge into the tally of their union, in any order and equal to the last bit.

    Parameters
    ----------
    sizes
        Number of concepts of each layer.
    classes
        Number of the model's outputs, or of other targets.
    k
        How many references to keep of each concept and mode.
    top
        How many concepts of a sample the statistics count as leading.
    class_references
        How many references to keep of each concept, mode and explained class.
    means
        Of how many numbers the mean parts of each layer are made; none are kept of layers that are missing.
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        classes: int,
        k: int,
        top: int,
        class_references: int,
        means: Mapping[str, int] = MappingProxyType({}),
    ):
        self.classes = classes
        self.means = {layer: MeanSums(count) for layer, count in means.items()}
        kinds = [(layer, mode) for layer in sizes for mode in MODES]
        self.best = {(layer, mode): TopK(sizes[layer], k) for layer, mode in kinds}
        self.of_class = {
            (layer, mode): ClassTopK(classes, sizes[layer], class_references)
            for layer, mode in kinds
            if class_references
        }
        self.sums = {layer: ClassSums(classes, size, top) for layer, size in sizes.items()}

    def add_best(self, layer: str, mode: str, *scored: np.ndarray, among: np.ndarray | None = None) -> None:
        """Add the samples of a block as candidates; larger scores win. The arguments are those of `TopK.add`.

        In mode `"negative"`, scores are of the negated relevance.
        """
        self.best[layer, mode].add(*scored, among=among)

    def add_of_class(self, layer: str, mode: str, *scored: np.ndarray, among: np.ndarray | None = None) -> None:
        """Add candidates for the references of each class, with one target per sample, int64 `[N]`."""
        if (layer, mode) in self.of_class:
            self.of_class[layer, mode].add(*scored, among=among)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the whole state, by `LAYER/PART/NAME`."""
        return {
            f"{part}/{name}": array for part, kept in self._parts().items() for name, array in kept.arrays().items()
        }

    def _parts(self) -> dict[str, TopK | ClassTopK | ClassSums | MeanSums]:
        parts: dict[str, TopK | ClassTopK | ClassSums | MeanSums] = {}
        parts |= {f"{layer}/{mode}": best for (layer, mode), best in self.best.items()}
        parts |= {f"{layer}/{mode}, by class": best for (layer, mode), best in self.of_class.items()}
        parts |= {f"{layer}/means": sums for layer, sums in self.means.items()}
        return parts | {f"{layer}/sums": sums for layer, sums in self.sums.items()}

    def merge(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Add the samples of another tally, given by its `arrays`."""
        for part, kept in self._parts().items():
            # one part at a time, so that a mapping that reads from disk holds only that part
            kept.merge({name: arrays[f"{part}/{name}"] for name in kept.arrays()})

    def result(self) -> Survey:
        """Return references and statistics of all samples so far."""
        return Survey(
            references={
                (layer, mode): replace(best.best, score=_signed(best.best.score, mode))
                for (layer, mode), best in self.best.items()
            },
            statistics={layer: sums.result() for layer, sums in self.sums.items()},
            means={layer: sums.result() for layer, sums in self.means.items()},
            class_references={
                (layer, mode): {**best.best, "score": _signed(best.best["score"], mode)}
                for (layer, mode), best in self.of_class.items()
            },
        )


def _signed(score: np.ndarray, mode: str) -> np.ndarray:
    return -score if mode == "negative" else score
