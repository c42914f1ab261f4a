"""Which renderer draws an input: chosen by its medium, or else by its number of axes."""

from __future__ import annotations

import numpy as np

from crp.media.medium import Axis, Medium
from crp.visualization.figures.renderers.image_renderer import ImageRenderer
from crp.visualization.figures.renderers.renderer import Renderer
from crp.visualization.figures.renderers.signal_renderer import SignalRenderer
from crp.visualization.figures.renderers.spectrogram_renderer import SpectrogramRenderer
from crp.visualization.figures.renderers.volume_renderer import VolumeRenderer


def renderer_for(picture: np.ndarray, medium: Medium | None = None) -> Renderer:
    """Choose the renderer of an explanation's input by what it is, or else by its number of axes.

    Parameters
    ----------
    picture
        `Explanation.picture`: uint8 `[H, W, 3]`, float32 `[c, T]` or `[c, D, H, W]`.
    medium
        `Explanation.medium`.

    Examples
    --------
    >>> renderer_for(np.zeros((2, 100), dtype=np.float32))
    SignalRenderer(rate=1.0, time_label='sample', channels=())
    """
    if medium is not None and medium.kind in ("signal", "audio"):
        (time,) = medium.axes
        return SignalRenderer(1 / time.step, _labelled(time), medium.channels)
    if medium is not None and medium.kind == "spectrogram":
        frequency, time = medium.axes
        ends = [(axis.at(0), axis.at(length - 1)) for axis, length in zip(medium.axes, picture.shape, strict=False)]
        return SpectrogramRenderer(ends[1], ends[0], _labelled(time), _labelled(frequency))
    return renderer_of(picture.ndim - 1)


def _labelled(axis: Axis) -> str:
    return f"{axis.name} ({axis.unit})" if axis.unit else axis.name


def renderer_of(axes: int) -> Renderer:
    """Choose the renderer of inputs and heatmaps with one, two or three spatial axes."""
    return {1: SignalRenderer(), 2: ImageRenderer(), 3: VolumeRenderer()}[axes]
