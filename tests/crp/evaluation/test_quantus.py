"""The recipe for Quantus in docs/evaluation.md runs, and agrees with our own measure; skipped without Quantus."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import crp

PAGE = Path(__file__).resolve().parents[3] / "docs" / "evaluation.md"


def test_the_recipe_gives_the_figures_of_our_own_measure() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("quantus")
        (block,) = re.findall(r"```python\n(import quantus.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
        found: dict = {}
        exec(block, found)
    masks = np.stack([found["scenes"].shown(index) for index in range(8)])
    arguments = {"masks": torch.from_numpy(masks), "progress": False}
    (ours,) = crp.evaluate(found["model"], found["data"], ["conv5"], measures=["localisation"], **arguments).findings
    assert np.mean(found["mass"]) == pytest.approx(ours.figure("heatmap", "inside").mean, abs=1e-6)
    similarities = found["randomised"]
    assert np.allclose(similarities["original"], 1)
    assert np.mean(similarities["conv1"]) < np.mean(similarities["logits"]) < 1
