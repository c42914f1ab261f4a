"""The interface of renderers: what figures need in order to draw one kind of input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from matplotlib.axes import Axes

from crp.explanations import ConceptMap

# left, right, bottom, top in data coordinates
Box = tuple[float, float, float, float]


class Renderer(Protocol):
    """How figures draw one kind of input."""

    strip: float
    """Aspect ratio (width / height) of the place for a concept's heatmap."""

    patch_ratio: float
    """Aspect ratio of the place for a patch."""

    margins: tuple[float, float]
    """Inches that labels need at the left and below, unless the drawing is small."""

    def ratio(self, picture: np.ndarray) -> float:
        """Return the aspect ratio of the drawing."""

    def draw_input(self, axes: Axes, picture: np.ndarray, heatmap: np.ndarray) -> None:
        """Draw the input; if only a part of it fits, the heatmap selects which."""

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
        """Draw relevance over the input; colours grow with exponent `power` up to ±limit. Return the limit.

        Small drawings have no labelled axes.
        """

    def draw_concept_map(
        self, axes: Axes, picture: np.ndarray, concept_map: ConceptMap, colours: Mapping[int, str]
    ) -> None:
        """Draw the strongest concept of each cell, with one colour and number for each concept."""

    def draw_patch(self, axes: Axes, box: Box, picture: np.ndarray, heatmap: np.ndarray) -> None:
        """Draw a patch into a box of the axes, as large as fits, faded where its concept has no relevance."""

    def draw_thumbnail(
        self, axes: Axes, box: Box, heatmap: np.ndarray, limit: float, power: float = 1.0
    ) -> None:
        """Draw only relevance over the whole box; colours grow with exponent `power` up to ±limit."""
