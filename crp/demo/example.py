"""The input that `crp demo` explains."""

from __future__ import annotations

from collections.abc import Mapping
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
    """

    file: Path
    options: Mapping[str, Any] = field(default_factory=dict)
