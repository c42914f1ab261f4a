import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crp.errors import SampleError
from crp.mining.topk import ClassTopK, TopK, check_finite


def naive(scores: np.ndarray, k: int) -> list[list[int]]:
    """The k best samples of each concept; equal scores by index."""
    return [
        sorted(range(len(scores)), key=lambda sample: (-scores[sample, concept], sample))[:k]
        for concept in range(scores.shape[1])
    ]


def added(best: TopK, samples, scores) -> None:
    samples = np.asarray(samples)
    positions = samples[:, None] * 10 + np.arange(scores.shape[1])
    best.add(samples, scores, samples % 3, positions)


# Few different scores, so that many are equal.
TABLES = st.integers(1, 12).flatmap(
    lambda count: st.lists(
        st.lists(st.sampled_from([-1.5, 0.0, -0.0, 0.25, 2.0]), min_size=3, max_size=3), min_size=count, max_size=count
    )
)


@given(table=TABLES, k=st.integers(1, 6), size=st.integers(1, 5), order=st.randoms())
def test_best_samples_whatever_the_blocks_and_their_order(table, k, size, order):
    scores = np.array(table, dtype=np.float32)
    starts = list(range(0, len(scores), size))
    order.shuffle(starts)
    best = TopK(3, k)
    for start in starts:
        samples = np.arange(start, min(start + size, len(scores)))
        added(best, samples, scores[samples])
    found = best.best
    for concept, expected in enumerate(naive(scores, k)):
        filled = len(expected)
        assert found.sample[concept, :filled].tolist() == expected
        assert found.score[concept, :filled].tolist() == scores[expected, concept].tolist()
        assert found.target[concept, :filled].tolist() == [sample % 3 for sample in expected]
        assert found.position[concept, :filled].tolist() == [sample * 10 + concept for sample in expected]
        assert (found.sample[concept, filled:] == -1).all()
        assert (found.target[concept, filled:] == -1).all()
        assert np.isneginf(found.score[concept, filled:]).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused(value):
    check_finite(np.array([2, 3]), np.array([[1.0, 2.0], [3.0, 4.0]]))
    with pytest.raises(SampleError) as caught:
        check_finite(np.array([2, 3]), np.array([[1.0, 2.0], [3.0, value]]))
    assert str(caught.value) == (
        f"Sample 3 has the score {value} for concept 1, which is not finite: the model overflows."
    )


@given(table=TABLES, k=st.integers(1, 3), size=st.integers(1, 5), order=st.randoms())
def test_best_of_each_class_whatever_the_blocks_their_order_and_who_saw_them(table, k, size, order):
    scores = np.array(table, dtype=np.float32)
    among = scores != 0.25
    starts = list(range(0, len(scores), size))
    order.shuffle(starts)
    parts = [ClassTopK(4, 3, k), ClassTopK(4, 3, k)]
    for start in starts:
        samples = np.arange(start, min(start + size, len(scores)))
        positions = samples[:, None] * 10 + np.arange(3)
        order.choice(parts).add(samples, scores[samples], samples % 3, positions, among[samples])
    parts[0].merge(parts[1].arrays())
    found = parts[0].best
    for target in range(4):
        for concept in range(3):
            own = [sample for sample in range(len(scores)) if sample % 3 == target and among[sample, concept]]
            expected = sorted(own, key=lambda sample: (-scores[sample, concept], sample))[:k]
            empty = [-1] * (k - len(expected))
            assert found["sample"][target, concept].tolist() == expected + empty
            assert found["score"][target, concept, : len(expected)].tolist() == scores[expected, concept].tolist()
            assert np.isneginf(found["score"][target, concept, len(expected) :]).all()
            positions = [sample * 10 + concept for sample in expected] + [0] * len(empty)
            assert found["position"][target, concept].tolist() == positions
