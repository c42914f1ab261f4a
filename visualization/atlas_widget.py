"""The page of an atlas in a notebook, which hands the selected region and its ranking to Python."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from crp.errors import InputError, nearest
from crp.explanations import ConceptMap, Explanation
from crp.explanations.concept_map import region_of
from crp.extras import optional
from crp.visualization.inputs import PageRenderer
from crp.visualization.inputs.laid_out import shown_cells
from crp.visualization.package_files import template_files

if TYPE_CHECKING:
    from anywidget import AnyWidget


def widget_of(explanation: Explanation, renderer: PageRenderer, frame: str) -> AnyWidget:
    """Return the widget of `Atlas.widget`.

    Parameters
    ----------
    explanation
        What the page shows.
    renderer
        How the page draws the input.
    frame
        HTML of a frame that holds the page.

    Raises
    ------
    InputError
        If anywidget is not installed.
    """
    return _widget_class()(explanation, renderer, frame)


@cache
def _widget_class() -> type[AnyWidget]:
    anywidget = optional("anywidget", "anywidget", "The widget", "widget")
    import traitlets  # anywidget brings it

    class AtlasWidget(anywidget.AnyWidget):
        """The page of an atlas; what is selected on it can be read and observed (`Atlas.widget`).

        Attributes
        ----------
        layer
            Name of the open layer.
        view
            What the page shows: 0 for the explanation, 1 and 2 for those beside it (`against=`).
        region
            bool [rows, columns], the selected cells of the layer's concept map; None if the layer has no map by which
            regions are ranked.
        ranking
            Pairs (concept, relevance) of the region, as `ConceptMap.ranking` gives them; empty if no cell is selected.
        """

        _esm = template_files()["widget.js"].decode()
        frame = traitlets.Unicode().tag(sync=True)
        selection = traitlets.Dict().tag(sync=True)

        layer = traitlets.Unicode(read_only=True)
        view = traitlets.Int(read_only=True)
        region = traitlets.Instance(np.ndarray, allow_none=True, read_only=True)
        ranking = traitlets.Tuple(read_only=True)

        def __init__(self, explanation: Explanation, renderer: PageRenderer, frame: str) -> None:
            self._views, self._renderer = (explanation, *explanation.beside), renderer
            # As the page is when it is opened.
            opened = {"view": 0, "layer": explanation.layers[0].layer, "cells": []}
            super().__init__(frame=frame, selection=opened)

        def select(self, region: np.ndarray, *, layer: str | None = None, view: int | None = None) -> None:
            """Select a region on the page, in place of what is selected.

            Parameters
            ----------
            region
                bool [rows, columns], cells of the layer's concept map.
            layer, view
                Which layer and view; by default those that are open.

            Raises
            ------
            InputError
                If there is no such layer or view, the layer has no such map, or its cells have another shape or other
                values.
            """
            layer, view = self.layer if layer is None else layer, self.view if view is None else view
            concept_map, region = self._map_of(layer, view), region_of(region)
            if concept_map is None or region.shape != concept_map.concept.shape:
                cells = "no map to select" if concept_map is None else f"cells of shape {concept_map.concept.shape}"
                raise InputError(f"The layer {layer!r} has {cells}; the region given has shape {region.shape}.")
            shown = shown_cells(concept_map, self._renderer)
            cells = np.flatnonzero(region.ravel()[shown] & (shown >= 0))
            self.selection = {"view": view, "layer": layer, "cells": cells.tolist()}

        @traitlets.observe("selection")
        def _selected(self, change: Mapping[str, Any]) -> None:
            view, layer, cells = (change["new"][name] for name in ("view", "layer", "cells"))
            concept_map, region = self._map_of(layer, view), None
            if concept_map is not None:
                shown = shown_cells(concept_map, self._renderer)[cells]
                region = np.zeros(concept_map.concept.shape, dtype=bool)
                region.ravel()[shown[shown >= 0]] = True
            # Observers see all of the new values or none.
            with self.hold_trait_notifications():
                self.set_trait("view", view)
                self.set_trait("layer", layer)
                self.set_trait("region", region)
                self.set_trait("ranking", () if concept_map is None else concept_map.ranking(region))

        def _map_of(self, layer: str, view: int) -> ConceptMap | None:
            if not 0 <= view < len(self._views):
                raise InputError(f"There is no view {view}; this atlas has {len(self._views)}, counted from 0.")
            layers = {one.layer: one for one in self._views[view].layers}
            if layer not in layers:
                raise InputError(f"There is no layer {layer!r}; {nearest(layer, list(layers))}")
            found = layers[layer].concept_map
            return None if found is None or found.table is None else found

    return AtlasWidget
