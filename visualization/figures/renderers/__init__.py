"""How an input is drawn: an image, a spectrogram, a signal, a volume.

A renderer turns one kind of input, and relevance on it, into matplotlib artists. `renderer_for` chooses by the number
of axes. A spectrogram has the axes of an image, so the caller names it. To draw another kind of input, write a class
with the methods of `Renderer`.

renderer.py              `Renderer`, the interface
image_renderer.py        one module for each kind of input
spectrogram_renderer.py
signal_renderer.py
volume_renderer.py
marks.py                 cells, outlines and axes that they have in common
choice.py                `renderer_for` and `renderer_of`
"""

from crp.visualization.figures.renderers.choice import renderer_for, renderer_of
from crp.visualization.figures.renderers.image_renderer import ImageRenderer
from crp.visualization.figures.renderers.renderer import Renderer
from crp.visualization.figures.renderers.signal_renderer import SignalRenderer
from crp.visualization.figures.renderers.spectrogram_renderer import SpectrogramRenderer
from crp.visualization.figures.renderers.volume_renderer import VolumeRenderer

__all__ = [
    "ImageRenderer",
    "Renderer",
    "SignalRenderer",
    "SpectrogramRenderer",
    "VolumeRenderer",
    "renderer_for",
    "renderer_of",
]
