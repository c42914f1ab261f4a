"""Which renderer draws an input: chosen by its number of axes."""

from __future__ import annotations

import numpy as np

from crp.visualization.figures.renderers.image_renderer import ImageRenderer
from crp.visualization.figures.renderers.renderer import Renderer
from crp.visualization.figures.renderers.signal_renderer import SignalRenderer
from crp.visualization.figures.renderers.volume_renderer import VolumeRenderer


def renderer_for(picture: np.ndarray) -> Renderer:
    """Choose the renderer of an explanation's input by its number of axes.

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
    """Choose the renderer of inputs and heatmaps with one, two or three spatial axes."""
    return {1: SignalRenderer(), 2: ImageRenderer(), 3: VolumeRenderer()}[axes]
