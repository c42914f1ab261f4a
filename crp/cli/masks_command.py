"""`crp masks`: where a concept is in samples, for training elsewhere."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from crp.cli import options
from crp.cli.library_subject import read_subject


@click.command(short_help="List the samples that have a concept, and write masks of where it is.")
@click.argument("library")
@click.option("--concept", metavar="LAYER/ID", required=True, help="The concept, such as conv5/37.")
@click.option("--data", metavar="DATA", required=True, help="Samples, named as for `crp mine`.")
@click.option("--out", metavar="FOLDER", required=True, help="Folder for samples.csv and masks/.")
@click.option("--labels", is_flag=True, help="Also list the labels of DATA.")
@click.option(
    "--samples",
    type=click.IntRange(min=40),
    default=1000,
    show_default=True,
    help="Number of samples, spread over DATA.",
)
@click.option("--kind", metavar="KIND", default="channels", show_default=True, help="Kind of concept of LIBRARY.")
@click.option("--model", metavar="MODEL", help="The mined model, named as for `crp mine`.")
@options.weights
@options.device
@click.option("--trust", is_flag=True, help="Run code that the library names. Only for libraries you trust.")
def masks(
    library: str,
    concept: str,
    data: str,
    out: str,
    labels: bool,
    samples: int,
    kind: str,
    **given: Any,
) -> None:
    """List the samples of DATA that have a concept of LIBRARY, and write where it is, for training elsewhere.

    samples.csv lists all samples that were read: index, whether the concept is active, how strong it is, the predicted
    class, the label, and the file of the mask. masks/INDEX.png has the size of the model's input and is 255 where the
    concept is.

    \b
    Example:
        crp masks scenes.crp --concept conv5/37 --data photos/ --labels --out tag/
    """
    sys.path.append(os.getcwd())
    from crp.correction import export_masks
    from crp.library import open_library
    from crp.sources.kinds import kind_named

    opened, found_kind = open_library(library), kind_named(kind)
    layer, index = opened.concept_named(concept)
    subject = read_subject(opened, found_kind, given, data=data, samples=samples, labelled=labels)
    settings = {"kind": found_kind, "class_names": opened.class_names}
    click.echo(export_masks(subject.model, subject.samples, layer, index, out, **settings))
