"""The picture in full, for zooming into one that the page shows reduced.

The script reads it when a reader first zooms in (`zoom.js`), so it costs nothing while a page opens.
"""

from __future__ import annotations

from crp.visualization import picture_formats as formats
from crp.visualization import wording
from crp.visualization.page.cards import WHERE_SIDE
from crp.visualization.page.context import STAGE_SIDE, Context
from crp.visualization.page.patch_sheets import UP

# Bytes of a picture inside a page, and of one in a file beside the pages of a site. 1.5 MB are one bit for each of 12
# million pixels, which is what a photo takes.
MOST_INSIDE, MOST_BESIDE = 1_500_000, 6_000_000


def whole_view(context: Context, place: str) -> dict[str, str] | None:
    """Store the picture of a page in full; None if the page shows it as large as it is.

    Parameters
    ----------
    context
        Of the page.
    place
        The page's name in its site, if it belongs to one.

    Returns
    -------
    dict
        `address` of the picture, and `note`: what a reader sees who zooms in.
    """
    if not context.large:
        return None
    most = MOST_INSIDE if context.shared is None else MOST_BESIDE
    content, stored = formats.whole_photo(context.picture, most)
    if context.shared is None:
        address = formats.avif_uri(content)
    else:
        address = UP + context.shared.write_whole_picture(place, content)
    sides = [context.heatmap_side(side) for side in (STAGE_SIDE, WHERE_SIDE)]
    return {"address": address, "note": wording.zoomed(context.picture.shape[:2], stored, *sides)}
