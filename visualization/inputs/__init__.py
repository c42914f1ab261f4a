"""How inputs become pictures on pages: one class for each kind, the methods of `PageRenderer`.

page_renderer.py       `PageRenderer`, the interface, and what several kinds have in common
picture_pages.py       pictures, and images of any channels, as they are
signal_pages.py        traces, one below another; sounds, which can be played
spectrogram_pages.py   spectrograms, low frequencies at the bottom
volume_pages.py        slices of volumes, side by side
video_pages.py         frames of videos, likewise
choosing.py            `page_renderer_for`
"""

from crp.visualization.inputs.choosing import page_renderer_for
from crp.visualization.inputs.page_renderer import PageRenderer, Tick

__all__ = ["PageRenderer", "Tick", "page_renderer_for"]
