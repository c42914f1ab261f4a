"""Parts of a page that its script puts in when they are first opened: of many layers, few are.

The HTML of a part is packed by zlib, a tenth of its bytes. Its pictures stand beside all parts, each once: what is
packed already gets no smaller, and a concept's heatmap is on its card and in the graph.
"""

from __future__ import annotations

import re

from markupsafe import Markup

from crp.visualization.page.packing import packed

# Pages of so many layers are readable without scripts, with all cards.
MOST_LAYERS = 8
# Quotes inside of attributes and texts are escaped, so this is found nowhere else.
_PICTURE = re.compile(r' src="(data:[^"]*)"')


class PackedParts:
    """Packs parts of one page, and collects their pictures.

    Parameters
    ----------
    wanted
        Whether anything is packed.

    Examples
    --------
    >>> parts = PackedParts(wanted=True)
    >>> first, second = (parts.part(Markup('<img src="data:,a">')) for _ in range(2))
    >>> first == second, "data-packed" in first, parts.pictures
    (True, True, ['data:,a'])
    """

    def __init__(self, *, wanted: bool) -> None:
        self.wanted = wanted
        self._places: dict[str, int] = {}

    @property
    def pictures(self) -> list[str]:
        """Addresses of the pictures, in the order in which parts refer to them."""
        return list(self._places)

    def part(self, content: Markup) -> Markup:
        """Return the element that holds a part packed, as `packed.js` reads it; the part itself if none is wanted."""
        if not self.wanted:
            return content
        text = _PICTURE.sub(lambda found: f' src="picture:{self._place(found[1])}"', content)
        return Markup('<script type="text/plain" data-packed>{}</script>').format(packed(text.encode()))

    def _place(self, picture: str) -> int:
        return self._places.setdefault(picture, len(self._places))
