"""Mined lists compared with RelMax and ActMax of zennit-crp 0.6.0, ties aside (tests/golden/make_golden.py)."""

from __future__ import annotations

from importlib.metadata import version

import numpy as np
import pytest
from torch.utils.data import TensorDataset

from crp.mining import mine
from tests.golden import cases
from tests.golden.recorded import recorded

# Both compute in float64 and store scores in float32. Relative to the largest score of the channel's list.
TOLERANCE = 3e-7 if version("zennit") == "0.5.1" else 1e-3

RUNS = [
    pytest.param("resnet18", "sum", True, id="resnet18-sum-divided"),
    *(
        pytest.param(name, target, divided, id=f"{name}-{target}-{divided}", marks=pytest.mark.slow)
        for name in cases.MINED
        for target in ("sum", "max")
        for divided in (True, False)
        if (name, target, divided) != ("resnet18", "sum", True)
    ),
]


def undecided(scores: np.ndarray, tolerance: float) -> np.ndarray:
    """Ranks that may swap with a neighbour, or with the first sample that is not listed; scores are best first."""
    close = np.abs(np.diff(scores)) <= 2 * tolerance
    return np.r_[False, close] | np.r_[close, True]


@pytest.mark.parametrize(("name", "target", "divided"), RUNS)
def test_lists_are_those_of_zennit_crp(tmp_path, name, target, divided):
    model = cases.model(name)
    expected = recorded(name, model)
    score = f"{target}/divided" if divided else target
    library = mine(
        model,
        TensorDataset(*cases.mining_samples(name)),
        layers=cases.MINED[name],
        path=tmp_path / "library",
        composite=cases.composite(name),
        targets="label",
        k=40,
        relevance_score=score,
        activation_score=score,
        patches=0,
        progress=False,
    )
    for layer in cases.MINED[name]:
        for mode in ("relevance", "activation"):
            key = f"mined/{name}/{layer}/{mode}/{target}/{'divided' if divided else 'plain'}"
            # zennit-crp stores [rank, channel]
            samples, scores = expected[f"{key}/sample"].numpy().T, expected[f"{key}/score"].numpy().T
            found = library.references(layer, mode)
            decided = 0
            for channel in range(cases.MINED_CHANNELS):
                tolerance = TOLERANCE * np.abs(scores[channel]).max()
                np.testing.assert_allclose(found.score[channel], scores[channel], rtol=0, atol=tolerance)
                settled = ~undecided(scores[channel], tolerance)
                assert found.sample[channel][settled].tolist() == samples[channel][settled].tolist(), (key, channel)
                decided += settled.sum()
            assert decided > 0.5 * samples.size, f"{key}: only {decided} of {samples.size} ranks stand by themselves"


def test_which_ranks_are_undecided():
    assert undecided(np.array([5.0, 4.0, 3.9, 1.0, 0.0]), 0.1).tolist() == [False, True, True, False, True]
