"""What all views of one page have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from crp.graphs.concept_graph import Key

if TYPE_CHECKING:
    from crp.visualization.site.shared import Shared

# From a page to the folder of its site.
UP = "../"


@dataclass(frozen=True)
class Context:
    """Colours and small patches of the concepts of a page.

    Parameters
    ----------
    shared
        Files of the site that the page belongs to; None for a page on its own.
    glimpses
        By layer, where the small patches of its concepts lie (`glimpses.py`).
    colours
        By layer, the colours of its concepts: the same in all views.
    shown
        The card on which the patches of a concept stand; later cards of the same concept refer to it. Added to while
        the page is made.
    """

    shared: Shared | None
    glimpses: Mapping[str, Mapping[str, Any]]
    colours: Mapping[str, Mapping[int, str]]
    shown: dict[Key, str] = field(default_factory=dict)
