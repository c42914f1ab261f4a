"""What all views of one page have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from crp.explanations import LayerExplanation
from crp.graphs.concept_graph import Key
from crp.visualization import encoding as images
from crp.visualization.inputs import PageRenderer
from crp.visualization.inputs.laid_out import drawn_map
from crp.visualization.page.heatmap_sheets import HeatmapSheet
from crp.visualization.page.patch_sheets import PatchSheets
from crp.visualization.page.sounds import Sounds

if TYPE_CHECKING:
    from crp.visualization.site.shared import Shared

# The picture is embedded no larger than it is shown on a display of double density; a larger one is stored whole, too.
STAGE_SIDE = 448


@dataclass(frozen=True)
class Context:
    """How the input of a page is drawn, and colours and small patches of its concepts.

    Parameters
    ----------
    renderer
        Lays out what has the axes of the input.
    values
        The input, `Explanation.picture`.
    picture
        The same as the renderer draws it, uint8 [h, w, 3].
    shared
        Files of the site that the page belongs to; None for a page on its own.
    glimpses
        By layer, where the small patches of its concepts lie (`glimpses.py`).
    colours
        By layer, the colours of its concepts: the same in all views.
    sounds
        Of the page, as far as they fit. Added to while the page is made, like all that follows.
    patches
        Where the patches of cards lie.
    shown
        The card on which the patches of a concept stand; later cards of the same concept refer to it.
    heatmaps
        The sheets of heatmaps of concepts.
    limits
        What `limit` has found, by the identity of heatmaps, which live as long as the explanation does.
    """

    renderer: PageRenderer
    values: np.ndarray
    picture: np.ndarray
    shared: Shared | None
    glimpses: Mapping[str, Mapping[str, Any]]
    colours: Mapping[str, Mapping[int, str]]
    sounds: Sounds
    patches: PatchSheets
    shown: dict[Key, str] = field(default_factory=dict)
    heatmaps: list[HeatmapSheet] = field(default_factory=list)
    limits: dict[int, float] = field(default_factory=dict)

    @property
    def space(self) -> tuple[int, ...]:
        """Extents of the input, `[*S]`."""
        return self.values.shape[:2] if self.values.dtype == np.uint8 else self.values.shape[1:]

    def heatmap_sheet(self, side: int) -> HeatmapSheet:
        """Add a sheet of heatmaps that are shown in at most `side` pixels."""
        self.heatmaps.append(HeatmapSheet(f"h{len(self.heatmaps)}", self.heatmap_side(side)))
        return self.heatmaps[-1]

    @property
    def large(self) -> bool:
        """Whether the picture is shown reduced, so that a reader may zoom into it."""
        return max(self.picture.shape[:2]) > STAGE_SIDE

    def heatmap_side(self, side: int) -> int:
        """Return how large a heatmap is stored that is shown in `side` pixels."""
        return 2 * side if self.large else side

    @property
    def block(self) -> int:
        """How many pixels of the picture a side each value of a heatmap is the mean of."""
        return images.block_size(self.picture.shape[:2], self.heatmap_side(STAGE_SIDE))

    def relevance(self, heatmap: np.ndarray) -> np.ndarray:
        """Lay out a heatmap of the input: float [h, w], of a very large one the means of blocks."""
        return images.block_means(self.renderer.relevance(heatmap, self.values), self.heatmap_side(STAGE_SIDE))

    def limit(self, heatmap: np.ndarray) -> float:
        """Find where the colours of a heatmap of the input saturate, once for all that draw it."""
        if id(heatmap) not in self.limits:
            self.limits[id(heatmap)] = images.colour_limit(self.relevance(heatmap))
        return self.limits[id(heatmap)]

    def layer(self, layer: LayerExplanation) -> LayerExplanation:
        """Lay out the cells of a layer's map."""
        if layer.concept_map is None:
            return layer
        return replace(layer, concept_map=drawn_map(layer.concept_map, self.renderer, self.picture.shape[:2]))
