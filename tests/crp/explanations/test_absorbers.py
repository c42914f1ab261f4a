"""Where relevance is absorbed on the way to the input: numbers of an explanation, its JSON and its sentence."""

import torch
from torch import nn

import crp
from crp.explanations import from_json, to_json
from crp.explanations.computation import explain
from crp.visualization import conservation_wording, wording


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
    sentence = conservation_wording.absorbed(found).replace(wording.SPACE, " ")
    assert "44 % of the relevance was absorbed by biases and stabilisers" in sentence
    assert sentence.endswith(" (most: 25.0 % in 3, 18.8 % in 1).")
