"""The page of a pruned model: the curve is where its numbers are, and what changed is told."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

import crp
from crp.correction import prune, pruning_curve
from crp.correction.figures_of_pruning import measure_pruning
from crp.library import Library
from crp.visualization.report.prune_page import prune_report
from page_in_browser import faults
from tests.crp.correction.planted import planted_data, planted_model

SCORES = {"conv": np.array([1.0, 3.0, 2.0])}  # the tag goes first


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    return crp.mine(
        planted_model(), TensorDataset(*planted_data(8)), layers=["conv"], patches=0, progress=False,
        path=tmp_path_factory.mktemp("pruned") / "a.crp", class_names=["first", "<b>second</b>"],
        preprocessing=crp.Preprocessing(),
    )  # fmt: skip


def test_the_page_has_the_curve_the_layers_and_the_samples_that_changed(library: Library) -> None:
    model, (data, labels) = planted_model(), planted_data()
    pruned = prune(model, data, SCORES, 0.4)
    figures = measure_pruning(model, pruned, data, SCORES, 0.4, labels=labels)
    assert list(figures.curve) == pruning_curve(model, data, SCORES, labels=labels, progress=False)
    cleared = data.clone()
    cleared[:, 0] = 0  # "conv" has kernels of a pixel: the tag's channel is zero
    with torch.no_grad():
        first, second = model(data).argmax(1), model(cleared).argmax(1)
    right = [float((one == labels).double().mean()) for one in (first, second)]
    assert (figures.before, figures.after) == (pytest.approx(right[0]), pytest.approx(right[1]))
    assert right[1] < right[0]
    assert figures.layers == (("conv", 3, 1),)
    assert len(figures.worse) == int(((first == labels) & (second != labels)).sum()) > 0
    assert figures.classes[0][:2] == (0, 60)
    page = prune_report(figures, pruned.method, data, library)
    assert "<b>second" not in page
    assert "<h1>1 of 3 filters taken out</h1>" in page
    assert f"{100 * right[0]:.1f}\N{NO-BREAK SPACE}% are right before" in page
    assert page.count("<img") == min(10, len(figures.better)) + min(10, len(figures.worse))
    # what is drawn is what was measured: the axes give the scale
    ticks = {text: float(y) for y, text in re.findall(r'y="([\d.]+)" dy="[^"]*" text-anchor="end">(\d+)', page)}
    zero, whole = ticks["0"], ticks["100"]
    points = [tuple(map(float, pair.split(","))) for pair in re.search(r'points="([^"]*)"', page)[1].split()]
    drawn = [(zero - y) / (zero - whole) for _, y in points]
    assert drawn == pytest.approx([right for _, right in figures.curve], abs=1e-3)
    here = re.search(r'class="here" cx="([\d.]+)" cy="([\d.]+)"', page)
    assert float(here[1]) == points[4][0]
    assert (zero - float(here[2])) / (zero - whole) == pytest.approx(right[1], abs=1e-3)


def test_without_labels_right_is_what_the_whole_model_says() -> None:
    model, (data, _) = planted_model(), planted_data()
    figures = measure_pruning(model, prune(model, data, SCORES, 0.4), data, SCORES, 0.4)
    assert figures.before == 1
    assert figures.by_labels is False
    assert figures.better == ()
    assert len(figures.worse) == round(120 * (1 - figures.after)) > 0


@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_no_fault_and_the_page_fits_a_phone(browser, library: Library, tmp_path: Path, dark: bool) -> None:
    model, (data, labels) = planted_model(), planted_data()
    figures = measure_pruning(model, prune(model, data, SCORES, 0.4), data, SCORES, 0.4, labels=labels, progress=False)
    path = tmp_path / "pruned.html"
    path.write_text(prune_report(figures, "1 of 3 filters taken out", data, library), "utf-8")
    browser.open(path)
    browser.media(dark=dark)
    browser.resize(400 if dark else 1300, 800)
    assert faults(browser) == []
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")
