"""The page of a correction says the figures and shows the samples that changed."""

from __future__ import annotations

import re

import pytest
import torch
from torch.utils.data import TensorDataset

import crp
from crp.correction import measure_fix, refit
from crp.library import Library
from crp.visualization.report.fix_page import fix_report
from tests.crp.correction.planted import planted_data, planted_model


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    return crp.mine(
        planted_model(), TensorDataset(*planted_data(8)), layers=["conv"], patches=0, progress=False,
        path=tmp_path_factory.mktemp("page") / "a.crp", class_names=["first", "<b>second</b>"],
        preprocessing=crp.Preprocessing(),
    )  # fmt: skip


def test_the_page_has_the_figures_and_the_samples_that_changed(library: Library) -> None:
    model, (data, _) = planted_model(), planted_data()
    held_out, truth = planted_data(seed=3)
    found = refit(model, data, "conv", 0)
    figures = measure_fix(model, found, held_out, "conv", 0, labels=truth)
    with torch.no_grad():
        first, second = (one(held_out).argmax(1) for one in (model, found.model))
    assert len(figures.better) == int(((first != truth) & (second == truth)).sum()) > 0
    assert len(figures.worse) == int(((first == truth) & (second != truth)).sum())
    assert figures.classes[1][:3] == (1, 60, pytest.approx(54 / 60))
    page = fix_report(figures, found.method, ("conv", 0), held_out, library)
    assert "<b>second" not in page
    assert page.count("<img") == min(10, len(figures.better)) + min(10, len(figures.worse))
    words = page.replace("\N{NO-BREAK SPACE}", " ")
    assert '>all samples: right</th><td class="amount">95.0 %<span class="track"><i style="width:95.0%">' in words
    # class 1: 54 of 60 are right before; six of them have no tag
    change = f"{100 * (figures.classes[1][3] - 0.9):+.1f}"
    assert re.search(rf"&lt;/b&gt;</th><td>60</td><td>90.0 %</td><td>[\d.]+ %</td><td>{re.escape(change)}</td>", words)
    assert f"For the better: {len(figures.better)}" in page
    assert "Last layer fitted to the model&#39;s own predictions; samples with the concept count" in page
    assert "Without labels" not in page
    assert "<h2>By class</h2>" in page


def test_without_labels_nothing_is_called_better(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    model, (data, _) = planted_model(), planted_data()
    found = refit(model, data, "conv", 0)
    figures = measure_fix(model, found, planted_data(seed=3)[0], "conv", 0)
    assert figures.better == ()
    assert len(figures.worse) == len(figures.changes) > 0
    page = fix_report(figures, found.method, ("conv", 0), planted_data(seed=3)[0], library)
    assert "For the better" not in page
    assert "For the worse" not in page
    assert "right: " not in page.partition("Samples whose prediction changed")[2]
    assert f"Samples whose prediction changed: {len(figures.changes)}</h2>" in page
    assert "are shown." not in page
    monkeypatch.setattr("crp.visualization.report.changes._SHOWN", 2)
    page = fix_report(figures, found.method, ("conv", 0), planted_data(seed=3)[0], library)
    assert "The first 2 are shown." in page
    assert page.count("<img") == 2
    assert "<h2>By predicted class</h2>" in page
    assert ">Class predicted before</th>" in page
    assert "Without labels, nobody can say which change is for the better" in page
