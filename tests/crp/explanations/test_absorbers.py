"""Where relevance is absorbed on the way to the input: numbers of an explanation, its JSON and its sentence."""

from pathlib import Path

import pytest
import torch
from torch import nn

import crp
from crp.explanations import Explanation, from_json, to_json
from crp.explanations.computation import explain
from crp.library.summary import described_in_words
from crp.visualization import conservation_wording
from crp.visualization.number_formats import SPACE


def test_a_bias_by_hand(tmp_path):
    """The logit is 3 * 2 + 2 = 8: the bias of the second layer takes 2 of it, that of the first 1.5 of the other 6."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1)).double()
    with torch.no_grad():
        for value, number in zip(model.parameters(), (1.5, 0.5, 3.0, 2.0), strict=True):
            value.fill_(number)
    data = [(torch.ones(1, 1, 1, dtype=torch.float64), 0)]
    library = crp.mine(model, data, layers=["1"], path=tmp_path / "l.crp", patches=0, progress=False)
    found = explain(model, data[0][0], library)
    assert [name for name, _ in found.absorbers] == ["3", "1"]
    torch.testing.assert_close([part for _, part in found.absorbers], [2 / 8, 1.5 / 8], rtol=1e-5, atol=0)
    assert abs(sum(part for _, part in found.absorbers) - found.absorbed) < 1e-6
    assert from_json(to_json(found)).absorbers == found.absorbers
    sentence = conservation_wording.absorbed(found).replace(SPACE, " ")
    assert "44 % of the relevance was absorbed by biases and stabilisers" in sentence
    assert sentence.endswith(" (most: 25.0 % in 3, 18.8 % in 1).")


def net(weight: float, bias: float) -> nn.Module:
    """A net that passes its input on, and multiplies it by a weight and adds a bias."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 1), nn.Linear(1, 1)).double()
    with torch.no_grad():
        for value, number in zip(model.parameters(), (1.0, 0.0, weight, bias), strict=True):
            value.fill_(number)
    return model


def explained(model: nn.Module, path: Path) -> tuple[Explanation, str, str]:
    """Explain the input 1: the explanation, its sentence, and what `crp info` says about conservation."""
    data = [(torch.ones(1, 1, 1, dtype=torch.float64), 0)]
    library = crp.mine(model, data, layers=["1"], path=path / "l.crp", patches=0, progress=False)
    found = from_json(to_json(explain(model, data[0][0], library)))
    facts = [line for line in described_in_words(library).splitlines() if line.startswith("conserved")]
    return found, conservation_wording.absorbed(found).replace(SPACE, " "), facts[0]


def test_where_relevance_is_lost(tmp_path):
    """The logit is 1 + 24 = 25: a twenty-fifth is left below the last layer."""
    found, sentence, fact = explained(net(1.0, 24.0), tmp_path)
    assert found.departure[:2] == ("2", "Linear")
    assert found.departure[2] == pytest.approx(1 / 25, rel=1e-5)
    assert sentence.endswith(
        "(most: 96.0 % in 2). Below 2 (Linear), relevance adds up to less than a tenth of what started."
    )
    assert "(2 96 %); below 2 (Linear) it adds up to 4 %; measured on 1 sample" in fact


def test_where_relevance_is_amplified(tmp_path):
    """The logit is 13 - 12 = 1: the layer below gets 13 times that."""
    found, sentence, fact = explained(net(13.0, -12.0), tmp_path)
    assert found.departure[2] == pytest.approx(13, rel=1e-5)
    assert sentence == (
        "Relevance is not conserved: at the input it adds up to 13 times what started at the output (added: 12 times "
        "in 2), so the heatmap shows relative strength only. Below 2 (Linear), relevance adds up to more than three "
        "times what started."
    )
    assert "below 2 (Linear) it adds up to 13 times" in fact
