"""Patches of a concept on the pages of corrections."""

from __future__ import annotations

from typing import Any

from crp.library import Library
from crp.visualization import wording
from crp.visualization.picture_formats import crop_uri

# Patches of each concept, and their longer side in pixels.
COUNT, _SIDE = 8, 84


def patch_views(library: Library, layer: str, concept: int) -> dict[str, Any]:
    """Describe the patches in which a concept was most relevant: pictures in words, and what is missing.

    Patches that have not been made are made if the library can (`Library.supply`). Inputs that are no images have none.
    """
    files = library.patch_files(layer)
    found = library.patches(layer, concept, "relevance", count=COUNT)
    images = [patch for patch in found if patch.picture.ndim == 3 and patch.picture.shape[2] == 3]
    return {
        "patches": [
            {"picture": crop_uri(patch.picture, side=_SIDE, quality=65), "text": wording.patch(patch)}
            for patch in images
        ],
        "missing": wording.missing_patches(len(files.keys([concept], ["relevance"], COUNT)) - len(found), len(found)),
    }
