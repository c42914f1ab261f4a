"""`crp diff`: what changed between two libraries of the same samples."""

from __future__ import annotations

import json

import click

from crp.cli import options
from crp.errors import inert


@click.command(short_help="Compare two libraries of the same samples, concept by concept.")
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option("--layers", type=options.Names(), help="Some layers that both have; default: all.")
@click.option("--fail-if", "rules", metavar="RULE", multiple=True, help="Exit with 1 if RULE holds for B; repeatable.")
@click.option("--count", type=click.IntRange(min=1), default=10, show_default=True, help="Changes to list per layer.")
@click.option("--json", "as_json", is_flag=True, help="Print the difference as JSON.")
@click.pass_context
def diff(
    ctx: click.Context,
    first: str,
    second: str,
    layers: tuple[str, ...] | None,
    rules: tuple[str, ...],
    count: int,
    as_json: bool,
) -> None:
    """Say which concepts of library A are lost in B, which are new, and which classes use a concept more or less.

    A and B are libraries of two checkpoints, training runs or models, mined with --vectors on the same samples.
    Concepts are matched by what they respond to, not by their numbers. SciPy is needed.

    \b
    Examples:
        crp diff before.crp after.crp
        crp diff before.crp after.crp --fail-if "octagon uses conv5/37 > 5%"
    """
    from crp.analysis import difference
    from crp.library import open_library

    found = difference(open_library(first), open_library(second), layers=layers)
    answers = [found.answer(rule) for rule in dict.fromkeys(rules)]
    broken = [answer.sentence for answer in answers if answer.holds]
    if as_json:
        click.echo(json.dumps({"layers": [layer.to_json() for layer in found.layers], "failed": broken}, indent=1))
    else:
        for layer in found.layers:
            places = f"{len(layer.pairs)} concepts in both, {len(layer.moved)} of them at another number"
            click.echo(inert(f"{layer.layer}: {places}; lost: {_listed(layer.lost)}; new: {_listed(layer.new)}"))
            if layer.changes:
                click.echo("  mean share of a class's relevance in the layer, A -> B, if it changed by five points:")
            for one in layer.changes[:count]:
                click.echo(
                    inert(
                        f"  {one.target_name}: concept {one.pair.first} (in B {one.pair.second}) "
                        f"{one.before:+.1%} -> {one.after:+.1%}"
                    )
                )
            if len(layer.changes) > count:
                click.echo(f"  and {len(layer.changes) - count} more changes of at least five points")
        if found.empty:
            click.echo("Nothing differs.")
        for answer in answers:
            click.echo(inert(answer.sentence))
    ctx.exit(1 if broken else 0)


def _listed(ids: tuple[int, ...]) -> str:
    return ", ".join(map(str, ids)) or "none"
