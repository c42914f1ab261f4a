"""`crp directions`: learns directions of a layer from the data set of a library."""

from __future__ import annotations

import os
import sys

import click

from crp.cli import options


@click.command(short_help="Learn directions of a layer, which can be mined as concepts.")
@click.argument("library")
@click.argument("layer")
@click.option("--data", metavar="DATA", required=True, help="Samples to learn from, named as for `crp mine`.")
@click.option("--count", type=click.IntRange(min=1), default=40, show_default=True, help="Number of directions.")
@click.option("--samples", type=click.IntRange(min=1), default=500, show_default=True, help="Samples to learn from.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of all draws.")
@click.option("--out", metavar="FILE", required=True, help="The file to write, such as directions.safetensors.")
@click.option("--model", metavar="MODEL", help="The mined model, named as for `crp mine`.")
@options.weights
@click.option("--trust", is_flag=True, help="Run code that the library names. Only for libraries you trust.")
@options.device
def directions(
    library: str,
    layer: str,
    data: str,
    count: int,
    samples: int,
    seed: int,
    out: str,
    model: str | None,
    weights: str | None,
    trust: bool,
    device: str | None,
) -> None:
    """Learn COUNT directions of a LAYER of LIBRARY's model by non-negative matrix factorization (NMF).

    The layer's activations must not be negative, as after a ReLU. The file is a kind of concept for `crp mine` and
    `crp atlas`.

    \b
    Example:
        crp directions demo.crp relu5 --data demo --count 20 --out directions.safetensors
        crp mine demo demo --layers relu5 --concept directions:directions.safetensors --out directions.crp
    """
    sys.path.append(os.getcwd())
    from crp.analysis.learned_directions import layer_activations, nmf_directions
    from crp.concepts.direction_files import save_directions
    from crp.library import open_library
    from crp.sources.data import load_data
    from crp.sources.fitting import pick_device
    from crp.sources.provenance import model_of

    opened = open_library(library)
    opened.shape(layer)
    dataset = load_data(data, opened.preprocessing, class_names=opened.class_names or None)
    found = model_of(opened, model=model, weights=weights, trust=trust).to(pick_device(device))
    learned = nmf_directions(layer_activations(found, dataset, layer, samples, seed=seed), count, seed=seed)
    save_directions(learned, out)
    click.echo(out)
