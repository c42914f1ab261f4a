"""The scripts in tutorials/ that mine with zennit-crp's names run, and what they say is so."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from crp.attribution import RelevanceFlow
from crp.demo import demo_model

TUTORIALS = Path(__file__).resolve().parents[2] / "tutorials"


def loaded(script: str, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> dict:
    """The names a script defines, with the command line it will see."""
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    return runpy.run_path(str(TUTORIALS / script))


def test_the_tutorial_on_built_in_scenes(monkeypatch, tmp_path, capsys):
    loaded("zennit_crp_feature_visualization.py", monkeypatch, "--scenes", "40", "--out", str(tmp_path))["main"]()
    printed = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    # the concept of the tag: nearly all relevance of the tagged class, whose label is 9
    assert printed["concepts"].startswith("{37: 0.7")
    assert printed["classes"].startswith("{9: 0.6")
    best = [int(number) for number in printed["best"].partition("[")[2].partition("]")[0].split(",")]
    assert [sample % 10 for sample in best[:3]] == [9] * 3
    for name in ("relevance", "activation", "heatmaps", "zoomed", "classes"):
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert picture.size == (800, 700)
    assert printed["cached"] == str(len(list((tmp_path / "cache").rglob("*.png"))))


@pytest.mark.slow
def test_the_tutorial_on_real_weights(monkeypatch, real_data, tmp_path):
    """The numbers that the same script gave with zennit-crp 0.6.0, in float32; its crops left out a row and a column.

    Ours are computed in float64, so that they are the same on every processor.
    """
    script = loaded("zennit_crp_feature_visualization.py", monkeypatch)
    samples = real_data / "imagenet_samples"
    weights = str(real_data / "squeezenet1_1_imagenet.safetensors")
    model, dataset, preprocess, layers = script["photos"](weights, samples, samples / "index.json")
    found = script["analyse"](model.double(), dataset, lambda data: preprocess(data.double()), layers, tmp_path)
    assert found["concepts"] == pytest.approx(
        {224: 0.16100410, 46: 0.07799385, 167: 0.05630131, 218: 0.05359863}, rel=1e-4
    )
    assert found["best"] == {224: [9, 0, 14, 40], 46: [8, 9, 7, 45], 167: [9, 28, 11, 35], 218: [2, 11, 9, 8]}
    classes = {88: 0.16100408, 1: 0.04901053, 235: 0.02758318, 820: 0.01172409}
    assert found["classes"] == pytest.approx(classes, rel=1e-4)
    theirs = np.array([(79, 82), (112, 95), (68, 100), (85, 86), (112, 116), (91, 100)])
    np.testing.assert_allclose(found["zoomed"][224], theirs + 1, atol=1)
    assert found["cached"] == 76


def test_samples_with_several_labels(monkeypatch):
    dataset, references, of_classes = loaded(
        "follow_up_works/several_labels.py", monkeypatch, "--samples", "20"
    )["main"]()
    labels = [dataset[index][1] for index in range(20)]
    labelled = [index for index in range(20) if labels[index].any()]
    assert len(labelled) == 16
    assert sum(int(each.sum()) for each in labels) > 16
    # every labelled sample once for each channel
    assert np.sort(references, axis=0).T.tolist() == [labelled] * 40
    for target, samples in of_classes.items():
        assert sorted(samples[:, 0]) == [index for index in labelled if labels[index][target]]


def test_a_maximization_that_clamps(monkeypatch):
    scenes, samples, scores = loaded(
        "follow_up_works/clamped_maximization.py", monkeypatch, "--samples", "20"
    )["main"]()
    assert samples.shape == scores.shape == (10, 40)
    with RelevanceFlow(demo_model(), None, torch.stack([scenes[index][0] for index in range(20)]), ["conv5"]) as flow:
        activation = flow.activation("conv5")
    best = [values.sum((2, 3)).sort(0, descending=True)[0][:10] for values in (activation.clamp(min=0), activation)]
    np.testing.assert_allclose(scores, best[0], rtol=1e-4, atol=1e-3)
    assert float((best[1] - best[0]).abs().max()) > 1  # clamping is seen
