"""`crp classes`: ranks the concepts of a class, or the classes of a concept."""

from __future__ import annotations

import click

from crp.errors import inert
from crp.files import user_path


@click.command(short_help="Rank the concepts that a class uses, or the classes that use a concept.")
@click.argument("library")
@click.argument("layer")
@click.option("--class", "target", metavar="CLASS", help="Rank the concepts of this class.")
@click.option("--concept", type=int, metavar="ID", help="Rank the classes that use this concept.")
@click.option(
    "--order",
    type=click.Choice(["share", "activation", "frequency"]),
    default="share",
    show_default=True,
    help="Sort key, in descending order; frequency: how often the concept is among a sample's leading concepts.",
)
@click.option("--count", type=click.IntRange(min=1), default=10, show_default=True, help="Largest number of rows.")
@click.option("--plot", metavar="FILE", help="Also draw the rows: .png, .pdf or .svg.")
def classes(
    library: str, layer: str, target: str | None, concept: int | None, order: str, count: int, plot: str | None
) -> None:
    """Rank the concepts of LAYER that a class uses, or the classes that use a concept, over all samples of LIBRARY.

    \b
    Example:
        crp classes demo.crp conv5 --class octagon
        crp classes demo.crp conv5 --concept 37 --plot tag.png
    """
    from crp.library import open_library

    if (target is None) == (concept is None):
        raise click.UsageError("Give either --class or --concept.")
    opened = open_library(library)
    if target is not None:
        uses = opened.concepts_of(target, layer, order=order, count=count)
    else:
        uses = opened.classes_of(layer, concept, order=order, count=count)
    click.echo(f"{'class':<24} concept    share   sd      activation  leading  samples")
    for use in uses:
        click.echo(
            f"{use.target_name:<24} {use.concept:>7} {use.share:>+8.2%} {use.share_variance**0.5:>7.2%} "
            f"{use.activation:>11.4g} {use.frequency:>8.1%} {use.samples:>8}  {inert(use.concept_name)}".rstrip()
        )
    if plot is not None:
        from matplotlib.figure import Figure

        from crp.visualization.figures.profile_plots import draw_profile

        figure = Figure(figsize=(6.4, 1.2 + 0.3 * len(uses)), layout="constrained")
        draw_profile(figure.add_subplot(), uses)
        figure.savefig(user_path(plot))
        click.echo(f"Plot: {plot}")
