import dataclasses

import numpy as np

from crp.mining.estimation import estimate


def test_sentence_by_hand():
    fields = {"a": np.array([[0, 0, 10, 20], [0, 0, 200, 200]])}
    sizes = {"a": 2, "b": 3}
    found = estimate(1000, 5, sizes, 16, {"a": 40, "b": 0}, fields, 96, class_references=2, vectors=True, now=40)
    # for 5 concepts: references in three modes, two for each of 5 classes, statistics; all of it in the state; vectors
    references, of_class, statistics = 3 * 16 * 28, 5 * 3 * 2 * 20, 40 * 5
    state = references + of_class + 72 * 5
    vectors = 1000 * (25 + 5 * 2 * 2 + 2 * 2 * 2)
    assert found.bytes == 5 * (references + of_class + statistics + state) + vectors + int(40 * 1.7 * 96 * 96)
    assert (
        found.sentence(0.5)
        == "1000 samples in about 8 min, then at most 40 patches in about 20 s; at most 0.7 MB on disk."
    )
    later = dataclasses.replace(found, patches=0)
    assert later.sentence(0.5) == "1000 samples in about 8 min; at most 0.7 MB on disk."
