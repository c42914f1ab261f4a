"""Where the bytes of a page go: `python -m benchmarks.page_parts atlas.html ...` prints kB by part, largest first."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

_DATA = r"data:[a-z/]+;base64,[A-Za-z0-9+/=]*"
# In this order: what one part takes is not there for the next.
PARTS = {
    "scripts": r"<script>.*?</script>",
    "style": r"<style>(?!:root\{--faded).*?</style>",
    "all numbers": r'<script type="text/plain" id="atlas-numbers">.*?</script>',
    "packed parts": r'<script type="text/plain" data-packed>.*?</script>',
    "relevance in cells, and what else scripts read": r'<script type="application/json".*?</script>',
    "heatmaps": rf'(?:data-frame="relevance" src="|\.h\d+{{background-image:url\(){_DATA}',
    "patches": rf"--sheet:url\({_DATA}\)",
    "veils of patches": rf"--veils:url\({_DATA}\)",
    "input, faded input, small patches": rf'(?:<figure class="given"><img src="{_DATA}|<style>:root.*?</style>)',
    "other pictures and sounds": _DATA,
    "maps": r'<figure class="map".*?</figure>',
    "graphs": r'<section class="graph".*?</section>',
    "cards": r"<article.*?</article>",
}


def page_parts(source: str) -> dict[str, int]:
    """Count the bytes of each part of a page, and of all else that stands in it.

    >>> page_parts("<style>p{}</style><article>card</article>text")["cards"]
    23
    """
    found = {}
    for part, pattern in PARTS.items():
        pieces = re.findall(pattern, source, re.DOTALL)
        found[part] = sum(len(piece.encode()) for piece in pieces)
        source = re.sub(pattern, "", source, flags=re.DOTALL)
    found["other text"] = len(source.encode())
    return found


def main() -> None:
    """Print the parts of each page as JSON."""
    for path in map(Path, sys.argv[1:]):
        parts = page_parts(path.read_text("utf-8"))
        sizes = {part: round(size / 1000, 1) for part, size in sorted(parts.items(), key=lambda item: -item[1])}
        print(json.dumps({"page": path.name, "kB": round(path.stat().st_size / 1000, 1), "parts": sizes}, indent=1))


if __name__ == "__main__":
    main()
