import numpy as np

from crp.mining.statistics import ClassSums


def test_means_by_class_equal_those_of_the_whole_table():
    generator = np.random.default_rng(0)
    targets, shares = generator.integers(0, 3, 40), generator.normal(size=(40, 5))
    sums = ClassSums(4, 5)
    for start in range(0, 40, 7):
        sums.add(targets[start : start + 7], shares[start : start + 7])
    found = sums.result()
    for target in range(3):
        np.testing.assert_allclose(found.share[target], shares[targets == target].mean(0), rtol=1e-13)
    assert found.count.tolist() == [*np.bincount(targets), 0]
    assert found.share[3].tolist() == [0.0] * 5
