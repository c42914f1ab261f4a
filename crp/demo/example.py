"""The input that `crp demo` explains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Example:
    """The input that is explained.

    Attributes
    ----------
    file
        Where it was written.
    options
        Arguments of `crp.explain`, such as `target`.
    next_words
        The end of the command that the demo suggests next.
    """

    file: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    next_words: Sequence[str] = ("--out", "mine.html")
