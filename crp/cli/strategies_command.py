"""`crp strategies`: clusters of samples that are decided alike."""

from __future__ import annotations

import click


@click.command(short_help="Cluster each class's samples; likely Clever Hans first.")
@click.argument("library")
@click.argument("layer")
@click.option("--class", "targets", metavar="NAME", multiple=True, help="Only this class; repeatable.")
@click.option("--clusters", type=click.IntRange(min=2), help="Of each class; by default read from the eigenvalues.")
@click.option("--count", type=click.IntRange(min=1), default=20, show_default=True, help="Clusters to show at most.")
def strategies(library: str, layer: str, targets: tuple[str, ...], clusters: int | None, count: int) -> None:
    """Cluster the samples of each class in LIBRARY by what LAYER's concepts contribute (SpRAy).

    Clusters in which one concept takes much more of the relevance than in the rest of the class come first: there look
    for a Clever Hans. The library must have been mined with --vectors; scikit-learn is needed.

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
            f"{suspect.share:>11.1%} {suspect.share_of_others:>10.1%}  {examples}"
        )
