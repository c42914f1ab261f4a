"""Spectrograms: images with labelled axes of time and frequency."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from crp.explanations import ConceptMap
from crp.visualization.figures.renderers.image_renderer import ImageRenderer
from crp.visualization.figures.renderers.marks import label_axis
from crp.visualization.figures.renderers.renderer import Box


@dataclass(frozen=True)
class SpectrogramRenderer(ImageRenderer):
    """Spectrograms, model input `[1, F, T]`: an image with labelled axes, low frequencies at the bottom.

    Parameters
    ----------
    times, frequencies
        Start and end of the axes, in the units of their labels; by default they count frames and bins.
    time_label, frequency_label
        Labels of the axes.
    """

    times: tuple[float, float] | None = None
    frequencies: tuple[float, float] | None = None
    time_label: str = "frame"
    frequency_label: str = "frequency bin"

    margins = (0.42, 0.33)

    def _draw(self, axes: Axes, picture: np.ndarray, *, small: bool = False) -> None:
        super()._draw(axes, picture)
        # The first row of the model's input is the lowest frequency.
        axes.invert_yaxis()
        if small:
            return
        axes.set_axis_on()
        height, width = picture.shape[:2]
        label_axis(axes.xaxis, width, self.times, self.time_label)
        label_axis(axes.yaxis, height, self.frequencies, self.frequency_label)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)

    def draw_concept_map(
        self, axes: Axes, picture: np.ndarray, concept_map: ConceptMap, colours: Mapping[int, str]
    ) -> None:
        """Draw the strongest concept of each cell."""
        super().draw_concept_map(axes, picture, concept_map, colours)
        axes.set_ylim(-0.5, picture.shape[0] - 0.5)

    def draw_patch(self, axes: Axes, box: Box, picture: np.ndarray, heatmap: np.ndarray) -> None:
        """Draw a patch into a box of the axes."""
        super().draw_patch(axes, box, picture[::-1], heatmap[::-1])

    def draw_thumbnail(
        self, axes: Axes, box: Box, heatmap: np.ndarray, limit: float, power: float = 1.0
    ) -> None:
        """Draw relevance alone over the whole box."""
        super().draw_thumbnail(axes, box, heatmap[::-1], limit, power)
