import numpy as np

from crp.mining.class_sums import ClassSums, leading


def seen(generator: np.random.Generator, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    shares = generator.normal(size=(40, 5)) * [1, 1e-3, 1, 0, 1e-6]
    return generator.integers(0, classes, 40), shares, 50 * generator.random((40, 5))


def test_statistics_by_class_equal_those_of_the_whole_table():
    targets, shares, activations = seen(np.random.default_rng(0), 3)
    sums = ClassSums(4, 5, top=2)
    for start in range(0, 40, 7):
        block = slice(start, start + 7)
        sums.add(targets[block], shares[block], activations[block])
    found = sums.result()
    for target in range(3):
        mine = targets == target
        np.testing.assert_allclose(found.share[target], shares[mine].mean(0), rtol=1e-8)
        np.testing.assert_allclose(found.share_variance[target], shares[mine].var(0), rtol=1e-6)
        np.testing.assert_allclose(found.activation[target], activations[mine].mean(0), rtol=1e-8)
        np.testing.assert_allclose(found.activation_variance[target], activations[mine].var(0), rtol=1e-6)
        among = [
            sum(concept in np.argsort(-row)[:2] and row[concept] > 0 for row in shares[mine]) for concept in range(5)
        ]
        assert found.among_top[target].tolist() == among
    assert found.count.tolist() == [*np.bincount(targets), 0]
    for table in (found.share, found.share_variance, found.activation, found.among_top):
        assert not table[3].any()


def test_tables_of_parts_merge_into_the_one_of_all():
    targets, shares, activations = seen(np.random.default_rng(1), 4)
    whole, merged = ClassSums(4, 5, top=2), ClassSums(4, 5, top=2)
    whole.add(targets, shares, activations)
    for part in (slice(25, 40), slice(0, 10), slice(10, 25)):
        sums = ClassSums(4, 5, top=2)
        sums.add(targets[part], shares[part], activations[part])
        merged.merge(sums.arrays())
    for name, array in whole.arrays().items():
        np.testing.assert_array_equal(merged.arrays()[name], array)


def test_equal_shares_lead_in_order_of_their_concepts():
    assert leading(np.array([[0.2, 0.5, 0.2, 0.5]]), 3).tolist() == [[True, True, False, True]]
