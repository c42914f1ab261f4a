"""How well values separate groups of samples, and whether chance would: areas under the ROC curve, and p-values.

Axes: `N` samples, `C` columns of values, `G` groups.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Permutations of the null distribution; the smallest p-value is 1 / (199 + 1). Each takes N * C * G operations, so
# that of many samples only some take part in it.
_PERMUTATIONS, _SAMPLES = 199, 4000


@dataclass(frozen=True, eq=False)
class Separation:
    """Areas and p-values of all pairs of column and group.

    Attributes
    ----------
    area
        float64 `[C, G]`, 0 to 1: how often a value of a sample in the group is above that of one outside it, ties half
        (the area under the ROC curve; 0.5 is chance).
    p
        float64 `[C, G]`: how often, if samples belonged to the groups by chance, *any* column would separate *any*
        group as well (family-wise; Westfall and Young 1993, maximum over standardised areas).
    """

    area: np.ndarray
    p: np.ndarray


def separation(values: np.ndarray, groups: np.ndarray, *, seed: int = 0) -> Separation:
    """Compare values of samples in and outside each group.

    Parameters
    ----------
    values
        Finite numbers `[N, C]`.
    groups
        bool `[N, G]`; no group is empty or holds all samples.
    seed
        Of the permutations.

    Notes
    -----
    The area is Mann and Whitney's U divided by the number of pairs, with mean ranks for ties; its standard deviation
    under the null hypothesis is corrected for ties (Lehmann 1975).
    """
    area, _ = _areas(_centred_ranks(values), groups)
    chosen = np.unique(np.linspace(0, len(values) - 1, _SAMPLES).astype(int)) if len(values) > _SAMPLES else slice(None)
    own, kept = _centred_ranks(values[chosen]), groups[chosen]
    inside = kept.sum(0)
    kept = kept[:, (inside > 0) & (inside < len(kept))]
    found = _areas(own, groups[chosen])[1]
    rng = np.random.default_rng(seed)
    highest = [_areas(own, kept[rng.permutation(len(kept))])[1].max(initial=0) for _ in range(_PERMUTATIONS)]
    # how many permutations reach each value; of a group without samples among those chosen, all do
    above = _PERMUTATIONS - np.searchsorted(np.sort(highest), found)
    return Separation(area, (1 + above) / (1 + _PERMUTATIONS))


def _centred_ranks(values: np.ndarray) -> np.ndarray:
    """Return mean ranks minus their mean, float64 `[N, C]`."""
    ranks = np.empty(values.shape)
    for column in range(values.shape[1]):
        _, place, counts = np.unique(values[:, column], return_inverse=True, return_counts=True)
        ends = np.cumsum(counts)
        ranks[:, column] = (ends - (counts - 1) / 2)[place]
    return ranks - (len(values) + 1) / 2


def _areas(ranks: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return areas and standardised areas, `[C, G]`: 0.5 and 0 for columns and groups without differences."""
    total, inside = len(ranks), groups.sum(0)
    sums = ranks.T @ groups.astype(np.float64)
    area = 0.5 + sums / np.maximum(inside * (total - inside), 1)
    # the variance of a sum of ranks drawn without replacement; ties make that of the ranks smaller
    spread = np.sqrt((ranks**2).mean(0)[:, None] * inside * (total - inside) / (total - 1))
    return area, np.divide(sums, spread, out=np.zeros_like(sums), where=spread > 0)
