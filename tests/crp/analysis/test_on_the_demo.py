"""The demo's truth found again: a short form of docs/evidence/class-wise-truth.md."""

import numpy as np
import pytest

from crp.analysis import concept_vector, suspects
from crp.demo import TAGGED_CLASS, demo_model
from tests.evidence.class_truth import LAYER, TAG, adjusted_rand, agreement, mined, precision, scenes


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    data, tags = scenes(tagged=112, untagged=60, others=90)
    return mined(tmp_path_factory.mktemp("demo"), data), data, tags


def test_reverse_search_for_the_tag_returns_tagged_samples(case):
    library, _, tags = case
    assert tags.sum() >= 100
    assert precision(library, tags) >= 0.95


def test_the_tag_is_the_largest_concept_of_the_octagon_and_of_no_other_class(case):
    library, _, _ = case
    assert library.concepts_of("octagon", LAYER)[0].concept == TAG
    assert library.classes_of(LAYER, TAG)[0].target == TAGGED_CLASS
    for target in range(TAGGED_CLASS):
        assert library.concepts_of(target, LAYER)[0].concept != TAG


def test_clusters_tell_tagged_from_untagged_and_the_octagon_is_suspected_first(case):
    pytest.importorskip("sklearn", reason="scikit-learn, an optional extra, is not installed")
    library, _, tags = case
    assert agreement(library, tags, clusters=2)[0] >= 0.95
    assert agreement(library, tags)[1] >= 0.95
    first = suspects(library.vectors(LAYER), neighbours=5)[0]
    assert (first.target, first.concept) == (TAGGED_CLASS, TAG)
    assert tags[first.samples].mean() > 0.95


def test_the_vector_of_a_prediction_is_that_of_mining(case):
    library, data, _ = case
    vectors = library.vectors(LAYER)
    for sample in (0, 5, 200):
        found = concept_vector(demo_model(), data[sample][0], library, LAYER, target=int(vectors.target[sample]))
        assert np.abs(found).sum() == pytest.approx(1)
        np.testing.assert_allclose(found, vectors.relevance[sample], atol=1e-3)


def test_adjusted_rand_by_hand():
    one = np.array([0, 0, 1, 1])
    assert adjusted_rand(one, np.array([1, 1, 0, 0])) == 1
    # no pair together in both; 2 x 2 / 6 expected by chance, 2 at most: (0 - 2/3) / (2 - 2/3)
    assert adjusted_rand(one, np.array([0, 1, 0, 1])) == pytest.approx(-0.5)
