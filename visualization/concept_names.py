"""How pages and figures name a concept: by the label a person gave it, or the name of its kind, and by its number.

Several concepts may have the same label, so that the number is always told. Names are passed through unchanged: the
caller escapes them.
"""

from __future__ import annotations

import re

from crp.visualization.wording import printable, shortened


def in_sentence(concept: int, name: str, length: int | None = None) -> str:
    """Name a concept inside a sentence; with a `length`, the name is shortened to so many characters.

    >>> in_sentence(5, ""), in_sentence(5, "tag")
    ('concept 5', 'tag (5)')
    """
    return label(concept, name, length) if name else f"concept {concept}"


def label(concept: int, name: str, length: int | None = None) -> str:
    """Name a concept where there is little space: its name with its number, unless the name tells it.

    With a `length`, the name is shortened to so many characters, and the number stays.

    >>> label(5, ""), label(5, "tag"), label(5, "head 5"), label(5, "head 15")
    ('5', 'tag (5)', 'head 5', 'head 15 (5)')
    >>> label(5, "stamp of the archive", 14)
    'stamp of… (5)'
    """
    number = f" ({concept})"
    if not name:
        return str(concept)
    text = name if re.search(rf"(?<!\d){concept}(?!\d)", name) else name + number
    if length is None or len(printable(text)) <= length:
        return text if length is None else printable(text)
    return shortened(name, length - len(number)) + number


def heading(concept: int, name: str) -> str:
    """Name a concept at the beginning of a line that has its number, too.

    >>> heading(5, ""), heading(5, "tag")
    ('Concept 5', 'tag')
    """
    return name or f"Concept {concept}"


def full(layer: str, concept: int, name: str) -> str:
    """Give layer, number and name: what is shown where a name is shortened.

    >>> full("conv5", 5, ""), full("conv5", 5, "tag")
    ('concept 5 of conv5', 'concept 5 of conv5: tag')
    """
    return f"concept {concept} of {layer}" + (f": {name}" if name else "")
