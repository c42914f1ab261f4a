"""Parts of a page that its script puts in when they are first opened: of many layers, few are.

The HTML of a part is packed by zlib, a tenth of its bytes.
"""

from __future__ import annotations

from markupsafe import Markup

from crp.visualization.page.packing import packed

# Pages of so many layers are readable without scripts, with all cards.
MOST_LAYERS = 8


def packed_part(content: Markup) -> Markup:
    """Return the element that holds a part packed, as `packed.js` reads it."""
    return Markup('<script type="text/plain" data-packed>{}</script>').format(packed(content.encode()))
