"""`crp layers`: lists the layers of a model, and those that are mined by default."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import click

from crp.cli import options


@click.command(short_help="List the layers of a model, and which are mined by default.")
@click.argument("model")
@options.weights
@click.option("--data", metavar="DATA", help="Data, named as for `crp mine`; the first sample is the input.")
@options.size
@options.crop
@options.preprocessing
@options.output
@click.option(
    "--all", "every", is_flag=True, help="List every layer, including those that some paths to the output bypass."
)
@click.option("--json", "as_json", is_flag=True, help="Print the table as JSON.")
def layers(model: str, **given: Any) -> None:
    """List the layers of MODEL: shape, layout and receptive field of their outputs.

    MODEL is named as for `crp mine`; weights are not needed. The model runs once, on noise the size of its pictures or
    on the first sample of --data. Layers with * are mined by default: the last of each of the last four stages, or four
    evenly spaced blocks if there is only one stage. A stage is a run of layers with the same grid of positions.

    \b
    Example:
        crp layers timm:convnext_atto
        crp layers net.py:make --data photos/ --all
    """
    # Makes modules in the current folder importable, as `python -m` does.
    sys.path.append(os.getcwd())
    from crp.sources.layer_table import as_table, example_input, layer_rows
    from crp.sources.named_models import load_model

    settings = {name: given[name] for name in ("size", "crop")}
    told = {name: given[name] for name in ("data", "preprocessing")}
    network = load_model(model, given["weights"], output=given["output"])
    data = example_input(model, given["weights"], settings=settings, **told)
    rows = layer_rows(network, data, every=given["every"])
    if given["as_json"]:
        click.echo(json.dumps(rows, indent=2))
        return
    click.echo(as_table(rows, data.shape[1:]))
    chosen = ",".join(row["name"] for row in rows if row["chosen"])
    click.echo(f"\nInput {' x '.join(map(str, data.shape))}. Mined by default (*):  --layers {chosen or 'none'}")
