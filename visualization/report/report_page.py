"""The report of an evaluation as one HTML file that opens offline."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from crp.evaluation import Evaluation, Finding, LayerEvaluation, RankingEvaluation
from crp.evaluation import Figure as Mean
from crp.visualization.number_formats import MINUS, SPACE
from crp.visualization.report.curves import evaluation_figure
from crp.visualization.report.documents import document

# What each ranking is, for the table.
_NAMES = {
    "relevance": "relevance (this explanation)",
    "activation": "activation",
    "gradient × part": "gradient × part",
    "integrated gradients": "integrated gradients, 20 steps",
    "single effects": "single effects (reference)",
    "random": "random order, mean of five",
}


def evaluation_report(evaluation: Evaluation, title: str) -> str:
    """Write the report.

    Parameters
    ----------
    evaluation
        What was measured.
    title
        Its title, such as the name of the library.

    Returns
    -------
    str
        HTML.
    """
    return document(
        "evaluation.html",
        title=title,
        samples=evaluation.samples,
        layers=[_layer(layer) for layer in evaluation.layers],
        measures=[_measure(list(found)) for _, found in groupby(evaluation.findings, lambda one: one.measure)],
        provenance=list(_provenance(evaluation)),
    )


def _layer(layer: LayerEvaluation) -> dict[str, Any]:
    picture = io.BytesIO()
    evaluation_figure(layer).savefig(picture, format="svg", metadata={"Date": None})
    curves = list(layer.rankings[0].curves)
    return {
        "name": layer.layer,
        "concepts": layer.concepts,
        "verdict": layer.verdict,
        "figure": "data:image/svg+xml;base64," + base64.b64encode(picture.getvalue()).decode(),
        "correlations": list(layer.rankings[0].correlation),
        "curves": [f"{kind}, {fill}" for kind, fill in curves],
        "rows": [_row(ranking, curves) for ranking in layer.rankings],
    }


def _measure(findings: list[Finding]) -> dict[str, Any]:
    """Describe what one measure found, at all places."""
    return {
        "name": findings[0].measure,
        "title": findings[0].title,
        "meaning": findings[0].meaning,
        "findings": [
            {
                "place": finding.place,
                "verdict": finding.verdict,
                "columns": finding.columns,
                "rows": [
                    {"name": _NAMES.get(name, name), "own": not number, "cells": [_text(figure) for figure in figures]}
                    for number, (name, figures) in enumerate(finding.rows.items())
                ],
            }
            for finding in findings
        ],
    }


def _row(ranking: RankingEvaluation, curves: list[tuple[str, str]]) -> dict[str, Any]:
    signed = ranking.name not in ("activation", "random")
    return {
        "name": _NAMES[ranking.name],
        "own": ranking.name == "relevance",
        "cells": [
            *(_text(figure) for figure in ranking.correlation.values()),
            *(_text(ranking.curves[key].area) for key in curves),
            _text(ranking.sign, percent=True) if signed else "",
            _text(ranking.wrong_support, percent=True),
        ],
    }


def _text(figure: Mean, *, percent: bool = False) -> str:
    """Write a mean with its standard error."""
    if math.isnan(figure.mean):
        return "–"
    scale, digits, unit = (100, 0, f"{SPACE}%") if percent else (1, 2, "")
    error = "" if math.isnan(figure.error) else f" ± {figure.error * scale:.{digits}f}"
    return f"{figure.mean * scale:.{digits}f}{error}{unit}".replace("-", MINUS)


def _provenance(evaluation: Evaluation) -> Iterator[tuple[str, str]]:
    facts = evaluation.provenance
    yield "Rules", f"{facts['rules']['name']}. {facts['rules']['reason']}"
    yield "Versions", ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    yield "Settings", ", ".join(f"{name} {value}" for name, value in facts["settings"].items())
