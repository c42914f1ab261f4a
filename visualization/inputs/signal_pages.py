"""Signals: a trace for each channel, with relevance as a band behind them and as bars at the foot; sounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from crp.explanations import Patch
from crp.media.medium import Axis, Medium
from crp.media.sound import loud_wav
from crp.visualization.colours import INK
from crp.visualization.inputs.page_renderer import Silent, Tick, around, steps

WIDTH, PATCH_WIDTH = 448, 120
# Traces are drawn so many times larger, and shrunk, so that their lines are smooth.
_FINER = 3
# The part of the picture at its foot that holds bars of relevance.
_FOOT = 0.22


@dataclass(frozen=True)
class SignalPages(Silent):
    """Signals, float32 `[c, T]`; relevance `[T]` is that of all channels together.

    Parameters
    ----------
    medium
        The axis of time and the names of the channels.
    """

    medium: Medium

    def picture(self, values: np.ndarray) -> np.ndarray:
        """Draw the traces; channels share one scale."""
        return _traces(values, WIDTH, self._height(len(values)), _FOOT)

    def relevance(self, heatmap: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Fill the columns with the relevance; at the foot, bars go up for and down against."""
        height = self._height(len(values))
        columns = _columns(heatmap, WIDTH)
        laid = np.tile(columns, (height, 1))
        foot = round(_FOOT * height)
        levels = 1 - 2 * (np.arange(foot)[:, None] + 0.5) / foot
        ends = columns / (np.abs(columns).max() or 1)
        laid[-foot:] *= np.where(columns < 0, (levels < 0) & (levels >= ends), (levels > 0) & (levels <= ends))
        return laid

    def patch(self, patch: Patch) -> tuple[np.ndarray, np.ndarray]:
        """Draw the traces of a window."""
        picture = _traces(patch.picture, PATCH_WIDTH, PATCH_WIDTH, 0)
        return picture, np.tile(_columns(patch.heatmap, PATCH_WIDTH), (PATCH_WIDTH, 1))

    def arranged(self, cells: np.ndarray, blank: int) -> np.ndarray:
        """Lay the cells out as one row."""
        return cells[None]

    def where(self, heatmap: np.ndarray) -> str:
        """Say at which time."""
        return around(heatmap, self.medium.axes)

    def axes(self) -> tuple[Axis, ...]:
        """Return the axis of time."""
        return self.medium.axes

    def ticks(self, space: Sequence[int]) -> tuple[Tick, ...]:
        """Return times at the bottom, and the names of channels beside their traces."""
        (axis,) = self.medium.axes
        times = [Tick(x, 1.0, text, "bottom") for x, text in steps(axis, space[0]) if 0.02 < x < 0.98]
        if axis.unit and times:
            times[-1] = Tick(times[-1].x, 1.0, f"{times[-1].text} {axis.unit}", "bottom")
        names = self.medium.channels
        height = (1 - _FOOT) / max(1, len(names))
        return (*times, *(Tick(0.0, (index + 0.2) * height, name, "left") for index, name in enumerate(names)))

    @staticmethod
    def _height(channels: int) -> int:
        return min(420, 150 + 50 * channels)


@dataclass(frozen=True)
class SoundPages(SignalPages):
    """Sounds, float32 `[c, T]`, which can be played, and so can their patches."""

    def sound(self, values: np.ndarray, box: Sequence[int] = ()) -> bytes:
        """Return samples as WAV, a quiet patch as loud as the loudest."""
        length = box[1] - box[0] if box else values.shape[1]
        # a long window is stored with fewer values than samples
        rate = values.shape[1] / (length * self.medium.axes[0].step)
        return loud_wav(values, rate)


def _columns(values: np.ndarray, width: int) -> np.ndarray:
    """Bring `[T]` to `width` columns: of several values in one column, the one with the largest magnitude counts."""
    if len(values) <= width:
        return values[np.arange(width) * len(values) // width]
    edges = np.arange(width) * len(values) // width
    high, low = np.maximum.reduceat(values, edges), np.minimum.reduceat(values, edges)
    return np.where(high >= -low, high, low)


def _traces(values: np.ndarray, width: int, height: int, foot: float) -> np.ndarray:
    count, length = values.shape
    size = (width * _FINER, height * _FINER)
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    low, high = values.min(axis=1, keepdims=True), values.max(axis=1, keepdims=True)
    span = float((high - low).max()) or 1.0
    place = (1 - foot) * size[1] / count
    times = (np.arange(length) + 0.5) / length * size[0]
    for channel, levels in enumerate((values - (low + high) / 2) / span):
        heights = (channel + 0.5) * place - 0.9 * place * levels
        points = np.stack([times, heights], axis=1).ravel().tolist()
        draw.line(points if length > 1 else points * 2, fill=INK, width=_FINER + 1, joint="curve")
    return np.asarray(picture.resize((width, height), Image.Resampling.LANCZOS))
