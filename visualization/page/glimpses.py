"""One small patch of every concept that a page may name, those of a layer in one picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crp.explanations import Explanation, Patch
from crp.visualization.inputs import PageRenderer
from crp.visualization.inputs.laid_out import drawn_patch
from crp.visualization.page.patch_sheets import UP
from crp.visualization.picture_formats import photo_uri
from crp.visualization.sheets import glimpse_sheet

if TYPE_CHECKING:
    from crp.visualization.site.shared import Shared

GLIMPSE_SIDE = 44
# Patches of one layer in a row of their common picture.
SPRITE_COLUMNS = 12


def embedded_glimpses(views: tuple[Explanation, ...], renderer: PageRenderer) -> dict[str, dict[str, Any]]:
    """Draw by layer one picture with a small patch of every concept that any part of the page may name.

    Hundreds of small pictures in one are a fraction of the bytes of as many files.
    """
    patches: dict[str, dict[int, Patch]] = {}
    for view in views:
        for node in view.graph.nodes if view.graph else ():
            if node.patch is not None:
                patches.setdefault(node.layer, {})[node.concept] = node.patch
        for layer in view.layers:
            of_layer = patches.setdefault(layer.layer, {})
            of_layer |= layer.glimpses
            of_layer |= {part.concept: part.relevance_patches[0] for part in layer.ranked if part.relevance_patches}
    sprites = {}
    for index, (name, of_layer) in enumerate(patches.items()):
        drawn = {concept: drawn_patch(patch, renderer) for concept, patch in of_layer.items()}
        sheet, glimpses = glimpse_sheet(drawn, side=GLIMPSE_SIDE, columns=SPRITE_COLUMNS)
        uri = photo_uri(sheet, quality=54) if of_layer else ""
        sprites[name] = {"index": index, "uri": uri, "glimpses": glimpses, "pages": ""}
    return sprites


def shared_glimpses(views: tuple[Explanation, ...], shared: Shared) -> dict[str, dict[str, Any]]:
    """Refer to those of a site: a patch of every concept of the layer, and where the pages of the concepts are."""
    sprites = {}
    for index, layer in enumerate(dict.fromkeys(layer.layer for view in views for layer in view.layers)):
        sprites[layer] = {
            "index": index,
            "uri": shared.glimpse_uri(layer, UP),
            "glimpses": shared.glimpses(layer),
            "pages": f"{UP}{shared.places[layer]}/",
        }
    return sprites
