"""What mining keeps of the samples it has seen: it can be stored, taken up again, and merged in any order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from crp.library.patches import MODES
from crp.library.references import ClassStatistics, References

from .statistics import ClassSums
from .topk import TopK


@dataclass(frozen=True)
class Survey:
    """What one pass over the data set leaves.

    Attributes
    ----------
    references
        By layer and mode (`"relevance"`, `"activation"`).
    statistics
        By layer.
    """

    references: dict[tuple[str, str], References]
    statistics: dict[str, ClassStatistics]


class Tally:
    """References and class sums of every layer, over disjoint sets of samples.

    Two tallies of disjoint samples merge into the one of all of them, to the last bit, whatever the order.

    Parameters
    ----------
    sizes
        Number of concepts of each layer.
    classes
        Number of the model's outputs, or of whatever else is explained.
    k
        How many references to keep of each concept and mode.
    top
        Of how many leading concepts of a sample the statistics count.
    """

    def __init__(self, sizes: Mapping[str, int], classes: int, k: int, top: int):
        self.classes = classes
        self.best = {(layer, mode): TopK(size, k) for layer, size in sizes.items() for mode in MODES}
        self.sums = {layer: ClassSums(classes, size, top) for layer, size in sizes.items()}

    def arrays(self) -> dict[str, np.ndarray]:
        """All that is needed to go on from here, by `LAYER/PART/NAME`."""
        parts = {f"{layer}/{mode}": best for (layer, mode), best in self.best.items()}
        parts |= {f"{layer}/sums": sums for layer, sums in self.sums.items()}
        return {f"{part}/{name}": array for part, kept in parts.items() for name, array in kept.arrays().items()}

    def merge(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take in what another tally's `arrays` say of other samples."""
        by_part: dict[str, dict[str, np.ndarray]] = {}
        for key, array in arrays.items():
            part, name = key.rsplit("/", 1)
            by_part.setdefault(part, {})[name] = array
        for (layer, mode), best in self.best.items():
            best.merge(by_part[f"{layer}/{mode}"])
        for layer, sums in self.sums.items():
            sums.merge(by_part[f"{layer}/sums"])

    def result(self) -> Survey:
        """References and statistics of all samples so far."""
        return Survey(
            references={key: best.best for key, best in self.best.items()},
            statistics={layer: sums.result() for layer, sums in self.sums.items()},
        )
