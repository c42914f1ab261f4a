"""Volumes: the slices with most relevance, and a profile of all slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

from crp.explanations import ConceptMap
from crp.media.medium import Medium
from crp.visualization import encoding as images
from crp.visualization.colours import INK, REST, SOFT
from crp.visualization.figures.renderers.image_renderer import ImageRenderer
from crp.visualization.figures.renderers.marks import outline
from crp.visualization.figures.renderers.renderer import Box
from crp.visualization.inputs.laid_out import drawn_map
from crp.visualization.inputs.volume_pages import VolumePages


@dataclass(frozen=True)
class VolumeRenderer:
    """Volumes, float32 `[c, D, H, W]` (the mean over channels is shown): the slices with most relevance, front to back.

    Below the slices a profile shows the absolute relevance of every slice, with a mark at each one that is shown.

    Parameters
    ----------
    slices
        How many slices to show.
    axis
        Axis that is sliced: 0 for D, 1 for H, 2 for W.
    """

    slices: int = 3
    axis: int = 0

    patch_ratio = 1.0
    margins = (0.0, 0.0)
    _PROFILE = 0.3  # of the height of a slice
    _GAP = 0.04

    @property
    def strip(self) -> float:
        """Aspect ratio of the place for a concept's heatmap."""
        return self.slices / (1 + self._PROFILE)

    def ratio(self, picture: np.ndarray) -> float:
        """Return the aspect ratio of the drawing."""
        height, width = self._cut(picture.mean(axis=0)).shape[1:]
        return self.slices * width / (height * (1 + self._PROFILE))

    def chosen(self, heatmap: np.ndarray) -> list[int]:
        """Choose the slices with most absolute relevance, in order of position (of equal ones the first)."""
        strength = np.abs(self._cut(heatmap)).sum(axis=(1, 2), dtype=np.float64)
        return sorted(np.argsort(-strength, kind="stable")[: self.slices].tolist())

    def draw_input(self, axes: Axes, picture: np.ndarray, heatmap: np.ndarray) -> None:
        """Draw the input."""
        self._draw(axes, picture, heatmap)

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
        self._draw(axes, picture, heatmap, limit, power, small=small)
        return limit

    def draw_concept_map(
        self, axes: Axes, picture: np.ndarray, concept_map: ConceptMap, colours: Mapping[int, str]
    ) -> None:
        """Draw the strongest concept of each cell over the middle slice of each slab, side by side."""
        slabs, length = concept_map.grid[0], picture.shape[1]
        pages = VolumePages(Medium.volume(), tuple((2 * index + 1) * length // (2 * slabs) for index in range(slabs)))
        drawn = pages.picture(picture)
        ImageRenderer().draw_concept_map(axes, drawn, drawn_map(concept_map, pages, drawn.shape[:2]), colours)

    def draw_patch(self, axes: Axes, box: Box, picture: np.ndarray, heatmap: np.ndarray) -> None:
        """Draw the strongest slice of a patch into a box of the axes."""
        relevance = self._cut(heatmap)
        strongest = int(np.abs(relevance).sum(axis=(1, 2), dtype=np.float64).argmax())
        ImageRenderer().draw_patch(axes, box, self._cut(images.grey(picture))[strongest], relevance[strongest])

    def draw_thumbnail(
        self, axes: Axes, box: Box, heatmap: np.ndarray, limit: float, power: float = 1.0
    ) -> None:
        """Draw relevance alone over the whole box."""
        strongest = self._cut(heatmap)[np.abs(self._cut(heatmap)).sum(axis=(1, 2)).argmax()]
        ImageRenderer().draw_thumbnail(axes, box, strongest, limit, power)

    def _cut(self, values: np.ndarray) -> np.ndarray:
        return np.moveaxis(values, self.axis, 0)

    def _draw(
        self,
        axes: Axes,
        picture: np.ndarray,
        heatmap: np.ndarray,
        limit: float | None = None,
        power: float = 1.0,
        *,
        small: bool = False,
    ) -> None:
        grey = self._cut(images.grey(picture))
        relevance = self._cut(heatmap)
        height, width = relevance.shape[1:]
        chosen = self.chosen(heatmap)
        for place, index in enumerate(chosen):
            shown = grey[index] if limit is None else images.overlay(grey[index], relevance[index], limit, power)
            left = place * (1 + self._GAP) * width
            box = (left, left + width, height, 0)
            axes.imshow(shown, extent=box, interpolation="nearest")
            if limit and not small:
                outline(axes, box, images.against(relevance[index], limit))
            label = axes.text(left + 0.04 * width, 0.04 * height, str(index), fontsize=6, va="top", color="white")
            label.set_path_effects([withStroke(linewidth=1.4, foreground="#14161a")])
        self._draw_profile(axes, relevance, chosen)
        axes.set(xlim=(0, self._width(width)), ylim=(height * (1 + self._PROFILE), 0), aspect="equal", anchor="NW")
        axes.set_axis_off()

    def _width(self, width: int) -> float:
        return (self.slices * (1 + self._GAP) - self._GAP) * width

    def _draw_profile(self, axes: Axes, relevance: np.ndarray, chosen: Sequence[int]) -> None:
        count, height, width = relevance.shape
        strength = np.abs(relevance).sum(axis=(1, 2), dtype=np.float64)
        step = self._width(width) / count
        foot, tallest = height * (1 + self._PROFILE), 0.8 * self._PROFILE * height
        for index, value in enumerate(strength / (strength.max() or 1)):
            colour = INK if index in chosen else REST
            axes.bar((index + 0.5) * step, -tallest * value, 0.8 * step, bottom=foot, color=colour)
        axes.plot([0, count * step], [foot, foot], color=SOFT, linewidth=0.8)
