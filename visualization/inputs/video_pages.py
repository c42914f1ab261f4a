"""Videos: the strongest frame of each span of time, in reading order; patches as frames, too."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crp.explanations import Patch
from crp.media.medium import Axis
from crp.visualization import encoding as images
from crp.visualization.inputs.page_renderer import enlarged
from crp.visualization.inputs.volume_pages import VolumePages

# Frames of a patch, and the longer side of their picture.
_FRAMES, _PATCH_SIDE = 4, 144


@dataclass(frozen=True)
class VideoPages(VolumePages):
    """Videos, float32 `[c, T, H, W]`, laid out as volumes are: time takes the place of depth.

    Three channels are drawn as red, green and blue, of any other number the mean as grey; the smallest value of the
    whole video is black, the largest white.
    """

    def patch(self, patch: Patch) -> tuple[np.ndarray, np.ndarray]:
        """Draw the strongest frame of each part of a patch's time, with the relevance summed over the part."""
        frames = self.showing(patch.heatmap, min(_FRAMES, len(patch.heatmap)))
        return (
            enlarged(frames._montage(self._coloured(patch.picture)[list(frames.slices)], 255), _PATCH_SIDE),
            enlarged(frames._montage(frames._added(patch.heatmap), 0), _PATCH_SIDE),
        )

    def axes(self) -> tuple[Axis, ...]:
        """Return time as it is, rows and columns counted."""
        return self.medium.axes[:1] + super().axes()[1:]

    def remark(self) -> str:
        """Say which frames are drawn."""
        return "Of each span of time, the frame with most relevance is drawn, with the summed relevance of the span."

    def _told(self, shown: int, first: int, end: int) -> tuple[str, str]:
        (time,) = self.medium.axes[:1]
        return f"{time.at(shown):.3g} {time.unit}", f"({time.at(first):.3g}–{time.at(end):.3g})"

    @staticmethod
    def _coloured(values: np.ndarray) -> np.ndarray:
        if len(values) != 3:
            return images.grey(values)
        low, high = float(values.min()), float(values.max())
        return np.rint(np.moveaxis((values - low) / (high - low or 1) * 255, 0, -1)).astype(np.uint8)
