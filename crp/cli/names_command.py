"""`crp names`: names, notes and verdicts that people give to concepts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from crp.cli import options
from crp.errors import InputError, inert

if TYPE_CHECKING:
    from crp.library import GivenName, Library


@click.command(short_help="List, give and exchange the names of concepts.")
@click.argument("library")
@click.option("--set", "named", metavar="LAYER/ID=LABEL", help="Name a concept; an empty label removes its name.")
@click.option("--note", help="With --set: a note on the concept.")
@click.option("--tags", type=options.Names(), help="With --set: tags, separated by commas.")
@click.option("--verdict", help="With --set: artefact, fine or unsure.")
@click.option("--author", default="", metavar="NAME", help="With --set: who gives the name.")
@click.option("--import", "imported", metavar="FILE", multiple=True, help="Merge names from a file; repeatable.")
@click.option("--export", "exported", metavar="FILE", help="Write all names to a file that --import reads.")
@click.option(
    "--propose", metavar="SOURCE", help="Propose names from FILE.csv, a table about the samples, or from `classes`."
)
@click.option("--layers", type=options.Names(), help="With --propose: some of the library's layers; default: all.")
@click.option("--json", "as_json", is_flag=True, help="Print the names as JSON.")
def names(
    library: str,
    named: str | None,
    note: str | None,
    tags: tuple[str, ...] | None,
    verdict: str | None,
    author: str,
    imported: tuple[str, ...],
    exported: str | None,
    propose: str | None,
    layers: tuple[str, ...] | None,
    as_json: bool,
) -> None:
    """List the names that people gave to concepts of LIBRARY; with options, add names or exchange them.

    Names are kept in LIBRARY/names.json. They stay when the model is mined again. Each has a fingerprint of its
    concept; names of concepts that the library does not hold (the model was trained again, its channels have other
    numbers) are not used, and a sentence says so. Of two names for one concept, the newer one is kept.

    --propose lists names that fit, and stores none. A concept gets the name of an attribute if its activation separates
    the samples with it (AUC at least 0.95), and this is unlikely by chance. If the model's predictions do not agree
    with the mined labels, its relevance must separate them, too (at least 0.75). FILE.csv has a row for each sample, in
    the order of the data; the library needs vectors (--vectors). `classes` needs neither: concepts of one class become
    "octagon's". With --export FILE, the proposals are written to a file, to be checked and then given to --import.

    \b
    Examples:
        crp names birds.crp --set layer4/37="red beak" --note "also berries" --author Ann
        crp names birds.crp --import names-from-page.json
        crp names birds.crp --propose birds.csv --export proposed.json
    """
    from crp.files import user_path
    from crp.library import open_library, read_names, write_names

    opened = open_library(library)
    if named is None and (note, tags, verdict, author) != (None, None, None, ""):
        raise click.UsageError("--note, --tags, --verdict and --author are for --set.")
    if named is not None:
        address, equals, label = named.partition("=")
        if not equals:
            raise click.UsageError(f"A name is given as LAYER/ID=LABEL, such as conv5/37=stamp, given {named!r}.")
        opened.give_name(address, label, note=note, tags=tags, verdict=verdict, author=author)
    for file in map(user_path, imported):
        if not file.is_file():
            raise InputError(f"There is no file '{file}'.")
        _tell(opened, file.name, list(read_names(file).values()))
    if propose is not None:
        _propose(opened, propose, layers, exported, as_json=as_json)
        return
    found = opened.given_names()
    if exported is not None:
        write_names(user_path(exported), found.values())
    if as_json:
        click.echo(json.dumps([name.to_json() for name in found.values()], indent=1))
        return
    if not found:
        click.echo(f"No concept has a name. Give one: crp names {opened.path} --set {opened.layers[0]}/0=LABEL")
        return
    for line in _table([found[key] for key in sorted(found)]):
        click.echo(inert(line))


def _propose(
    library: Library, source: str, layers: tuple[str, ...] | None, exported: str | None, *, as_json: bool
) -> None:
    """Print what is proposed, and write it to a file of names."""
    from crp import analysis
    from crp.files import user_path
    from crp.library import write_names
    from crp.library.given_names import today

    if source == "classes":
        found = analysis.propose_from_classes(library, layers)
    else:
        columns = analysis.read_columns(source, library.manifest["data"]["length"])
        found = analysis.propose(library, columns, layers)
    if exported is not None:
        write_names(user_path(exported), [one.as_name(library, today()) for one in found])
    if as_json:
        click.echo(json.dumps([one.to_json() for one in found], indent=1))
        return
    click.echo(f"{'concept':<16} {'proposed':<28} {'AUC':>6} {'relevance':>9} {'p':>6}  next")
    for one in found:
        other = f"{one.other[0]} {one.other[1]:.3f}" if one.other[0] else ""
        figures = f"{one.area:>6.3f} {one.use:>9.3f} {one.p:>6.3f}"
        click.echo(inert(f"{f'{one.layer}/{one.concept}':<16} {one.label:<28} {figures}  {other}".rstrip()))
    count = sum(library.limits(layer).concepts for layer in layers or library.layers)
    click.echo(f"{len(found)} of {count} concepts; the others fit no name.", err=True)


def _tell(library: Library, source: str, given: list[GivenName]) -> None:
    """Merge names, and say on stderr what came of it."""
    result = library.merge_names(given)
    plural = "" if len(given) == 1 else "s"
    click.echo(inert(f"{source}: {len(given)} name{plural}, {result.changes} new or newer."), err=True)
    if result.changes:
        click.echo("Pages and sites show them after crp atlas has made them again.", err=True)
    for conflict in result.conflicts:
        click.echo(inert(f"  {conflict}"), err=True)
    for address, reason in result.refused.items():
        click.echo(inert(f"  {address} is not imported: {reason}"), err=True)


def _table(given: list[GivenName]) -> list[str]:
    rows = [("concept", "label", "verdict", "tags", "by")]
    rows += [
        (one.address, one.label, one.verdict, ", ".join(one.tags), " ".join(filter(None, (one.author, one.date[:10]))))
        for one in given
    ]
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = []
    for index, row in enumerate(rows):
        lines.append("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        note = given[index - 1].note if index else ""
        lines += [f"    {line}" for line in note.splitlines()]
    return lines
