"""`crp verify`: checks that a library is complete, unchanged and correct."""

from __future__ import annotations

import json
import os
import sys

import click

from crp.cli import options
from crp.errors import inert


@click.command(short_help="Check that a library is complete, unchanged and correct.")
@click.argument("library")
@click.option("--data", metavar="DATA", help="The mined data, to compute some scores again.")
@click.option("--model", metavar="MODEL", help="The mined model, named as for `crp mine`.")
@options.concept
@options.weights
@click.option("--trust", is_flag=True, help="Run model code that the library names. Only for libraries you trust.")
@click.option(
    "--blocks",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="Blocks of samples to compute again, spread over the data.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_context
def verify(
    ctx: click.Context,
    library: str,
    data: str | None,
    model: str | None,
    weights: str | None,
    concept: tuple[str, ...],
    trust: bool,
    blocks: int,
    as_json: bool,
) -> None:
    """Check that LIBRARY can be read, that its files are unchanged, and (with --data) that its scores are correct.

    Problems are described in sentences, and the exit code is then 1.

    \b
    Example:
        crp verify squeezenet.crp --data photos/
    """
    sys.path.append(os.getcwd())
    from crp.library import open_library
    from crp.sources.data import load_data
    from crp.sources.kinds import kinds_named
    from crp.sources.mined_starts import rule_of
    from crp.sources.provenance import model_of
    from crp.verification import verify as run

    given = {}
    if concept:
        given["concept"] = kinds_named(concept, open_library(library).layers)
    if data is not None or model is not None:
        opened = open_library(library)
        given["model"] = model_of(opened, model=model, weights=weights, trust=trust)
        if data is not None:
            given["dataset"] = load_data(data, opened.preprocessing, class_names=opened.class_names or None)
            given["targets"] = rule_of(opened.manifest, given["dataset"])
    found = run(library, **given, blocks=blocks)
    if as_json:
        click.echo(json.dumps({"sound": found.sound, **{n: getattr(found, n) for n in ("held", "wrong", "notes")}}))
    else:
        click.echo(inert(str(found)))
        click.echo("The library is sound." if found.sound else "The library is not sound.")
    ctx.exit(0 if found.sound else 1)
