"""`crp search`: finds the samples that use a concept."""

from __future__ import annotations

import click

from crp.cli.patch_supply import name_samples
from crp.errors import inert


@click.command(short_help="Find the samples that use a concept.")
@click.argument("library")
@click.argument("layer")
@click.argument("concept", type=int)
@click.option(
    "--by",
    type=click.Choice(["relevance", "activation"]),
    default="relevance",
    show_default=True,
    help="Sort by share of relevance, or by activation.",
)
@click.option("--class", "target", metavar="CLASS", help="Only samples explained for this class.")
@click.option("--prediction", metavar="CLASS", help="Only samples predicted as this class.")
@click.option("--label", metavar="CLASS", help="Only samples with this label.")
@click.option("--count", type=click.IntRange(min=1), default=20, show_default=True, help="Largest number of samples.")
def search(library: str, layer: str, concept: int, by: str, count: int, **classes: str | None) -> None:
    """Find the samples of LIBRARY that use concept number CONCEPT of LAYER most.

    The library must have been mined with --vectors. Samples have the names of their files if the mined folder is still
    where it was.

    \b
    Example:
        crp search demo.crp conv5 37 --prediction octagon
    """
    from crp.analysis import search as run
    from crp.class_names import class_name
    from crp.library import open_library

    opened = open_library(library)
    vectors, concept = opened.vectors(layer), opened.concept_id(layer, concept)
    chosen = {name: None if value is None else opened.class_index(value) for name, value in classes.items()}
    found = run(vectors, concept, by=by, count=count, **chosen)
    name_samples(opened, trust=False)
    if name := opened.concept_name(layer, concept):
        click.echo(f"concept {concept} of {layer}: {inert(name)}")
    named = {sample: inert(opened.sample_name(sample)) for sample in found.sample.tolist()}
    last = f"{'label':<20} name" if any(named.values()) else "label"
    click.echo(f"  sample  {by:>10}  {'explained':<20} {'predicted':<20} {last}")
    for sample, value, *known in zip(
        found.sample.tolist(), found.value.tolist(), found.target, found.prediction, found.label, strict=True
    ):
        # -1 means that there is none
        target, prediction, label = (class_name(opened.class_names, one) if one >= 0 else "none" for one in known)
        row = f"{sample:>8}  {value:>10.4g}  {target:<20} {prediction:<20} {label:<20} {named[sample]}"
        click.echo(row.rstrip())
