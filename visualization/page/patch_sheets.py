"""Where the patches of cards lie: on sheets of the page itself, or on those of its site."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from crp.explanations import ConceptPart, Patch
from crp.visualization.inputs import PageRenderer
from crp.visualization.inputs.laid_out import drawn_patch
from crp.visualization.picture_formats import patches_uri, veils_uri
from crp.visualization.sheets import patch_sheet, sheet_of, sheet_rule, veil_sheet

if TYPE_CHECKING:
    from crp.visualization.site.shared import Shared

# Modes that cards show, in the order of the rows of a sheet.
MODES = ("relevance", "activation")
# Pictures are embedded no larger than they are shown.
SIDE = 64
# A sheet with so many rows is full: fewer pictures have fewer headers, and what is hidden need not be decoded.
ROWS = 48
# From a page to the folder of its site.
UP = "../"


class PatchSheets:
    """The sheets of one page, each with a class for the elements whose patches lie on it.

    Parameters
    ----------
    renderer
        Draws the patches.
    shared
        Files of the site that the page belongs to, if it does.
    """

    def __init__(self, renderer: PageRenderer, shared: Shared | None) -> None:
        self._renderer = renderer
        self._shared = shared
        self._of_site: list[str] = []
        self._own: list[list[list[Patch]]] = []

    def place(self, part: ConceptPart) -> tuple[str, int]:
        """Return the class of the sheet with the patches of a concept, and its first row of them."""
        if self._shared is not None:
            name = f"p{len(self._of_site)}"
            self._of_site.append(self._shared.sheet_rule(name, part.layer, part.concept, UP))
            return name, 0
        if not self._own or len(self._own[-1]) >= ROWS:
            self._own.append([])
        rows, first = self._own[-1], len(self._own[-1])
        for mode in MODES:
            rows.append([drawn_patch(patch, self._renderer) for patch in getattr(part, f"{mode}_patches")])
        return f"p{len(self._own) - 1}", first

    def rules(self) -> Iterator[str]:
        """Return the rules of the style that say where the sheets are, when all patches have their place."""
        yield from self._of_site
        for number, rows in enumerate(self._own):
            sheet = sheet_of(rows)
            if sheet.columns:
                pictures, veils = patches_uri(patch_sheet(rows, SIDE)), veils_uri(veil_sheet(rows))
                yield sheet_rule(f"p{number}", pictures, veils, sheet)
