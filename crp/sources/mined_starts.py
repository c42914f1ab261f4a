"""The start that a command of mining named, as the library keeps it, and as it is used again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from crp.attribution.named_starts import start_of
from crp.attribution.starts import Start
from crp.errors import LibraryError


def named_start(words: str, names: tuple[str, ...], outputs: int) -> Start:
    """Return the start that an expression of classes names, for a model with that many outputs.

    Raises
    ------
    InputError
        If there is no such class.
    """
    return start_of(words, names, torch.empty(1, outputs, device="meta"))


def rule_of(manifest: Mapping[str, Any], data: object) -> Any:
    """Return the rule by which mined samples are explained, if more than its name is needed to explain them again.

    Parameters
    ----------
    manifest
        Of the library, or of its shards.
    data
        The mined data, which may have a rule of their own (`targets`).

    Returns
    -------
    Callable or Start or None

    Raises
    ------
    LibraryError
        If the library names a start that cannot be read.
    """
    rule = getattr(data, "targets", None)
    source = manifest.get("source")
    stored = source.get("start") if isinstance(source, dict) else None
    if rule is not None or stored is None:
        return rule
    words, outputs = (stored.get(name) if isinstance(stored, dict) else None for name in ("words", "outputs"))
    if not isinstance(words, str) or not isinstance(outputs, int) or outputs < 1:
        raise LibraryError(f"The library's source has the start {stored!r}, which is not an expression of classes.")
    return named_start(words, tuple(manifest.get("output_names") or ()), outputs)
