"""How pages and figures name a concept: by the name its kind gives it, otherwise by its number.

Names are passed through unchanged: the caller escapes them.
"""

from __future__ import annotations


def in_sentence(concept: int, name: str) -> str:
    """Name a concept inside a sentence.

    >>> in_sentence(5, ""), in_sentence(5, "tag")
    ('concept 5', 'tag')
    """
    return name or f"concept {concept}"


def heading(concept: int, name: str) -> str:
    """Name a concept at the beginning of a line.

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
