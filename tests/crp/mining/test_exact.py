import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from crp.mining.exact import ExactSums

ROWS, COLUMNS = 3, 2
# Very different magnitudes, so that columns move up and lose their lowest digits.
VALUES = st.one_of(
    st.just(0.0),
    st.builds(lambda part, exponent: part * 2.0**exponent, st.floats(-1, 1), st.integers(-120, 120)),
)
TABLES = st.lists(
    st.tuples(st.integers(0, ROWS - 1), st.lists(VALUES, min_size=COLUMNS, max_size=COLUMNS)), min_size=1, max_size=20
)


def table_of(rows: np.ndarray, values: np.ndarray) -> ExactSums:
    sums = ExactSums(ROWS, COLUMNS)
    sums.add(rows, values)
    return sums


@given(table=TABLES, order=st.randoms(), pieces=st.integers(1, 5))
def test_any_order_and_grouping_gives_the_same_digits(table, order, pieces):
    rows, values = np.array([row for row, _ in table]), np.array([value for _, value in table])
    whole = table_of(rows, values)
    places = list(range(len(rows)))
    order.shuffle(places)
    merged = ExactSums(ROWS, COLUMNS)
    for piece in np.array_split(places, pieces):
        part = ExactSums(ROWS, COLUMNS)
        for place in piece:
            part.add(rows[[place]], values[[place]])
        merged.merge(part.digits, part.top)
    np.testing.assert_array_equal(merged.digits, whole.digits)
    np.testing.assert_array_equal(merged.top, whole.top)


@given(table=TABLES)
def test_sums_are_as_exact_as_promised(table):
    rows, values = np.array([row for row, _ in table]), np.array([value for _, value in table])
    expected = np.zeros((ROWS, COLUMNS))
    np.add.at(expected, rows, values)
    allowed = len(rows) * np.abs(values).max(axis=0) * (2.0**-32 + 2.0**-50)
    assert (np.abs(table_of(rows, values).result(np.arange(ROWS)) - expected) <= allowed).all()


def test_whole_numbers_are_summed_without_any_error():
    values = np.array([[2.0**30, 3.0], [-1.0, 0.25], [5.0, -3.25]])
    sums = table_of(np.array([0, 0, 2]), values)
    assert sums.result(np.array([0, 2])).tolist() == [[2.0**30 - 1, 3.25], [5.0, -3.25]]
    assert sums.result(np.array([1])).tolist() == [[0.0, 0.0]]
