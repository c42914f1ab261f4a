"""Images: relevance as colour over the faded picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from crp.explanations import ConceptMap
from crp.visualization import encoding as images
from crp.visualization.figures.renderers.marks import draw_cells, outline
from crp.visualization.figures.renderers.renderer import Box


@dataclass(frozen=True)
class ImageRenderer:
    """Images, uint8 `[H, W, 3]`: relevance as colour over the faded picture."""

    strip = 1.0
    patch_ratio = 1.0
    margins = (0.0, 0.0)

    def ratio(self, picture: np.ndarray) -> float:
        """Return the aspect ratio of the drawing."""
        height, width = picture.shape[:2]
        return width / height

    def draw_input(self, axes: Axes, picture: np.ndarray, heatmap: np.ndarray) -> None:
        """Draw the input."""
        self._draw(axes, picture)

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
        """Draw relevance over the input; see `Renderer`."""
        limit = images.colour_limit(heatmap) if limit is None else limit
        self._draw(axes, images.overlay(picture, heatmap, limit, power), small=small)
        if not small:
            height, width = heatmap.shape
            outline(axes, (-0.5, width - 0.5, height - 0.5, -0.5), images.against(heatmap, limit))
        return limit

    def draw_concept_map(
        self, axes: Axes, picture: np.ndarray, concept_map: ConceptMap, colours: Mapping[int, str]
    ) -> None:
        """Draw the strongest concept of each cell."""
        rows, columns = concept_map.concept.shape
        height, width = concept_map.shape
        cell = np.array([width / columns, height / rows])
        self._draw(axes, images.faded(picture))
        # Cells are given in pixels, whose centres imshow puts at whole numbers.
        draw_cells(axes, concept_map, colours, corner=np.array([-0.5, -0.5]), cell=cell)
        axes.set(xlim=(-0.5, picture.shape[1] - 0.5), ylim=(picture.shape[0] - 0.5, -0.5))

    def draw_patch(self, axes: Axes, box: Box, picture: np.ndarray, heatmap: np.ndarray) -> None:
        """Draw a patch into a box of the axes."""
        left, right, bottom, top = box
        height, width = heatmap.shape
        scale = min((right - left) / width, (top - bottom) / height) / 2
        x, y = (left + right) / 2, (bottom + top) / 2
        extent = (x - scale * width, x + scale * width, y - scale * height, y + scale * height)
        axes.imshow(images.veiled(picture, heatmap, 0.65), extent=extent, interpolation="antialiased", zorder=3)

    def draw_thumbnail(
        self, axes: Axes, box: Box, heatmap: np.ndarray, limit: float, power: float = 1.0
    ) -> None:
        """Draw relevance alone over the whole box."""
        picture = images.squared(images.colours(heatmap, limit, power), 64)
        axes.imshow(picture, extent=box, interpolation="antialiased", zorder=3)

    def _draw(self, axes: Axes, picture: np.ndarray, *, small: bool = False) -> None:
        height, width = picture.shape[:2]
        axes.imshow(picture, interpolation="nearest" if max(height, width) <= images.SMALL_SIDE else "antialiased")
        axes.set_axis_off()
        axes.set_anchor("NW")
