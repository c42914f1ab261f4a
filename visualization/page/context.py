"""What all views of one page have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from crp.explanations import LayerExplanation
from crp.graphs.concept_graph import Key
from crp.visualization.inputs import PageRenderer
from crp.visualization.inputs.laid_out import drawn_map
from crp.visualization.page.heatmap_sheets import HeatmapSheet
from crp.visualization.page.patch_sheets import PatchSheets
from crp.visualization.page.sounds import Sounds

if TYPE_CHECKING:
    from crp.visualization.site.shared import Shared


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
        Of the page, as far as they fit. Added to while the page is made, like the next field.
    patches
        Where the patches of cards lie.
    shown
        The card on which the patches of a concept stand; later cards of the same concept refer to it.
    heatmaps
        The sheets of heatmaps of concepts.
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

    @property
    def space(self) -> tuple[int, ...]:
        """Extents of the input, `[*S]`."""
        return self.values.shape[:2] if self.values.dtype == np.uint8 else self.values.shape[1:]

    def heatmap_sheet(self, side: int) -> HeatmapSheet:
        """Add a sheet of heatmaps of at most `side` pixels."""
        self.heatmaps.append(HeatmapSheet(f"h{len(self.heatmaps)}", side))
        return self.heatmaps[-1]

    def relevance(self, heatmap: np.ndarray) -> np.ndarray:
        """Lay out a heatmap of the input: float [h, w]."""
        return self.renderer.relevance(heatmap, self.values)

    def layer(self, layer: LayerExplanation) -> LayerExplanation:
        """Lay out the cells of a layer's map."""
        if layer.concept_map is None:
            return layer
        return replace(layer, concept_map=drawn_map(layer.concept_map, self.renderer, self.picture.shape[:2]))
