"""The scripts in tutorials/ that are written with zennit-crp's names run, and what they say is so."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import crp.attribution  # noqa: F401  (the workaround must run before zennit is imported)
from tests.oracle import photos
from tests.oracle.comparing import assert_relevance_close

TUTORIALS = Path(__file__).resolve().parents[2] / "tutorials"


def loaded(script: str, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> dict:
    """The names a script defines, with the command line it will see."""
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    return runpy.run_path(str(TUTORIALS / script))


def test_relevance_starts_from_a_segmentation_mask(monkeypatch):
    script = loaded("follow_up_works/segmentation_mask.py", monkeypatch)
    results = script["main"]()
    logits = script["stripes_net"]()(script["bars"]())[0, 0].detach()
    for name, side in {"left": slice(0, 6), "right": slice(6, 12)}.items():
        heatmap, shares = results[name]
        assert shares.tolist() == [1, 0]
        # the net has no bias: all that starts inside the mask arrives, and nowhere else
        assert float(heatmap[:, side].sum()) == pytest.approx(float(heatmap.sum()), rel=1e-6)
        assert float(heatmap.sum()) == pytest.approx(float(logits[:, side].clamp(min=0).sum()), rel=1e-5)


def test_features_of_tokens_are_concepts(monkeypatch):
    script = loaded("follow_up_works/token_concept.py", monkeypatch)
    attr, shares, best, heatmaps, everything = script["main"]()
    assert attr.relevances["features"].shape == (1, 16, 8)
    assert float(shares.abs().sum()) == pytest.approx(1, rel=1e-5)
    assert heatmaps.shape == (2, 16, 16)
    # without biases each feature's heatmap adds up to its relevance (but for epsilon), and all of them to the class's
    totals = attr.relevances["features"][0].sum(0)
    assert_relevance_close(heatmaps.sum((1, 2)), totals[best], 1e-4)
    assert_relevance_close(everything, attr.heatmap, 1e-5)


def test_a_token_concept_answers_as_ours_do(monkeypatch):
    concept = loaded("follow_up_works/token_concept.py", monkeypatch)["FeatureConcept"]()
    relevance = torch.arange(24.0).reshape(1, 4, 6)
    assert concept.size((4, 6)) == 6
    assert concept.masked(relevance, [[1], [0, 5]])[:, 0, 3].tolist() == [[0, 19, 0, 0, 0, 0], [18, 0, 0, 0, 0, 23]]
    assert concept.total(relevance).tolist() == [[36, 40, 44, 48, 52, 56]]
    assert concept.peak(relevance)[1].tolist() == [[3] * 6]
    kept = concept.at_positions(relevance, torch.tensor([2]), torch.tensor([1]))
    assert kept.shape == (1, 1, 4, 6)
    assert kept.nonzero().tolist() == [[0, 0, 1, 2]]
    assert list(concept.get_rf_indices((4, 6))) == [0, 1, 2, 3]


def test_a_canonizer_for_an_unknown_block_conserves_relevance(monkeypatch):
    logit, sums = loaded("follow_up_works/own_canonizer.py", monkeypatch)["main"]()
    assert sums["with"] == pytest.approx(logit, rel=1e-3)
    assert abs(sums["without"] - logit) > abs(logit)


def test_concept_vectors_of_a_class(monkeypatch):
    script = loaded("follow_up_works/concept_prototypes.py", monkeypatch, "--samples", "12")
    vectors, tagged, found = script["main"]()
    assert vectors.shape == (12, 40)
    np.testing.assert_allclose(np.abs(vectors).sum(1), 1, rtol=1e-5)
    # one vector by itself, as it is for any number of scenes
    scenes = script["Scenes"]("test", 10)
    alone = script["concept_vectors"](
        script["demo_model"](), [scenes.preprocessing.to_input(scenes.without_tag(9))], 9, "conv5"
    )
    np.testing.assert_allclose(vectors[0], alone[0], atol=1e-5)
    if found is None:
        pytest.skip("scikit-learn is not installed: no Gaussian mixture to look at")
    assert len(set(found[tagged])) == len(set(found[~tagged])) == 1
    assert found[0] != found[1]


def test_the_attribution_tutorial_on_the_built_in_scene(monkeypatch, capsys):
    script = loaded("zennit_crp_attributions.py", monkeypatch)
    script["main"]()
    printed = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert printed["class"] == "9"
    assert printed["feeds"] == "['conv4']"
    assert float(printed["arrived"]) == pytest.approx(float(printed["logit"]), rel=0.05)


def test_the_attribution_tutorial_on_real_weights(monkeypatch, real_data):
    """The numbers that the same script gave with zennit-crp 0.6.0, in float32; ours in float64, alike everywhere."""
    script = loaded("zennit_crp_attributions.py", monkeypatch)
    sample = real_data / "imagenet_samples" / photos.samples(real_data)[0]["file"]
    with Image.open(sample) as image:
        assert image.size  # it is a picture, before minutes are spent
    model, data, layers = script["photo"](str(real_data / "squeezenet1_1_imagenet.safetensors"), sample)
    found = script["analyse"](model.double(), data.double(), layers, lambda name, heatmaps: None)
    assert found["class"] == 1
    assert found["channels"] == pytest.approx(
        {54: 0.0622904, 50: 0.0595037, 19: 0.0556577, 60: 0.0501068, 28: 0.0490119, 3: 0.0387347}, rel=1e-4
    )
    assert found["arrived"] == pytest.approx(41.16696, rel=1e-4)
    assert found["several"] == pytest.approx([7.327388, 0.5596998], rel=1e-4)
    assert found["in the region"] == pytest.approx({19: 0.0688327, 60: 0.0607044, 28: 0.0584750}, rel=1e-4)
    assert found["made of"] == pytest.approx({20: 0.1038258, 35: 0.0619466, 37: 0.0517101}, rel=1e-4)
    assert found["feeds"] == ["features.11.expand1x1", "features.11.expand3x3"]
    assert len(found["nodes"]) == 12
    assert [edge[:2] for edge in found["edges"]["features.11.expand3x3", 248]] == [
        ("features.11.squeeze", 49),
        ("features.11.squeeze", 32),
    ]


def test_the_attribution_tutorial_keeps_pictures(monkeypatch, tmp_path, capsys):
    loaded("zennit_crp_attributions.py", monkeypatch, "--pictures", str(tmp_path))["main"]()
    for name, count in {"class": 1, "channels": 6}.items():
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert picture.width / picture.height == pytest.approx(count, rel=0.1)
