"""`crp demo`: mines a built-in data set and explains one of its predictions."""

from __future__ import annotations

import shlex

import click

from crp.cli import options
from crp.demo.demo_kinds import DEMO_SAMPLES, KIND_OF, KINDS
from crp.files import user_path


@click.command(short_help="Run a complete example with built-in data and model.")
@click.option(
    "--out", metavar="FOLDER", help="Folder to write to; crp-demo by default, or crp-demo-KIND for another kind."
)
@click.option("--kind", type=click.Choice(tuple(KINDS)), default="scenes", show_default=True, help="The kind of input.")
@click.option(
    "--model",
    "network",
    type=click.Choice(tuple(KIND_OF)),
    help="For scenes, the convolutional network (cnn, the default) or the vision transformer (vit).",
)
@click.option(
    "--samples", type=click.IntRange(min=100), default=DEMO_SAMPLES, show_default=True, help="Samples to mine."
)
def demo(out: str | None, kind: str, network: str | None, samples: int) -> None:
    """Run a complete example: mine a built-in data set with its trained model, and explain one prediction.

    The data are made by the program, so the ground truth is known. In the training
    scenes, nearly all octagons had a small stamp in a corner. The atlas shows whether the model uses the octagon or the
    stamp.

    \b
    Example:
        crp demo --out demo && crp atlas demo/library.crp demo/scene.png --format png
    """
    row = KINDS[kind]
    out = out or ("crp-demo" if kind == "scenes" else f"crp-demo-{kind}")
    network = network or row.network
    if network not in row.networks:
        raise click.UsageError(f"--model {network} is not for --kind {kind}, which has {' and '.join(row.networks)}.")

    from crp.demo import demo_model
    from crp.explanations.computation import explain
    from crp.mining import mine
    from crp.sources.provenance import origin
    from crp.visualization.atlases import Atlas

    folder, model = user_path(out), demo_model(network)
    data = row.functions.data(network, samples)
    kinds = [] if kind == "scenes" else ["--kind", kind]
    asked = ["crp", "demo", *kinds, "--model", network, "--samples", str(samples)]
    named = "demo" if kind == "scenes" else f"demo:{network}"
    if samples != DEMO_SAMPLES:
        named = f"demo:{network}:{samples}"
    library = mine(
        model,
        data,
        layers=row.networks[network],
        targets=getattr(data, "targets", "label"),
        path=folder / "library.crp",
        class_names=data.class_names,
        preprocessing=data.preprocessing,
        source=origin(f"demo:{network}", named, None, asked),
        overwrite=True,
        restart=True,
    )
    example = row.functions.example(folder)
    provenance = {"image": example.file.name, "command": f"{shlex.join(asked)} --out {out}"}
    explanation = explain(model, example.file, library, provenance=provenance, **example.options)
    atlas = Atlas(explanation)
    pages = [atlas.save(folder / f"atlas.{suffix}") for suffix in ("html", "png")]

    story = click.wrap_text(" ".join(row.functions.story(model, explanation)), width=100)
    click.echo(f"\n{story}\n")
    lines = {
        row.word: example.file,
        "Atlas": ", ".join(str(page) for page in pages),
        "Library": library.path,
        "Next": f"{options.explaining_command(library.path, example.file)} {shlex.join(example.next_words)}",
    }
    width = max(map(len, lines)) + 1
    for word, text in lines.items():
        click.echo(f"{f'{word}:':<{width}} {text}")
