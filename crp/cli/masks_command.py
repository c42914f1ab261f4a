"""`crp masks`: where a concept is in samples, for a training elsewhere."""

from __future__ import annotations

import os
import sys

import click

from crp.cli import options


@click.command(short_help="Write which samples have a concept, and masks of where it is.")
@click.argument("library")
@click.option("--concept", metavar="LAYER/ID", required=True, help="The concept, such as conv5/37.")
@click.option("--data", metavar="DATA", required=True, help="Samples, named as for `crp mine`.")
@click.option("--out", metavar="FOLDER", required=True, help="Folder for samples.csv and masks/.")
@click.option("--labels", is_flag=True, help="List the labels of DATA, too.")
@click.option(
    "--samples", type=click.IntRange(min=40), default=1000, show_default=True, help="How many, spread over DATA."
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
    model: str | None,
    weights: str | None,
    device: str | None,
    trust: bool,
) -> None:
    """Write which samples of DATA have a concept of LIBRARY, and where in them it is, for a training elsewhere.

    samples.csv lists all samples that were read: index, whether the concept is active, how strong it is, the predicted
    class, the label, and the file of the mask. masks/INDEX.png is 255 where the concept is, in the size of the model's
    input.

    \b
    Example:
        crp masks scenes.crp --concept conv5/37 --data photos/ --labels --out tag/
    """
    sys.path.append(os.getcwd())
    from crp.correction import export_masks
    from crp.correction.reading import read_samples
    from crp.library import open_library
    from crp.models import check_concept_kind
    from crp.sources.data import load_data
    from crp.sources.fitting import pick_device
    from crp.sources.kinds import kind_named
    from crp.sources.provenance import model_of

    opened, found_kind = open_library(library), kind_named(kind)
    layer, index = opened.concept_named(concept)
    check_concept_kind(opened, found_kind)
    place = pick_device(device)
    found = model_of(opened, model=model, weights=weights, trust=trust).to(place)
    dataset = load_data(data, opened.preprocessing, class_names=opened.class_names or None)
    some, others = read_samples(dataset, samples, labelled=labels)
    every = some.joined(others).to(place)
    click.echo(export_masks(found, every, layer, index, out, kind=found_kind, class_names=opened.class_names))
