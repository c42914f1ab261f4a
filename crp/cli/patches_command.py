"""`crp patches`: makes the patches that a library does not have yet."""

from __future__ import annotations

import os
import sys

import click

from crp.cli import options


@click.command(short_help="Make the patches that a library does not have yet.")
@click.argument("library")
@click.option(
    "--data", metavar="DATA", help="The mined data, named as for `crp mine`; default: what the library names."
)
@click.option("--layers", type=options.Names(), help="Some of the library's layers, separated by commas; default: all.")
@click.option("--model", metavar="MODEL", help="The mined model, named as for `crp mine`.")
@options.weights
@click.option("--trust", is_flag=True, help="Run code that the library names. Only for libraries you trust.")
@options.concept
@options.device
def patches(
    library: str,
    data: str | None,
    layers: tuple[str, ...] | None,
    model: str | None,
    weights: str | None,
    trust: bool,
    concept: tuple[str, ...],
    device: str | None,
) -> None:
    """Make all patches that LIBRARY does not have yet: small pictures that show its concepts.

    Otherwise patches are made when a page needs them. After an interruption, the same command resumes. Several
    processes may make patches of a library at the same time. The library is then the same, byte for byte, as one that
    was mined with --patches-now all.

    \b
    Example:
        crp patches squeezenet.crp
        crp patches squeezenet.crp --data /elsewhere/photos --layers features.12
    """
    sys.path.append(os.getcwd())
    from crp.library import open_library
    from crp.mining import add_patches
    from crp.sources.fitting import pick_device
    from crp.sources.kinds import kinds_named
    from crp.sources.mined_starts import rule_of
    from crp.sources.provenance import data_of, model_of

    opened = open_library(library)
    mined = data_of(opened, data=data, trust=trust)
    ready = model_of(opened, model=model, weights=weights, trust=trust).to(pick_device(device))
    kinds = kinds_named(concept, opened.layers)
    rule = rule_of(opened.manifest, mined)
    for layer in layers or (None,):
        add_patches(opened, ready, mined, layer, concept=kinds, targets=rule)
    made, total = opened.patch_counts()
    click.echo(f"{made} of {total} patches of {library} have been made.")
