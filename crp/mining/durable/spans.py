"""Sets of blocks as intervals of consecutive numbers: `[(start, stop), ...]`, sorted and disjoint."""

from __future__ import annotations

from collections.abc import Iterable

Spans = list[tuple[int, int]]


def union(spans: Iterable[tuple[int, int]]) -> Spans:
    """Return the numbers that are in any of the intervals.

    >>> union([(4, 6), (0, 2), (2, 3), (5, 7)])
    [(0, 3), (4, 7)]
    """
    joined: Spans = []
    for start, stop in sorted(span for span in spans if span[0] < span[1]):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], stop)
        else:
            joined.append((start, stop))
    return joined


def difference(spans: Spans, others: Spans) -> Spans:
    """Return the numbers in `spans` that are not in `others`.

    >>> difference([(0, 9)], [(0, 2), (4, 5)])
    [(2, 4), (5, 9)]
    """
    left = []
    for start, stop in spans:
        for other_start, other_stop in others:
            if start < other_stop and other_start < stop:
                left.append((start, other_start))
                start = other_stop
        left.append((start, stop))
    return union(left)


def count(spans: Spans) -> int:
    """Count the numbers."""
    return sum(stop - start for start, stop in spans)


def part(spans: Spans, place: int, parts: int) -> Spans:
    """Select one of several nearly equal parts, each of consecutive numbers where possible.

    >>> part([(0, 3), (7, 9)], 1, 2)
    [(2, 3), (7, 9)]
    """
    total, taken = count(spans), []
    first, last = total * place // parts, total * (place + 1) // parts
    before = 0
    for start, stop in spans:
        taken.append((start + max(first - before, 0), start + min(last - before, stop - start)))
        before += stop - start
    return union(taken)
