"""`crp info`: describes a library."""

from __future__ import annotations

import json

import click


@click.command(short_help="Describe a library: layers, how it was mined, what to do next.")
@click.argument("library")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON, with sizes in bytes.")
def info(library: str, as_json: bool) -> None:
    """Describe LIBRARY: its layers, how it was mined, the command that made it, and what to do next.

    \b
    Example:
        crp info resnet18.crp
    """
    from crp.library import open_library
    from crp.library.summary import described_in_words, description

    opened = open_library(library)
    click.echo(json.dumps(description(opened), indent=2) if as_json else described_in_words(opened))
