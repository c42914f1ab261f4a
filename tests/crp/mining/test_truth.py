"""Results of mining compared with a full table, computed one sample at a time."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from crp.errors import InputError
from crp.library.patches import MODES
from crp.library.store import Library
from crp.mining import mine

from .conftest import LAYERS, SmallNet, Truth, naive_truth

SAMPLES, CLASSES, K, OF_CLASS, TOP = 500, 4, 7, 3, 2


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> tuple[Library, Truth, np.ndarray]:
    """A library of 500 samples in single precision, the truth in double precision, and the labels."""
    torch.manual_seed(5)
    model = SmallNet().double().eval()
    generator = torch.Generator().manual_seed(6)
    data = torch.randn(SAMPLES, 2, 10, 10, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, CLASSES, (SAMPLES,), generator=generator)
    options = {"k": K, "class_references": OF_CLASS, "top": TOP, "vectors": True, "patches": 0, "block_size": 7}
    library = mine(
        model,
        TensorDataset(data, labels),
        layers=LAYERS,
        path=tmp_path_factory.mktemp("truth") / "a.crp",
        progress=False,
        **options,
    )
    return library, naive_truth(model, data, labels.numpy()), labels.numpy()


def flat(values: np.ndarray) -> np.ndarray:
    return values.reshape(*values.shape[:2], -1)


def shares_of(truth: Truth, layer: str) -> np.ndarray:
    totals = flat(truth.relevance[layer]).sum(-1)
    absolute = np.abs(totals).sum(1, keepdims=True)
    return np.divide(totals, absolute, out=np.zeros_like(totals), where=absolute > 0)


def scores_of(truth: Truth, layer: str, mode: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, positions, and which samples are candidates, `[N, C]` each."""
    values = flat((truth.activation if mode == "activation" else truth.relevance)[layer])
    if mode == "activation":
        return values.max(-1), values.argmax(-1), np.full(values.shape[:2], True)
    scores = values.sum(-1) / (np.abs(values.sum(-1)).sum(1, keepdims=True) + 1e-10)
    if mode == "negative":
        return scores, values.argmin(-1), scores < 0
    return scores, values.argmax(-1), np.full(values.shape[:2], True)


def test_statistics_are_those_of_the_whole_table(case):
    library, truth, labels = case
    for layer in LAYERS:
        shares, active = shares_of(truth, layer), flat(truth.activation[layer]).max(-1)
        leading = np.zeros(shares.shape, dtype=bool)
        np.put_along_axis(leading, np.argsort(-shares, axis=1, kind="stable")[:, :TOP], True, axis=1)
        found = library.statistics(layer)
        assert found.count.tolist() == np.bincount(labels, minlength=CLASSES).tolist()
        for target in range(CLASSES):
            own = labels == target
            for name, values in [
                ("share", shares[own].mean(0)),
                ("share_variance", shares[own].var(0)),
                ("activation", active[own].mean(0)),
                ("activation_variance", active[own].var(0)),
            ]:
                np.testing.assert_allclose(getattr(found, name)[target], values, rtol=1e-6, atol=1e-9, err_msg=name)
            assert found.among_top[target].tolist() == (leading & (shares > 0))[own].sum(0).tolist()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("layer", LAYERS)
def test_references_are_those_of_the_whole_table_sorted(case, layer, mode):
    library, truth, labels = case
    scores, positions, competes = scores_of(truth, layer, mode)
    direction = -1 if mode == "negative" else 1
    tables = [(library.references(layer, mode), np.full(SAMPLES, True), K)]
    tables += [(library.class_references(layer, target, mode), labels == target, OF_CLASS) for target in range(CLASSES)]
    for found, own, k in tables:
        for concept in range(scores.shape[1]):
            candidates = np.flatnonzero(own & competes[:, concept])
            order = sorted(
                candidates.tolist(), key=lambda sample: (-direction * np.float32(scores[sample, concept]), sample)
            )[:k]
            filled = len(order)
            assert found.sample[concept, :filled].tolist() == order
            assert (found.sample[concept, filled:] == -1).all()
            assert (found.score[concept, filled:] == -direction * np.inf).all()
            assert (found.target[concept, filled:] == -1).all()
            np.testing.assert_allclose(found.score[concept, :filled], scores[order, concept], rtol=1e-6)
            assert found.target[concept, :filled].tolist() == labels[order].tolist()
            assert found.position[concept, :filled].tolist() == positions[order, concept].tolist()


def test_the_case_has_concepts_with_negative_relevance_and_samples_without_it(case):
    library, truth, _ = case
    for layer in LAYERS:
        assert (library.references(layer, "negative").score[:, 0] < 0).sum() >= 3
        assert 0 < scores_of(truth, layer, "negative")[2].sum(0).max() < SAMPLES


def test_vectors_hold_every_sample(case):
    library, truth, labels = case
    for layer in LAYERS:
        found = library.vectors(layer)
        for matrix, values in [
            (found.relevance, shares_of(truth, layer)),
            (found.activation, flat(truth.activation[layer]).max(-1)),
        ]:
            assert matrix.shape == values.shape
            # float16 has 11 bits, for numbers not far below the largest of a sample
            np.testing.assert_allclose(np.asarray(matrix), values, rtol=2.0**-11, atol=1e-9)
            np.testing.assert_array_equal(matrix.column(1), np.asarray(matrix)[:, 1])
            np.testing.assert_array_equal(matrix[[3, 499]], np.asarray(matrix)[[3, 499]])
            np.testing.assert_array_equal(np.concatenate(list(matrix.chunks())), np.asarray(matrix))
        assert found.target.tolist() == found.label.tolist() == labels.tolist()
        assert found.prediction.tolist() == truth.prediction.argmax(1).tolist()
        assert found.mined.all()
        assert found.rows(target=2).tolist() == np.flatnonzero(labels == 2).tolist()


def test_dead_concepts_are_found_and_told_apart(tmp_path):
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 16, 2))
    with torch.no_grad():
        net[0].weight.abs_()
        net[0].weight[1], net[0].bias[1] = 0, -1  # never above zero
        net[3].weight[:, 2 * 16 : 3 * 16] = 0  # has no effect on the output
    data = TensorDataset(torch.rand(20, 1, 6, 6, generator=torch.Generator().manual_seed(0)))
    options = {"targets": "prediction", "progress": False, "patches": 0, "class_references": 0}
    library = mine(net, data, layers=["1"], path=tmp_path / "a.crp", **options)
    dead = library.dead_concepts("1")
    assert (dead.never_active.tolist(), dead.never_relevant.tolist()) == ([1], [1, 2])
    with pytest.raises(InputError, match=r"has no references by class: mine with class_references=3\.$"):
        library.class_references("1", 0, "relevance")
    with pytest.raises(InputError, match=r"holds no concept vectors: mine with vectors=True \(--vectors\)\.$"):
        library.vectors("1")
