"""`crp strategies`: clusters of samples that the model decides by the same strategy."""

from __future__ import annotations

import click

from crp.errors import inert


@click.command(short_help="Cluster the samples of each class; likely Clever Hans come first.")
@click.argument("library")
@click.argument("layer")
@click.option("--class", "targets", metavar="CLASS", multiple=True, help="Only this class; can be repeated.")
@click.option(
    "--clusters", type=click.IntRange(min=2), help="Clusters per class; by default chosen by the eigenvalues."
)
@click.option("--count", type=click.IntRange(min=1), default=20, show_default=True, help="Largest number of rows.")
def strategies(library: str, layer: str, targets: tuple[str, ...], clusters: int | None, count: int) -> None:
    """Cluster the samples of each class in LIBRARY by the relevance of LAYER's concepts (SpRAy).

    Clusters in which one concept has a much larger share of the relevance than in the rest of the class come first: a
    Clever Hans is most likely there. The library must have been mined with --vectors, and scikit-learn is needed.

    \b
    Example:
        crp strategies demo.crp conv5
    """
    from crp.analysis import suspects
    from crp.class_names import class_name
    from crp.library import open_library

    opened = open_library(library)
    chosen = [opened.class_index(target) for target in targets] or None
    click.echo(f"{'class':<24} {'samples':>12}  concept  share here  elsewhere  for example")
    for suspect in suspects(opened.vectors(layer), targets=chosen, clusters=clusters)[:count]:
        own = len(suspect.samples)
        examples = " ".join(str(sample) for sample in suspect.samples[:4])
        name = class_name(opened.class_names, suspect.target)
        click.echo(
            f"{name:<24} {f'{own} of {own + suspect.others}':>12} {suspect.concept:>8} "
            f"{suspect.share:>11.1%} {suspect.share_of_others:>10.1%}  {examples}  "
            f"{inert(opened.concept_name(layer, suspect.concept))}".rstrip()
        )
