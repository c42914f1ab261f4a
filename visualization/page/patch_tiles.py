"""The patches of a strip in words, on cards and on pages of concepts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from crp.library.patches import MODES
from crp.values import Patch
from crp.visualization import wording
from crp.visualization.inputs import PageRenderer
from crp.visualization.inputs.laid_out import place_of

TITLES = {
    "relevance": "Most relevant for · RelMax",
    "activation": "Most active on · ActMax",
    "negative": "Most relevant against",
}


def strip(mode: str, patches: Sequence[Patch], sounds: Sequence[str], renderer: PageRenderer) -> dict[str, Any]:
    """Describe the patches of one mode and their forms; where their pictures are, those know who hold them."""
    found = []
    for rank, (patch, sound) in enumerate(zip(patches, sounds, strict=True), 1):
        height, width = renderer.patch(patch)[0].shape[:2]
        place = place_of(patch, renderer)
        found.append(
            {
                "rank": rank,
                "text": wording.patch(patch) + (f", {place}" if place else ""),
                "aspect": "" if width == height else f"{width}/{height}",
                "sound": sound,
            }
        )
    return {"title": TITLES[mode], "key": mode, "row": MODES.index(mode), "patches": found}
