"""What every part of a figure expects of a kind of input: the interface of all renderers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from matplotlib.axes import Axes

from crp.explanations import ConceptMap

# left, right, bottom, top: a place in the coordinates of the axes' data
Box = tuple[float, float, float, float]


class Renderer(Protocol):
    """The interface that every part of a figure asks of a kind of input."""

    strip: float
    """Width of a place for one concept's heatmap, in heights."""

    patch_ratio: float
    """Width of a place for one patch, in heights."""

    margins: tuple[float, float]
    """Inches that labels need at the left and below, where the drawing is not small."""

    def ratio(self, picture: np.ndarray) -> float:
        """Width of what is drawn, in heights."""

    def draw_input(self, axes: Axes, picture: np.ndarray, heatmap: np.ndarray) -> None:
        """Draw the input; the heatmap says which part of it, where not all can be shown."""

    def draw_heatmap(
        self,
        axes: Axes,
        picture: np.ndarray,
        heatmap: np.ndarray,
        limit: float | None = None,
        power: float = 1.0,
        *,
        small: bool = False,
    ) -> float:
        """Draw relevance on the input, full at ±limit and below by its power; returns the limit.

        Small ones have no axis.
        """

    def draw_concept_map(
        self, axes: Axes, picture: np.ndarray, concept_map: ConceptMap, colours: Mapping[int, str]
    ) -> None:
        """Draw the strongest concept of each cell: one colour and number a concept."""

    def draw_patch(self, axes: Axes, box: Box, picture: np.ndarray, heatmap: np.ndarray) -> None:
        """Draw a patch into a box of the axes, as large as fits, with what its concept does not look at washed out."""

    def draw_thumbnail(
        self, axes: Axes, box: Box, heatmap: np.ndarray, limit: float, power: float = 1.0
    ) -> None:
        """Draw relevance alone over the whole box, full at ±limit and below by its power."""
