"""What a library holds, in a few facts: for its representation in Python and in notebooks."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crp.errors import inert


def facts_of(path: Path, manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """List what a library holds as pairs of a label and a value, for display."""
    settings = manifest["settings"]
    facts = [
        ("path", str(path)),
        ("model", f"{manifest['model'].get('class')}, weights {manifest['model']['weights'][:12]}"),
        ("data", f"{manifest['data']['length']} samples, fingerprint {manifest['data']['fingerprint'][:12]}"),
        ("layers", ", ".join(f"{layer['name']} {layer['shape']}" for layer in manifest["layers"])),
        ("composite", manifest["composite"]["name"]),
        ("explained" if settings["start"] == "start" else "explained class", str(settings.get("targets"))),
        ("scores", f"relevance {settings.get('relevance_score')}, activation {settings.get('activation_score')}"),
        ("references", f"{settings['k']} per concept, {settings['patches']} with patches"),
    ]
    return [(word, inert(value)) for word, value in facts]


def in_lines(facts: Sequence[tuple[str, str]]) -> str:
    """Write facts one per line."""
    width = max(len(word) for word, _ in facts)
    return "\n".join(["<crp.Library>", *(f"  {word:<{width}}  {value}" for word, value in facts)])


def in_table(facts: Sequence[tuple[str, str]]) -> str:
    """Write facts as an HTML table."""
    rows = "".join(f"<tr><th>{html.escape(word)}</th><td>{html.escape(value)}</td></tr>" for word, value in facts)
    return f"<table><caption>crp.Library</caption>{rows}</table>"
