"""`crp context`: which concepts of each class lie outside of its objects."""

from __future__ import annotations

import io
import math
import os
import sys
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crp.cli import options
from crp.errors import InputError, LibraryError, inert
from crp.failed_pictures import FailedPictures
from crp.files import user_path

if TYPE_CHECKING:
    from crp.analysis import ConceptContext
    from crp.library import Library


@click.command(short_help="Find context concepts: those that lie outside the objects of a class.")
@click.argument("library")
@click.argument("images", nargs=-1, required=True, metavar="PICTURE...")
@click.option("--layers", type=options.Names(), help="Some of the library's layers, separated by commas; default: all.")
@click.option(
    "--concepts",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Number of supporting concepts to measure for each object and layer.",
)
@click.option("--out", metavar="FILE", help="Write all rows as CSV.")
@click.option("--count", type=click.IntRange(min=1), default=5, show_default=True, help="Rows shown for each class.")
@click.option("--model", metavar="MODEL", help="The mined model, named as for `crp mine`.")
@options.weights
@click.option("--trust", is_flag=True, help="Run code that the library names. Only for libraries you trust.")
@options.concept
@options.device
def context(library: str, images: tuple[str, ...], **given: Any) -> None:
    """Rank the concepts of each class by how much of their relevance lies outside its objects.

    Objects are the boxes that the detector in LIBRARY finds in the PICTUREs (files, or folders of pictures), or the
    classes that the segmentation predicts. For every object, the conditional heatmap of each of its strongest concepts
    is divided into what lies inside the box or mask and what lies outside, the context (L-CRP, Dreyer et al. 2023).
    A PICTURE that cannot be read or explained is left out and named at the end.

    \b
    Example:
        crp context detector.crp street/ --out context.csv
    """
    sys.path.append(os.getcwd())
    from crp.analysis import MeasuredContexts, found_in
    from crp.explanations.concept_table import write_rows
    from crp.files import write_file
    from crp.library import open_library
    from crp.media.any_preprocessing import read_input
    from crp.sources.data import pictures_below
    from crp.sources.fitting import pick_device
    from crp.sources.kinds import kinds_named
    from crp.sources.provenance import model_of

    opened = open_library(library)
    device = pick_device(given["device"])
    model = model_of(opened, model=given["model"], weights=given["weights"], trust=given["trust"]).to(device)
    if opened.preprocessing is None:
        raise LibraryError(f"The library '{library}' does not say how pictures become model input.")
    paths = []
    for image in map(user_path, images):
        paths += pictures_below(image, Path(library), opened.preprocessing) if image.is_dir() else [image]
    failed = FailedPictures(len(paths))

    kinds = {"concept": kinds_named(given["concept"], opened.layers)} if given["concept"] else {}
    measured = MeasuredContexts(model, opened, given["layers"], concepts=given["concepts"], **kinds)
    for path in paths:
        with failed.of(path):
            data = read_input(path, opened.preprocessing)[0].to(device)
            measured.add([*found_in(model, [data], opened.output_names)])
    found = measured.summary()
    if not found:
        failed.report("could not be read or explained, and the model finds no object in the others")
        raise InputError(f"The model finds no object in {len(paths)} pictures.")
    if given["out"]:
        text = io.StringIO(newline="")
        write_rows([_row(each, opened) for each in found], text)
        write_file(user_path(given["out"]), text.getvalue().encode("utf-8", "replace"), refusal=InputError)
        click.echo(given["out"])
        failed.report(f"could not be measured and are not in '{given['out']}'")
        return
    click.echo(f"{'class':<20} {'layer':<20} concept  objects       share    outside")
    for _, own in groupby(found, key=lambda each: (each.target, each.layer)):
        for each in list(own)[: given["count"]]:
            spread = "" if math.isnan(each.spread) else f" ± {each.spread:.1%}"
            click.echo(
                f"{inert(each.class_name):<20} {each.layer:<20} {each.concept:>7} {f'{each.objects} of {each.of}':>10}"
                f" {each.share:>9.1%} {f'{each.context:.1%}':>9}{spread}  "
                f"{inert(opened.concept_name(each.layer, each.concept))}".rstrip()
            )
    failed.report("could not be measured and are not counted")


def _row(each: ConceptContext, opened: Library) -> dict[str, str | int | float]:
    row = asdict(each)
    row["spread"] = "" if math.isnan(each.spread) else each.spread
    return {**row, "name": opened.concept_name(each.layer, each.concept)}
