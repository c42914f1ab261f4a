"""The result of an evaluation, as frozen values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from crp.errors import InputError, nearest
from crp.evaluation.measures import mean_and_error


@dataclass(frozen=True)
class Figure:
    """A mean over samples.

    Attributes
    ----------
    mean
        NaN if it is not defined for any sample.
    error
        Its standard error over samples; NaN for fewer than two.
    samples
        For how many samples it is defined.
    """

    mean: float
    error: float
    samples: int

    @classmethod
    def of(cls, values: np.ndarray) -> Figure:
        """Average the values of samples, `[N]`; NaN where it is not defined."""
        values = np.asarray(values, dtype=np.float64)
        return cls(*mean_and_error(values), int((~np.isnan(values)).sum()))


@dataclass(frozen=True)
class Curve:
    """What the explained output becomes while concepts are removed, or put back, in the order of a ranking.

    Attributes
    ----------
    mean
        Mean output over samples at each of the fractions, as a part of the mean output with all concepts.
    area
        Area between the curve and where it starts, divided by that of random rankings: above 1 is better than random.
    """

    mean: tuple[float, ...]
    area: Figure


@dataclass(frozen=True)
class RankingEvaluation:
    """One way to rank concepts, measured.

    Attributes
    ----------
    name
        `"relevance"` for the explanation itself, or the baseline.
    correlation
        Spearman's rank correlation with the effects of removing single concepts, by what takes their place.
    curves
        By (`"deletion"` or `"insertion"`, what takes the place of removed concepts).
    sign
        Share of the concepts that matter whose score has the sign of their effect, 0..1.
    wrong_support
        Share of the first six supporting concepts whose removal raises the output, 0..1.
    """

    name: str
    correlation: Mapping[str, Figure]
    curves: Mapping[tuple[str, str], Curve]
    sign: Figure
    wrong_support: Figure


@dataclass(frozen=True)
class LayerEvaluation:
    """All rankings of one layer.

    Attributes
    ----------
    layer
        Name of the layer.
    concepts
        Number of its concepts.
    fractions
        Fractions of the concepts at which curves are measured, 0..1.
    rankings
        The explanation first, then the baselines.
    """

    layer: str
    concepts: int
    fractions: tuple[float, ...]
    rankings: tuple[RankingEvaluation, ...]

    def ranking(self, name: str) -> RankingEvaluation:
        """Return one ranking by name.

        Raises
        ------
        InputError
        """
        found = {ranking.name: ranking for ranking in self.rankings}
        if name not in found:
            raise InputError(f"There is no ranking {name!r}: {nearest(name, [*found])}")
        return found[name]

    @property
    def verdict(self) -> str:
        """One sentence: how far the order and the signs of the explanation are those of the network."""
        ranking = self.ranking("relevance")
        correlation, sign = ranking.correlation["zero"].mean, ranking.sign.mean
        if math.isnan(correlation):
            return f"At {self.layer}, no concept has an effect, so nothing can be said."
        levels = {0.9: "is", 0.7: "is roughly", 0.4: "is only in part"}
        order = next((words for least, words in levels.items() if correlation >= least), "is not")
        return (
            f"At {self.layer}, the order of the concepts {order} that of their measured effects (rank correlation "
            f"{correlation:.2f}). Of the concepts with an effect of at least 1%, {sign:.0%} have the right sign."
        )


def figures_of(found: Mapping[str, Sequence[np.ndarray]]) -> dict[str, tuple[Figure, ...]]:
    """Average over the samples of all batches: by row, one array `[columns, N]` for each batch."""
    return {name: tuple(map(Figure.of, np.concatenate(numbers, 1))) for name, numbers in found.items()}


@dataclass(frozen=True)
class Finding:
    """What one measure found at one place: a table of figures, and what it says.

    Attributes
    ----------
    measure
        Name of the measure.
    title
        What is measured, as the title of a section.
    meaning
        How it is measured, and how its figures are read.
    place
        A layer, two layers, or empty for the whole model.
    verdict
        What follows, in one sentence.
    columns
        What the figures are.
    rows
        By what is compared, one figure for each column. The explanation itself comes first.
    """

    measure: str
    title: str
    meaning: str
    place: str
    verdict: str
    columns: tuple[str, ...]
    rows: Mapping[str, tuple[Figure, ...]]

    def figure(self, row: str, column: str) -> Figure:
        """Return one figure."""
        return self.rows[row][self.columns.index(column)]


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Attributes
    ----------
    layers
        Rankings of the concepts of each layer, in the order in which the layers were given.
    samples
        Number of samples.
    provenance
        Rules, versions and settings.
    findings
        What the other measures found.
    """

    layers: tuple[LayerEvaluation, ...]
    samples: int
    provenance: Mapping[str, Any] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    @property
    def verdicts(self) -> tuple[str, ...]:
        """What follows, one sentence for each layer and finding."""
        return tuple(one.verdict for one in (*self.layers, *self.findings))

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; NaN is written as None."""
        return {
            "samples": self.samples,
            "provenance": dict(self.provenance),
            "layers": [
                {
                    "layer": layer.layer,
                    "concepts": layer.concepts,
                    "fractions": list(layer.fractions),
                    "verdict": layer.verdict,
                    "rankings": {ranking.name: _ranking_numbers(ranking) for ranking in layer.rankings},
                }
                for layer in self.layers
            ],
            "findings": [
                {
                    "measure": finding.measure,
                    "title": finding.title,
                    "place": finding.place,
                    "verdict": finding.verdict,
                    "rows": {
                        name: dict(zip(finding.columns, map(_figure_numbers, figures), strict=True))
                        for name, figures in finding.rows.items()
                    },
                }
                for finding in self.findings
            ],
        }


def _ranking_numbers(ranking: RankingEvaluation) -> dict[str, Any]:
    return {
        "correlation": {fill: _figure_numbers(figure) for fill, figure in ranking.correlation.items()},
        "sign": _figure_numbers(ranking.sign),
        "wrong_support": _figure_numbers(ranking.wrong_support),
        "curves": {
            f"{kind}, {fill}": {"mean": list(map(_number, curve.mean)), "area": _figure_numbers(curve.area)}
            for (kind, fill), curve in ranking.curves.items()
        },
    }


def _figure_numbers(figure: Figure) -> dict[str, float | int | None]:
    return {"mean": _number(figure.mean), "error": _number(figure.error), "samples": figure.samples}


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
