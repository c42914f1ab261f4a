"""What the cells of a concept map hold besides the name of their strongest supporter."""

from __future__ import annotations

import numpy as np

from crp.explanations import ConceptMap

# Cells whose relevance is below this part of the strongest cell's are neither for nor against.
_FAINT = 0.02


def winner_shares(concept_map: ConceptMap) -> np.ndarray:
    """Divide the relevance of each cell's winner by the absolute relevance of all concepts there.

    Returns
    -------
    ndarray
        float64 [rows, columns], 0..1; 0 where the cell is blank, NaN where the map has kept no table.
    """
    if concept_map.table is None:
        return np.where(concept_map.concept < 0, 0.0, np.nan)
    total = np.abs(concept_map.table).sum(-1, dtype=np.float64)
    return concept_map.relevance / np.where(total > 0, total, 1.0)


def outweighed(concept_map: ConceptMap) -> np.ndarray:
    """Find the cells in which all concepts together speak against what is explained.

    Returns
    -------
    ndarray
        bool [rows, columns]; False where the sum is below 2 % of the strongest cell's, and where there is no table.
    """
    if concept_map.table is None:
        return np.zeros(concept_map.concept.shape, dtype=bool)
    net = concept_map.table.sum(-1, dtype=np.float64)
    return net < -_FAINT * np.abs(net).max()
