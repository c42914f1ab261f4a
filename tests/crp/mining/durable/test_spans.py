from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from crp.mining.durable.spans import count, difference, part, union

SPANS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=6)


def numbers(spans) -> list[int]:
    return [number for start, stop in spans for number in range(start, stop)]


@given(spans=SPANS)
def test_union_holds_each_number_once_in_order_and_as_few_stretches(spans):
    joined = union(spans)
    assert numbers(joined) == sorted(set(numbers(spans)))
    assert all(stop < start for (_, stop), (start, _) in pairwise(joined))
    assert count(joined) == len(set(numbers(spans)))


@given(spans=SPANS, others=SPANS)
def test_difference_is_that_of_sets(spans, others):
    left = difference(union(spans), union(others))
    assert numbers(left) == sorted(set(numbers(spans)) - set(numbers(others)))


@given(spans=SPANS, parts=st.integers(1, 7))
def test_parts_are_all_of_it_in_order_and_nearly_equal(spans, parts):
    spans = union(spans)
    pieces = [part(spans, place, parts) for place in range(parts)]
    assert [number for piece in pieces for number in numbers(piece)] == numbers(spans)
    sizes = [count(piece) for piece in pieces]
    assert max(sizes) - min(sizes) <= 1
