"""`crp evaluate`: measures whether the concepts that count are those that the model uses."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import click

from crp.cli import options


@click.command(short_help="Measure whether explanations name what the model uses.")
@click.argument("library")
@click.option("--data", metavar="DATA", required=True, help="Samples to evaluate on, named as for `crp mine`.")
@click.option("--layers", type=options.Names(), help="Some of the library's layers, separated by commas; default: all.")
@click.option(
    "--measures",
    type=options.Names(),
    help="Measures, separated by commas, or `all`. Default: those that are quick.",
)
@click.option(
    "--samples",
    type=click.IntRange(min=2),
    default=32,
    show_default=True,
    help="Number of samples, spread over the data; if they have labels, of correctly predicted ones.",
)
@click.option(
    "--out",
    metavar="FILE",
    default="evaluation.html",
    show_default=True,
    help="The report; FILE.json for numbers only.",
)
@click.option("--model", metavar="MODEL", help="The mined model, named as for `crp mine`.")
@options.weights
@click.option("--trust", is_flag=True, help="Run code that the library names. Only for libraries you trust.")
@options.concept
@options.device
def evaluate(
    library: str,
    data: str,
    layers: tuple[str, ...] | None,
    measures: tuple[str, ...] | None,
    samples: int,
    out: str,
    model: str | None,
    weights: str | None,
    trust: bool,
    concept: tuple[str, ...],
    device: str,
) -> None:
    """Remove concepts of LIBRARY from its model, and compare what happens with what explanations say.

    For each layer, the report says how well the order and signs of the concepts' relevance agree with their measured
    effects, and how fast the output falls when concepts are removed in that order, compared with simple baselines. By
    default it also says whether the network is trained, and covers edges between layers, pairs of concepts, and sums
    over classes; with --measures also masking, randomisation, stability and pixels, or all.

    \b
    Example:
        crp evaluate squeezenet.crp --data photos/ --samples 48 --out squeezenet.html
    """
    sys.path.append(os.getcwd())
    import torch

    from crp.evaluation import DEFAULT, NAMES, chosen_samples
    from crp.evaluation import evaluate as run
    from crp.files import user_path
    from crp.library import open_library
    from crp.models import prepared
    from crp.sources.data import load_data
    from crp.sources.fitting import pick_device
    from crp.sources.kinds import kinds_named
    from crp.sources.provenance import model_of
    from crp.visualization.page_files import replace_file
    from crp.visualization.report import evaluation_report

    opened = open_library(library)
    path = user_path(out)
    if path.suffix.lower() not in (".html", ".json"):
        raise click.UsageError(f"--out must be a .html or .json file, given '{out}'.")
    dataset = load_data(data, opened.preprocessing, class_names=opened.class_names or None)
    found = model_of(opened, model=model, weights=weights, trust=trust).to(pick_device(device))
    ready = prepared(found, library=opened)
    kind = kinds_named(concept, opened.layers)
    ready.check(opened, kind)
    chosen = chosen_samples(ready, dataset, samples, labelled=dataset.labelled)
    shown = getattr(dataset, "shown", None)
    masks = shown and torch.stack([torch.as_tensor(shown(index)) for index in chosen.indices])
    names = [name for name in NAMES if name != "localisation" or shown] if measures == ("all",) else measures or DEFAULT
    result = run(
        ready,
        chosen.data,
        list(layers or opened.layers),
        concept=kind,
        measures=names,
        labels=chosen.labels,
        masks=masks,
    )
    text = (
        json.dumps(result.to_json(), indent=1)
        if path.suffix.lower() == ".json"
        else evaluation_report(result, Path(library).stem)
    )
    replace_file(path, lambda file: file.write(text.encode()))
    for verdict in result.verdicts:
        click.echo(verdict)
    click.echo(path)
