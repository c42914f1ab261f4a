"""How an input is drawn: an image, a spectrogram, a signal, a volume.

A renderer knows how one kind of input, and relevance on it, becomes matplotlib artists. `renderer_for` chooses by the
number of axes; a spectrogram has those of an image, so it is named by the caller. Another kind of input is a class with
the methods of `Renderer`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from crp.explanations.explanation import ConceptMap
from crp.visualization import colours as palette
from crp.visualization import encoding as images
from crp.visualization.colours import AGAINST, AGAINST_TEXT, FOR, FOR_TEXT, INK, REST, SOFT, TILE

# left, right, bottom, top: a place in the coordinates of the axes' data
Box = tuple[float, float, float, float]
# What the outline is labelled (a name for artists) that is drawn around what speaks against.
AGAINST_OUTLINE = "against"


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


@dataclass(frozen=True)
class ImageRenderer:
    """Images, uint8 `[H, W, 3]`: relevance as colour over the faded picture."""

    strip = 1.0
    patch_ratio = 1.0
    margins = (0.0, 0.0)

    def ratio(self, picture: np.ndarray) -> float:
        height, width = picture.shape[:2]
        return width / height

    def draw_input(self, axes: Axes, picture: np.ndarray, heatmap: np.ndarray) -> None:
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
        limit = images.colour_limit(heatmap) if limit is None else limit
        self._draw(axes, images.overlay(picture, heatmap, limit, power), small=small)
        if not small:
            height, width = heatmap.shape
            _outline(axes, (-0.5, width - 0.5, height - 0.5, -0.5), images.against(heatmap, limit))
        return limit

    def draw_concept_map(
        self, axes: Axes, picture: np.ndarray, concept_map: ConceptMap, colours: Mapping[int, str]
    ) -> None:
        rows, columns = concept_map.concept.shape
        height, width = concept_map.shape
        cell = np.array([width / columns, height / rows])
        self._draw(axes, images.faded(picture))
        # Cells are given in pixels, whose centres imshow puts at whole numbers.
        _draw_cells(axes, concept_map, colours, corner=np.array([-0.5, -0.5]), cell=cell)
        axes.set(xlim=(-0.5, picture.shape[1] - 0.5), ylim=(picture.shape[0] - 0.5, -0.5))

    def draw_patch(self, axes: Axes, box: Box, picture: np.ndarray, heatmap: np.ndarray) -> None:
        left, right, bottom, top = box
        height, width = heatmap.shape
        scale = min((right - left) / width, (top - bottom) / height) / 2
        x, y = (left + right) / 2, (bottom + top) / 2
        extent = (x - scale * width, x + scale * width, y - scale * height, y + scale * height)
        axes.imshow(images.veiled(picture, heatmap, 0.65), extent=extent, interpolation="antialiased", zorder=3)

    def draw_thumbnail(
        self, axes: Axes, box: Box, heatmap: np.ndarray, limit: float, power: float = 1.0
    ) -> None:
        picture = images.squared(images.colours(heatmap, limit, power), 64)
        axes.imshow(picture, extent=box, interpolation="antialiased", zorder=3)

    def _draw(self, axes: Axes, picture: np.ndarray, *, small: bool = False) -> None:
        height, width = picture.shape[:2]
        axes.imshow(picture, interpolation="nearest" if max(height, width) <= images.SMALL_SIDE else "antialiased")
        axes.set_axis_off()
        axes.set_anchor("NW")


@dataclass(frozen=True)
class SpectrogramRenderer(ImageRenderer):
    """Spectrograms, model input `[1, F, T]`: an image whose axes say what they are, low frequencies below.

    Parameters
    ----------
    times, frequencies
        Where the axes begin and end, in the units of the labels; by default they count frames and bins.
    time_label, frequency_label
        What stands at the axes.
    """

    times: tuple[float, float] | None = None
    frequencies: tuple[float, float] | None = None
    time_label: str = "frame"
    frequency_label: str = "frequency bin"

    margins = (0.42, 0.33)

    def _draw(self, axes: Axes, picture: np.ndarray, *, small: bool = False) -> None:
        super()._draw(axes, picture)
        # The first bin is the first row of the model's input, and the lowest frequency.
        axes.invert_yaxis()
        if small:
            return
        axes.set_axis_on()
        height, width = picture.shape[:2]
        _label_axis(axes.xaxis, width, self.times, self.time_label)
        _label_axis(axes.yaxis, height, self.frequencies, self.frequency_label)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)

    def draw_concept_map(
        self, axes: Axes, picture: np.ndarray, concept_map: ConceptMap, colours: Mapping[int, str]
    ) -> None:
        super().draw_concept_map(axes, picture, concept_map, colours)
        axes.set_ylim(-0.5, picture.shape[0] - 0.5)

    def draw_patch(self, axes: Axes, box: Box, picture: np.ndarray, heatmap: np.ndarray) -> None:
        super().draw_patch(axes, box, picture[::-1], heatmap[::-1])

    def draw_thumbnail(
        self, axes: Axes, box: Box, heatmap: np.ndarray, limit: float, power: float = 1.0
    ) -> None:
        super().draw_thumbnail(axes, box, heatmap[::-1], limit, power)


@dataclass(frozen=True)
class SignalRenderer:
    """Signals, float32 `[c, T]`: a trace a channel; below, relevance as an area, up for the class, down against it.

    Direction and hatching carry the sign, so that a grey print says it; a band of colour behind the traces shows the
    same where they are looked at.

    Parameters
    ----------
    rate
        Values in a unit of time; by default the axis counts values.
    time_label
        What stands at the axis.
    channels
        Names of the channels, written at their traces.
    """

    rate: float = 1.0
    time_label: str = "sample"
    channels: Sequence[str] = ()

    strip = 3.0
    patch_ratio = 2.0
    margins = (0.0, 0.33)
    # Relevance takes the axes up to here, traces lie above.
    _AREA = 0.34

    def ratio(self, picture: np.ndarray) -> float:
        return 3.0

    def draw_input(self, axes: Axes, picture: np.ndarray, heatmap: np.ndarray) -> None:
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
        end = self._end(picture)
        self._draw_traces(axes, picture, (0, end, self._AREA + 0.04, 0.98), named=True)
        cell = np.array([end / concept_map.concept.shape[1], self._AREA])
        _draw_cells(axes, concept_map, colours, corner=np.array([0.0, 0.0]), cell=cell)
        self._finish(axes, picture)

    def draw_patch(self, axes: Axes, box: Box, picture: np.ndarray, heatmap: np.ndarray) -> None:
        left, right, bottom, top = box
        axes.add_patch(Rectangle((left, bottom), right - left, top - bottom, color=TILE, linewidth=0, zorder=2))
        for times, levels in self._traces(picture, box):
            points = np.stack([times, levels], axis=1)
            steps = np.stack([points[:-1], points[1:]], axis=1)
            # A tenth of the ink is left where the concept looks at nothing.
            ink = 0.1 + 0.9 * np.sqrt(images.scaled(np.abs(heatmap), 1.0))
            colours = np.concatenate([np.tile(to_rgb(INK), (len(steps), 1)), ink[:-1, None]], axis=1)
            axes.add_collection(LineCollection(steps, colors=colours, linewidths=1.0, capstyle="round", zorder=4))

    def draw_thumbnail(
        self, axes: Axes, box: Box, heatmap: np.ndarray, limit: float, power: float = 1.0
    ) -> None:
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
        """Places of the values of each channel: channels below each other, on one scale."""
        left, right, bottom, top = box
        count, length = picture.shape
        times = left + (np.arange(length) + 0.5) / length * (right - left)
        height = (top - bottom) / count
        low, high = picture.min(axis=1, keepdims=True), picture.max(axis=1, keepdims=True)
        span = float((high - low).max()) or 1.0
        for channel, values in enumerate((picture - (low + high) / 2) / span):
            level = top - (channel + 0.5) * height
            # A tenth of a channel's height stays free.
            yield times, level + 0.9 * height * values

    def _draw_band(self, axes: Axes, box: Box, heatmap: np.ndarray, limit: float, power: float = 1.0) -> None:
        # Half as strong as colours can be, so that traces are read over it.
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
        _style_axis(axes.xaxis, self.time_label)
        ticks = [tick for tick in MaxNLocator(5).tick_values(0, self._end(picture)) if 0 <= tick <= self._end(picture)]
        axes.set_xticks(ticks, labels=[f"{tick:g}" for tick in ticks])
        axes.get_xticklabels()[0].set_horizontalalignment("left")
        if ticks[-1] > 0.95 * self._end(picture):
            axes.get_xticklabels()[-1].set_horizontalalignment("right")


@dataclass(frozen=True)
class VolumeRenderer:
    """Volumes, float32 `[c, D, H, W]` (the mean over channels is shown): the slices with most relevance, front to back.

    Below the slices a profile shows the absolute relevance of every slice, with a mark at each one that is shown.

    Parameters
    ----------
    slices
        How many slices to show.
    axis
        Which of D, H, W is cut along: 0, 1 or 2.
    """

    slices: int = 3
    axis: int = 0

    patch_ratio = 1.0
    margins = (0.0, 0.0)
    _PROFILE = 0.3  # of the height of a slice
    _GAP = 0.04

    @property
    def strip(self) -> float:
        return self.slices / (1 + self._PROFILE)

    def ratio(self, picture: np.ndarray) -> float:
        height, width = self._cut(picture.mean(axis=0)).shape[1:]
        return self.slices * width / (height * (1 + self._PROFILE))

    def chosen(self, heatmap: np.ndarray) -> list[int]:
        """Indices of the slices with most absolute relevance, in order of place (of equal ones the first)."""
        strength = np.abs(self._cut(heatmap)).sum(axis=(1, 2), dtype=np.float64)
        return sorted(np.argsort(-strength, kind="stable")[: self.slices].tolist())

    def draw_input(self, axes: Axes, picture: np.ndarray, heatmap: np.ndarray) -> None:
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
        limit = images.colour_limit(heatmap) if limit is None else limit
        self._draw(axes, picture, heatmap, limit, power, small=small)
        return limit

    def draw_concept_map(
        self, axes: Axes, picture: np.ndarray, concept_map: ConceptMap, colours: Mapping[int, str]
    ) -> None:
        raise NotImplementedError("an explanation of a volume has no concept map")

    def draw_patch(self, axes: Axes, box: Box, picture: np.ndarray, heatmap: np.ndarray) -> None:
        raise NotImplementedError("a library of volumes has no patches")

    def draw_thumbnail(
        self, axes: Axes, box: Box, heatmap: np.ndarray, limit: float, power: float = 1.0
    ) -> None:
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
                _outline(axes, box, images.against(relevance[index], limit))
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


def renderer_for(picture: np.ndarray) -> Renderer:
    """The renderer of what an explanation holds: by the number of its axes.

    Parameters
    ----------
    picture
        `Explanation.picture`: uint8 `[H, W, 3]`, float32 `[c, T]` or `[c, D, H, W]`.

    Examples
    --------
    >>> renderer_for(np.zeros((2, 100), dtype=np.float32))
    SignalRenderer(rate=1.0, time_label='sample', channels=())
    """
    return renderer_of(picture.ndim - 1)


def renderer_of(axes: int) -> Renderer:
    """The renderer of inputs, and heatmaps, with one, two or three axes of space."""
    return {1: SignalRenderer(), 2: ImageRenderer(), 3: VolumeRenderer()}[axes]


def _draw_cells(
    axes: Axes, concept_map: ConceptMap, colours: Mapping[int, str], *, corner: np.ndarray, cell: np.ndarray
) -> None:
    """Coloured cells of (width, height) `cell`, the first at `corner`; each connected piece has outline and number."""
    strongest = float(concept_map.relevance.max()) or 1.0
    for concept in concept_map.strength():
        mask = concept_map.concept == concept
        for row, column in np.argwhere(mask):
            alpha = palette.cell_opacity(concept_map.relevance[row, column], strongest)
            place = corner + np.array([column, row]) * cell
            axes.add_patch(Rectangle(tuple(place), *cell, facecolor=colours[concept], alpha=alpha, linewidth=0))
        edges = images.contour(mask)[..., ::-1] * cell + corner
        axes.add_collection(LineCollection(edges, colors=colours[concept], linewidths=1.2, capstyle="projecting"))
        for row, column in images.label_cells(mask):
            x, y = corner + (np.array([column, row]) + 0.5) * cell
            label = axes.text(x, y, str(concept), fontsize=7.5, weight="bold", color="white", ha="center", va="center")
            label.set_path_effects([withStroke(linewidth=1.6, foreground="#14161a")])


def _outline(axes: Axes, box: Box, cells: np.ndarray) -> None:
    """A dashed line around the cells of a grid [rows, columns] over a box that are true."""
    left, right, bottom, top = box
    size = np.array([(right - left) / cells.shape[1], (bottom - top) / cells.shape[0]])
    edges = images.contour(cells)[..., ::-1] * size + (left, top)
    if len(edges):
        style = {"colors": AGAINST_TEXT, "linewidths": 0.7, "linestyles": (0, (2, 1)), "label": AGAINST_OUTLINE}
        axes.add_collection(LineCollection(edges, **style))


def _label_axis(axis: Axis, length: int, ends: tuple[float, float] | None, label: str) -> None:
    """Ticks of an axis of `length` pixels that runs from one end to the other in the label's unit."""
    _style_axis(axis, label)
    if ends is None:
        return
    values = np.linspace(*ends, 3)
    axis.set_ticks(np.linspace(-0.5, length - 0.5, 3), labels=[f"{value:g}" for value in values])
    first, *_, last = axis.get_ticklabels()
    # Labels of the ends stay beside the picture.
    if axis.axis_name == "x":
        first.set_horizontalalignment("left")
        last.set_horizontalalignment("right")
    else:
        first.set_verticalalignment("bottom")
        last.set_verticalalignment("top")


def _style_axis(axis: Axis, label: str) -> None:
    axis.set_tick_params(labelsize=6, length=2, colors=SOFT, pad=1)
    axis.set_label_text(label, fontsize=6.5, color=SOFT)
