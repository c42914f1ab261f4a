"""What cells of a concept map hold: shares of their winners, and where the opposition outweighs."""

import numpy as np

from crp.explanations import ConceptMap
from crp.visualization.map_cells import outweighed, winner_shares

TABLE = np.array([[[3.0, 1.0, -4.0], [2.0, 1.0, -1.0]], [[0.0, 0.0, 0.0], [0.1, 0.0, -0.13]]], dtype=np.float32)


def concept_map(table):
    return ConceptMap("conv", [[0, 0], [-1, 0]], [[3.0, 2.0], [0.0, 0.1]], (8, 8), table)


def test_the_winner_of_a_cell_holds_a_share_of_its_absolute_relevance():
    np.testing.assert_allclose(winner_shares(concept_map(TABLE)), [[3 / 8, 0.5], [0, 0.1 / 0.23]], rtol=1e-6)


def test_opposition_outweighs_where_the_sum_is_negative():
    """The first cell sums to 0; the last to -0.03, which is 1.5 % of the strongest cell's 2."""
    assert not outweighed(concept_map(TABLE)).any()
    more = TABLE.copy()
    more[0, 0, 2] = -4.1  # sums to -0.1, 5 % of the strongest
    assert outweighed(concept_map(more)).tolist() == [[True, False], [False, False]]


def test_without_a_table_nothing_is_claimed():
    bare = concept_map(None)
    assert np.isnan(winner_shares(bare)).tolist() == [[True, True], [False, True]]
    assert winner_shares(bare)[1, 0] == 0
    assert not outweighed(bare).any()
