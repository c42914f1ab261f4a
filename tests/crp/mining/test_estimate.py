import numpy as np

from crp.mining.estimate import estimate


def test_sentence_by_hand():
    fields = {"a": np.array([[0, 0, 10, 20], [0, 0, 200, 200]])}
    found = estimate(1000, 5, {"a": (2, 4, 4), "b": (3,)}, 16, {"a": 40, "b": 0}, fields, 96)
    # references and statistics of 5 concepts, the state of both, and patches of 96 x 96 pixels
    references, statistics, state = 2 * 16 * 28, 40 * 5, 2 * 16 * 28 + 72 * 5
    assert found.bytes == 5 * (references + statistics + state) + int(40 * 1.7 * 96 * 96)
    assert (
        found.sentence(0.5)
        == "1000 samples in about 8 min, then at most 40 patches in about 20 s; at most 0.6 MB on disk."
    )
