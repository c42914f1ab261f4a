"""`crp info`: what a library holds."""

from __future__ import annotations

import shlex

import click


@click.command(short_help="Say what a library holds.")
@click.argument("library")
def info(library: str) -> None:
    """Say what LIBRARY holds: model, data, layers, scores, and the command that made it.

    \b
    Example:
        crp info resnet18.crp
    """
    from crp.library import open_library

    opened = open_library(library)
    facts = opened.facts()
    source = opened.manifest.get("source")
    if isinstance(source, dict) and isinstance(source.get("command"), list):  # a library may come from anywhere
        facts.append(("made by", shlex.join(map(str, source["command"]))))
    facts.append(("versions", ", ".join(f"{name} {version}" for name, version in opened.manifest["versions"].items())))
    size = sum(file.stat().st_size for file in opened.path.rglob("*") if file.is_file())
    facts.append(("size", f"{size / 1e6:.1f} MB"))
    width = max(len(word) for word, _ in facts)
    for word, value in facts:
        click.echo(f"{word:<{width}}  {value}")
