"""`crp suspects`: concepts that a class may use for the wrong reason."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import click

from crp.cli import options
from crp.cli.library_subject import read_subject
from crp.cli.patch_supply import supply
from crp.errors import inert


@click.command(short_help="List concepts that a class may use for the wrong reason.")
@click.argument("library")
@click.option("--layers", type=options.Names(), help="Some of the library's layers; default: all.")
@click.option("--data", metavar="DATA", help="Samples on which effects are measured, named as for `crp mine`.")
@click.option(
    "--samples", type=click.IntRange(min=40), default=1000, show_default=True, help="Number of samples to read."
)
@click.option("--count", type=click.IntRange(min=1), default=10, show_default=True, help="Largest number of rows.")
@click.option("--measured", type=click.IntRange(min=1), default=5, show_default=True, help="Rows that are measured.")
@click.option("--verdict", metavar="LAYER/ID=VERDICT", help="Store a verdict: artefact, fine or unsure.")
@click.option("--note", default="", help="A note on the verdict.")
@click.option("--kind", metavar="KIND", default="channels", show_default=True, help="Kind of concept of LIBRARY.")
@click.option("--model", metavar="MODEL", help="The mined model, named as for `crp mine`.")
@options.weights
@options.device
@click.option("--trust", is_flag=True, help="Run code that the library names. Only for libraries you trust.")
@click.option("--page", metavar="FILE.html", help="Write a page with patches, evidence, and an editor for verdicts.")
@click.option("--json", "as_json", is_flag=True, help="Print the evidence as JSON.")
def suspects(
    library: str,
    layers: tuple[str, ...] | None,
    data: str | None,
    samples: int,
    count: int,
    measured: int,
    verdict: str | None,
    note: str,
    kind: str,
    page: str | None,
    as_json: bool,
    **given: Any,
) -> None:
    """List concepts of LIBRARY that a class may use for the wrong reason, the most suspicious first.

    LIBRARY must have been mined with --vectors. Rows are ordered by the sum of the evidence: how much more the class
    uses the concept than any other class does; how much less the samples of the class that use it least use it; how
    much more often, at least, those are predicted wrongly; and, with --data, how many samples change their class when
    the concept is removed or added, and how much of it stays at one place or lies outside the object. A row is likely a
    Clever Hans, and stands above the others, if the first three are above 30, 20 and 0 points; or, with --data, if most
    of the concept is one content at one place, as with a watermark. Whether a concept is legitimate is for you to say;
    verdicts are kept in the library (`crp names`).

    \b
    Examples:
        crp suspects scenes.crp --data photos/ --page suspects.html
        crp suspects scenes.crp --verdict conv5/37=artefact --note "stamp of the archive"
    """
    sys.path.append(os.getcwd())
    from crp.correction import candidates, coincidences
    from crp.correction.location import object_masks
    from crp.correction.suspicion import EFFECTS, STATED, with_effects
    from crp.files import user_path
    from crp.library import open_library
    from crp.library.names_file import FILE as NAMES
    from crp.sources.kinds import kind_named
    from crp.visualization.page_files import replace_file
    from crp.visualization.report.suspects_page import suspects_report

    opened = open_library(library)
    if verdict is not None:
        name, equals, kept = verdict.rpartition("=")
        if not equals:
            raise click.UsageError(f"A verdict has the form LAYER/ID=VERDICT, as conv5/37=fine, given {verdict!r}.")
        opened.give_name(name, verdict=kept, note=note or None)
        click.echo(f"The verdict on {name} is {kept!r}. It is kept in {opened.path / NAMES}.")
        return
    names = opened.given_names()
    if data is None:
        found = candidates(opened, layers=layers)[:count]
    else:
        found_kind = kind_named(kind)
        subject = read_subject(opened, found_kind, given, data=data, samples=samples, labelled=False)
        loaded, every = subject.model, subject.samples
        masks = object_masks(subject.dataset, every.indices)
        places = coincidences(loaded, every.data, layers or tuple(opened.layers), found_kind)
        found = candidates(opened, layers=layers, places=places)[:count]
        found = with_effects(found, loaded, every.data, found_kind, measured, masks=masks)
        if page is not None:
            supply(opened, loaded, found_kind, trust=given["trust"])
    if page is not None:
        text = suspects_report(found, opened)
        replace_file(user_path(page), lambda file: file.write(text.encode()))
    if as_json:
        rows = [
            {**one.to_json(), "given": kept.to_json() if (kept := names.get((one.layer, one.concept))) else None}
            for one in found
        ]
        click.echo(json.dumps(rows, indent=1))
        return
    if not found:
        click.echo("No concept holds 5 % of the relevance of a class with at least 6 samples, or 25 % in some of them.")
        return
    placed, outside = (any(getattr(one, name) is not None for one in found) for name in ("place", "outside"))
    click.echo(
        f"{'':<39} {'samples':>11} {'share':>13} {'':>9} {'right':>13}\n"
        f"{'concept':<16} {'class':<22} {'more':>5} {'less':>5} {'more':>6} {'less':>6} {'exclusive':>9} "
        f"{'more':>6} {'less':>6} {'errors':>6} {'kept':>6} {'pulled':>6}{'  place' if placed else ''}"
        f"{' outside' if outside else ''}"
    )
    for place, one in enumerate(found):
        if one.decides is None and not one.likely and place and found[place - 1].decides is not None:
            click.echo("not measured, which makes them no less suspicious:")
        kept = names.get((one.layer, one.concept))
        said = ": ".join(filter(None, (kept.verdict, kept.label, kept.note))) if kept else ""
        words = said if kept and kept.verdict else " ".join(["likely a Clever Hans" * one.likely, said]).strip()
        click.echo(
            inert(
                f"{one.name:<16} {one.target_name:<22} {one.having:>5} {one.lacking:>5} {one.share:>6.0%} "
                f"{one.share_lacking:>6.0%} {one.exclusive:>9.0%} {_percent(one.right):>6} "
                f"{_percent(one.right_lacking):>6} {_percent(None if one.right is None else one.errors):>6} "
                f"{_percent(one.kept):>6} {_percent(one.pulled):>6}"
                f"{f' {_percent(one.place):>6}' if placed else ''}{f' {_percent(one.outside):>7}' if outside else ''}"
                f"  {words}".rstrip()
            )
        )
    click.echo(
        "more, less: the samples of the class that use the concept more, and those that use it less; share: the "
        "concept's share of their relevance, the gap is the difference of both; exclusive: how much larger the mean "
        "share of the class is than that of any other class; right: predicted correctly; errors: how much more often, "
        "at least, those that use it less are wrong (lower end of the 95 % interval)."
    )
    click.echo(STATED)
    if data is not None:
        click.echo("kept: still recognised without it; pulled: others taken for the class when it is put in.")
        if placed:
            click.echo("place: how much of it is the same content at a fixed place, as a watermark would be.")
        if outside:
            click.echo("outside: how much more of its relevance lies outside the object than if it were spread evenly.")
        if sum(one.kept is not None for one in found) < min(measured, len(found)):
            fewer = min(EFFECTS, len(every.data))
            click.echo(
                f"Not measured where fewer than 10 of {fewer} samples have the concept, fewer than 10 lack it, or none "
                "that has it is predicted as the class."
            )


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"
