"""Signals: a trace for each channel, with relevance as an area below."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from crp.explanations import ConceptMap
from crp.visualization import encoding as images
from crp.visualization.colours import AGAINST, AGAINST_TEXT, FOR, FOR_TEXT, INK, SOFT, TILE
from crp.visualization.figures.renderers.marks import draw_cells, style_axis
from crp.visualization.figures.renderers.renderer import Box


@dataclass(frozen=True)
class SignalRenderer:
    """Signals, float32 `[c, T]`: one trace per channel; below, relevance as an area, up for the class, down against it.

    Direction and hatching show the sign, also in grey prints. Behind the traces, a band of colour shows the same
    relevance.

    Parameters
    ----------
    rate
        Number of values per unit of time; by default the axis counts values.
    time_label
        Label of the time axis.
    channels
        Names of the channels, written next to their traces.
    """

    rate: float = 1.0
    time_label: str = "sample"
    channels: Sequence[str] = ()

    strip = 3.0
    patch_ratio = 2.0
    margins = (0.0, 0.33)
    # Relevance takes the axes up to here; traces are above.
    _AREA = 0.34

    def ratio(self, picture: np.ndarray) -> float:
        """Return the aspect ratio of the drawing."""
        return 3.0

    def draw_input(self, axes: Axes, picture: np.ndarray, heatmap: np.ndarray) -> None:
        """Draw the input."""
        self._draw_traces(axes, picture, (0, self._end(picture), 0.02, 0.98), named=True)
        self._finish(axes, picture)

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
        end = self._end(picture)
        self._draw_band(axes, (0, end, self._AREA + 0.02, 1), heatmap, limit, power)
        self._draw_traces(axes, picture, (0, end, self._AREA + 0.04, 0.98), named=not small)
        self._draw_area(axes, (0, end, 0, self._AREA), heatmap, limit, power)
        self._finish(axes, picture, small=small)
        return limit

    def draw_concept_map(
        self, axes: Axes, picture: np.ndarray, concept_map: ConceptMap, colours: Mapping[int, str]
    ) -> None:
        """Draw the strongest concept of each cell."""
        end = self._end(picture)
        self._draw_traces(axes, picture, (0, end, self._AREA + 0.04, 0.98), named=True)
        cell = np.array([end / concept_map.concept.shape[1], self._AREA])
        draw_cells(axes, concept_map, colours, corner=np.array([0.0, 0.0]), cell=cell)
        self._finish(axes, picture)

    def draw_patch(self, axes: Axes, box: Box, picture: np.ndarray, heatmap: np.ndarray) -> None:
        """Draw a patch into a box of the axes."""
        left, right, bottom, top = box
        axes.add_patch(Rectangle((left, bottom), right - left, top - bottom, color=TILE, linewidth=0, zorder=2))
        for times, levels in self._traces(picture, box):
            points = np.stack([times, levels], axis=1)
            steps = np.stack([points[:-1], points[1:]], axis=1)
            # Traces keep a tenth of their ink where the concept has no relevance.
            ink = 0.1 + 0.9 * np.sqrt(images.scaled(np.abs(heatmap), 1.0))
            colours = np.concatenate([np.tile(to_rgb(INK), (len(steps), 1)), ink[:-1, None]], axis=1)
            axes.add_collection(LineCollection(steps, colors=colours, linewidths=1.0, capstyle="round", zorder=4))

    def draw_thumbnail(
        self, axes: Axes, box: Box, heatmap: np.ndarray, limit: float, power: float = 1.0
    ) -> None:
        """Draw relevance alone over the whole box."""
        self._draw_area(axes, box, heatmap, limit, power)

    def _end(self, picture: np.ndarray) -> float:
        return picture.shape[1] / self.rate

    def _draw_traces(self, axes: Axes, picture: np.ndarray, box: Box, *, named: bool = False) -> None:
        left, _, bottom, top = box
        height = (top - bottom) / len(picture)
        for channel, (times, levels) in enumerate(self._traces(picture, box)):
            axes.plot(times, levels, color=INK, linewidth=0.7, zorder=4, solid_joinstyle="round")
            if named and channel < len(self.channels):
                y = top - (channel + 0.2) * height
                name = axes.text(left, y, f" {self.channels[channel]}", fontsize=6, color=SOFT, va="center")
                name.set_parse_math(False)
                name.set_path_effects([withStroke(linewidth=1.5, foreground="white")])

    def _traces(self, picture: np.ndarray, box: Box) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Compute the vertical positions of each channel's values: channels are stacked, on one scale."""
        left, right, bottom, top = box
        count, length = picture.shape
        times = left + (np.arange(length) + 0.5) / length * (right - left)
        height = (top - bottom) / count
        low, high = picture.min(axis=1, keepdims=True), picture.max(axis=1, keepdims=True)
        span = float((high - low).max()) or 1.0
        for channel, values in enumerate((picture - (low + high) / 2) / span):
            level = top - (channel + 0.5) * height
            # A tenth of each channel's height is a gap.
            yield times, level + 0.9 * height * values

    def _draw_band(self, axes: Axes, box: Box, heatmap: np.ndarray, limit: float, power: float = 1.0) -> None:
        # At half strength, so that traces stay readable.
        faint = images.colours(0.5 * images.scaled(heatmap[None], limit, power), 1.0)
        axes.imshow(faint, extent=box, aspect="auto", interpolation="nearest", zorder=2)

    def _draw_area(self, axes: Axes, box: Box, heatmap: np.ndarray, limit: float, power: float) -> None:
        left, right, bottom, top = box
        edges = np.linspace(left, right, len(heatmap) + 1)
        middle = (bottom + top) / 2
        values = images.scaled(heatmap, limit, power)
        heights = np.append(values, values[-1:]) * (top - bottom) / 2
        for part, style in (
            (heights.clip(min=0), {"facecolor": FOR, "edgecolor": FOR_TEXT}),
            (heights.clip(max=0), {"facecolor": AGAINST, "edgecolor": AGAINST_TEXT, "hatch": "//////"}),
        ):
            axes.fill_between(edges, middle, middle + part, step="post", linewidth=0, zorder=3, **style)
        axes.plot([left, right], [middle, middle], color=SOFT, linewidth=0.5, zorder=3)

    def _finish(self, axes: Axes, picture: np.ndarray, *, small: bool = False) -> None:
        axes.set(xlim=(0, self._end(picture)), ylim=(0, 1), aspect="auto", yticks=[])
        if small:
            axes.set_axis_off()
            return
        for side in ("left", "top", "right"):
            axes.spines[side].set_visible(False)
        style_axis(axes.xaxis, self.time_label)
        ticks = [tick for tick in MaxNLocator(5).tick_values(0, self._end(picture)) if 0 <= tick <= self._end(picture)]
        axes.set_xticks(ticks, labels=[f"{tick:g}" for tick in ticks])
        axes.get_xticklabels()[0].set_horizontalalignment("left")
        if ticks[-1] > 0.95 * self._end(picture):
            axes.get_xticklabels()[-1].set_horizontalalignment("right")
