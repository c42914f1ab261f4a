"""What every part of a figure expects of a kind of input: the interface of all renderers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from matplotlib.axes import Axes

from crp.explanations import ConceptMap

# left, right, bottom, top in data coordinates
Box = tuple[float, float, float, float]


class Renderer(Protocol):
    """What figures need to draw one kind of input."""

    strip: float
    """Aspect ratio (width / height) of the place for a concept's heatmap."""

    patch_ratio: float
    """Aspect ratio of the place for a patch."""

    margins: tuple[float, float]
    """Inches that labels need at the left and below, where the drawing is not small."""

    def ratio(self, picture: np.ndarray) -> float:
        """Return the aspect ratio of the drawing."""

    def draw_input(self, axes: Axes, picture: np.ndarray, heatmap: np.ndarray) -> None:
        """Draw the input; the heatmap selects the part to show where not all of it fits."""

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
        """Draw relevance over the input, saturated at ±limit, below with exponent `power`; return the limit.

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
        """Draw relevance alone over the whole box, saturated at ±limit, below with exponent `power`."""
