"""Which renderer shows an explanation, or the patches of a library, on pages."""

from __future__ import annotations

from crp.explanations import Explanation
from crp.media.medium import Axis, Medium
from crp.visualization.inputs.page_renderer import PageRenderer
from crp.visualization.inputs.picture_pages import PicturePages
from crp.visualization.inputs.signal_pages import SignalPages, SoundPages
from crp.visualization.inputs.spectrogram_pages import SpectrogramPages
from crp.visualization.inputs.video_pages import VideoPages
from crp.visualization.inputs.volume_pages import SLABS, VolumePages

_UNKNOWN = {
    1: Medium("signal", (Axis("sample"),)),
    3: Medium("volume", (Axis("slice"), Axis("row"), Axis("column"))),
}
_BY_KIND = {
    "signal": SignalPages,
    "audio": SoundPages,
    "spectrogram": SpectrogramPages,
    "image": PicturePages,
    "volume": VolumePages,
    "video": VideoPages,
}


def page_renderer_for(explanation: Explanation) -> PageRenderer:
    """Choose by what the input is (`Explanation.medium`), or by its number of axes if that is not known."""
    chosen = page_renderer_of(explanation.medium, explanation.heatmap.ndim)
    if isinstance(chosen, VolumePages):
        grids = [layer.concept_map.grid for layer in explanation.layers if layer.concept_map is not None]
        slabs = max((grid[0] for grid in grids if grid), default=min(SLABS, len(explanation.heatmap)))
        return chosen.showing(explanation.heatmap, slabs)
    return chosen


def page_renderer_of(medium: Medium | None, axes: int) -> PageRenderer:
    """Choose by medium or number of spatial axes: for patches, and for inputs other than volumes and videos."""
    medium = medium or _UNKNOWN.get(axes)
    return PicturePages() if medium is None else _BY_KIND[medium.kind](medium)
