"""`crp mine`: a model and its data set into a library."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from crp.cli import options


@click.command(short_help="Mine a model and its data set into a library.")
@click.argument("model")
@click.argument("data")
@click.option("--out", required=True, metavar="LIBRARY", help="Folder to write, such as resnet18.crp.")
@click.option(
    "--layers",
    type=options.Names(),
    help="Names with commas between them, or patterns as 'layer*', 'features.*'; default the last convolutional stage.",
)
@options.weights
@click.option("--size", type=options.Pixels(), help="Resize the short side (224), or exactly (224x320).")
@click.option("--crop", type=options.Pixels(), help="Centre crop; by default the square of --size.")
@click.option("--mean", type=options.Numbers(), help="Subtracted after scaling to 0..1; one number or one a channel.")
@click.option("--std", type=options.Numbers(), help="Divided by after that.")
@click.option(
    "--preprocessing",
    metavar="FILE",
    help="All of that in a JSON file (size, crop, mean, std, mode, interpolation); the options above go before it.",
)
@click.option("--class-names", metavar="FILE", help="One name a line (.txt), or a list (.json).")
@click.option(
    "--targets",
    type=options.Targets(),
    metavar="label|prediction|topN",
    help="Class to explain of each sample; by default the label (each, of several), where the data has labels.",
)
@click.option("--output", metavar="NAME", help="Part of the model's output to explain, if it is a dict or tuple.")
@click.option(
    "--references",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    help="Samples kept of each concept and mode.",
)
@click.option(
    "--patches", type=click.IntRange(min=0), default=8, show_default=True, help="Of these, how many with their picture."
)
@click.option(
    "--block-size", type=click.IntRange(min=1), default=32, show_default=True, help="Samples computed at a time."
)
@click.option(
    "--workers", type=click.IntRange(min=0), default=0, show_default=True, help="Processes that read pictures ahead."
)
@click.option(
    "--precision",
    type=click.Choice(["bfloat16"]),
    help="A faster pass over the data; patches are made in the model's own precision, which is the default.",
)
@options.device
@click.option("--overwrite", is_flag=True, help="Replace the library if there is one.")
def mine(model: str, data: str, **given: Any) -> None:
    """Find the samples of DATA that show each concept of MODEL, and keep them in a library.

    MODEL is torchvision:NAME, package.module:function, file.py:function (a function without arguments that returns a
    torch.nn.Module), or demo. DATA is a folder of pictures (class subfolders are labels), an .npz with images (and
    labels, class_names), package.module:function or file.py:function (a function without arguments that returns a
    map-style data set), or demo.

    Pictures are prepared for torchvision's models as for ImageNet (short side 256, crop 224), for others scaled to
    0..1 only; the options say otherwise. What was said is stored: `crp atlas` then needs the library and a picture.

    \b
    Example:
        crp mine torchvision:squeezenet1_1 photos/ --weights squeezenet.safetensors \\
            --layers features.9,features.12 --class-names imagenet.txt --out squeezenet.crp
    """
    # Functions in the folder one works in can be named, as with `python -m`.
    sys.path.append(os.getcwd())
    from crp.mining import mine as run
    from crp.sources.fitting import pick_device
    from crp.sources.origin import origin
    from crp.sources.plan import plan_mining

    device = pick_device(given["device"])
    shape = {name: given[name] for name in ("size", "crop", "mean", "std")}
    told = {name: given[name] for name in ("weights", "layers", "targets", "output", "class_names", "preprocessing")}
    plan = plan_mining(model, data, settings=shape, **told)
    for note in plan.notes:
        click.echo(note, err=True)
    decides = {**told, **shape, **{name: given[name] for name in ("references", "patches", "block_size", "precision")}}
    library = run(
        plan.model.to(device),
        plan.data,
        layers=plan.layers,
        path=given["out"],
        targets=plan.targets,
        k=given["references"],
        patches=given["patches"],
        block_size=given["block_size"],
        workers=given["workers"],
        precision=given["precision"],
        device=device,
        class_names=plan.class_names,
        preprocessing=plan.preprocessing,
        source=origin(model, data, given["weights"], options.command_line("mine", [model, data], decides)),
        overwrite=given["overwrite"],
    )
    click.echo(f"Library: {library.path}")
    click.echo(f"Next:    crp atlas {library.path} PICTURE")
