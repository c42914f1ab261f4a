"""`crp info`: what a library holds."""

from __future__ import annotations

import json

import click


@click.command(short_help="Say what a library holds, and how to go on with it.")
@click.argument("library")
@click.option("--json", "as_json", is_flag=True, help="All of it as JSON, with sizes in bytes.")
def info(library: str, as_json: bool) -> None:
    """Say what LIBRARY holds: its layers, what was mined with what, the command that made it, and how to go on.

    \b
    Example:
        crp info resnet18.crp
    """
    from crp.library import open_library
    from crp.library.summary import described_in_words, description

    opened = open_library(library)
    click.echo(json.dumps(description(opened), indent=2) if as_json else described_in_words(opened))
