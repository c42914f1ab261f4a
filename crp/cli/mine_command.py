"""`crp mine`: mines a model and its data set into a library."""

from __future__ import annotations

import os
import shlex
import sys
from typing import Any

import click

from crp.cli import options

# Options that decide the content of the library, in addition to those of the plan.
_DECIDING = ("references", "class_references", "vectors", "patches", "block_size", "precision",
             "threads", "skip_bad", "rules", "concept", "probabilities", "show_channels", "show_limits")  # fmt: skip


@click.command(short_help="Mine a model and its data set into a library.")
@click.argument("model")
@click.argument("data")
@click.option("--out", required=True, metavar="LIBRARY", help="Folder to write, such as resnet18.crp.")
@click.option(
    "--layers",
    type=options.Names(),
    help="Names or patterns ('layer*', 'features.*'), comma-separated; default: the last of each stage "
    "(`crp layers` lists them).",
)
@options.weights
@options.size
@options.crop
@click.option("--mean", type=options.Numbers(), help="Subtracted after scaling to 0..1: one number or one per channel.")
@click.option("--std", type=options.Numbers(), help="Divisor after subtracting the mean.")
@options.preprocessing
@options.show_channels
@options.show_limits
@click.option("--class-names", metavar="FILE", help="One name per line (.txt), or a list (.json).")
@click.option(
    "--targets",
    type=options.Targets(),
    metavar="label|prediction|topN|EXPRESSION",
    help="Class to explain for each sample; by default its label or labels, if the data have labels. An expression "
    "('octagon - disc', 'octagon - others') is explained for all.",
)
@options.output
@click.option(
    "--references",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    help="Reference samples of each concept and mode.",
)
@click.option(
    "--patches",
    type=click.IntRange(min=0),
    default=8,
    show_default=True,
    help="How many of the reference samples get a patch.",
)
@options.patches_now
@click.option(
    "--class-references",
    type=click.IntRange(min=0),
    help="Additional reference samples for each class; default: 3, or as many as fit into 256 MB.",
)
@click.option("--vectors", is_flag=True, help="Store concept vectors, for crp search and crp strategies.")
@click.option("--block-size", type=click.IntRange(min=1), default=32, show_default=True, help="Samples per batch.")
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="Threads per process; 4 by default on every machine, because the last digits depend on it.",
)
@options.workers
@click.option(
    "--precision",
    type=click.Choice(["bfloat16", "tf32"]),
    help="Faster, less exact pass over the data (tf32 needs an NVIDIA GPU); default: the model's precision.",
)
@click.option(
    "--rules",
    type=click.Choice(["by-purpose-gamma", "by-purpose", "epsilon-plus-flat"]),
    help="Rules of propagation: one set that ranks concepts and another, with gamma, that draws heatmaps (default); "
    "the same with z+ instead of gamma; or the single composite of the CRP paper.",
)
@options.concept
@options.probabilities
@options.device
@options.skip_bad
@click.option("--extend", metavar="LIBRARY", help="A library of the first samples of DATA, to continue from.")
@click.option("--shard", type=options.Share(), help="Mine one part of the data, as 2/5; `crp merge` joins the parts.")
@options.checkpoint
@options.overwrite
@click.option("--restart", is_flag=True, help="Discard the results of an interrupted run.")
def mine(model: str, data: str, **given: Any) -> None:
    """Find the samples of DATA that show each concept of MODEL, and store them in a library.

    MODEL is torchvision:NAME, timm:NAME, hf:FOLDER (a model that transformers saved), package.module:function or
    file.py:function (a function without arguments that returns a torch.nn.Module), demo or demo:vit. DATA is a folder
    of pictures (class subfolders are labels), a folder that Hugging Face's datasets saved, an .npz file with images
    (and labels, class_names), package.module:function or file.py:function (a function without arguments that returns a
    map-style data set), or demo.

    Pictures are preprocessed as for ImageNet for torchvision's models (short side 256, crop 224), as timm evaluates
    its models, or as the processor in the hf:FOLDER says. For other models they are only scaled to 0..1. The options
    change that. The settings are stored, so `crp atlas` needs only the library and a picture. With --show-channels or
    --show-limits, DATA is a folder of images with any channels (.npy, .tif, .png), whose values go to the
    model unchanged; pages say what they show of them.

    After an interruption, even a kill, the same command resumes from LIBRARY.partial. With torchrun (the second
    example), several processes share the work; with --shard, several machines do. The library is the same, byte
    for byte.

    \b
    Example:
        crp mine torchvision:squeezenet1_1 photos/ --weights squeezenet.safetensors \\
            --layers features.9,features.12 --class-names imagenet.txt --out squeezenet.crp
        torchrun --nproc-per-node 4 -m crp mine torchvision:resnet18 photos/ --weights DEFAULT --out resnet18.crp
    """
    # Makes modules in the current folder importable, as `python -m` does.
    sys.path.append(os.getcwd())
    from crp.attribution.starts import Start
    from crp.mining import mine as run
    from crp.sources.fitting import pick_device
    from crp.sources.kinds import kinds_named, layers_named
    from crp.sources.plan import plan_mining
    from crp.sources.provenance import origin

    distributed = "TORCHELASTIC_RUN_ID" in os.environ
    first = not distributed or os.environ["RANK"] == "0"
    device = pick_device(given["device"], place=int(os.environ["LOCAL_RANK"]) if distributed else 0)
    shape = {name: given[name] for name in ("size", "crop", "mean", "std")}
    told = {name: given[name] for name in ("weights", "layers", "targets", "output", "class_names", "preprocessing")}
    chosen = told["layers"] or layers_named(given["concept"]) or None
    drawn = {"shown": given["show_channels"] or (), "limits": given["show_limits"]}
    plan = plan_mining(model, data, settings=shape, **drawn, **{**told, "layers": chosen})
    start = {"words": told["targets"], "outputs": plan.outputs} if isinstance(plan.targets, Start) else None
    for note in plan.notes if first else ():
        click.echo(note, err=True)
    if first and (note := _cores(device.type, given["threads"], distributed or given["shard"] is not None)):
        click.echo(note, err=True)
    decides = {**told, **shape, **{name: given[name] for name in _DECIDING}}
    same = ("block_size", "workers", "precision", "threads", "skip_bad", "extend", "shard", "checkpoint")
    library = run(
        plan.model.to(device),
        plan.data,
        layers=plan.layers,
        path=given["out"],
        composite=given["rules"],
        concept=kinds_named(given["concept"], plan.layers),
        targets=plan.targets,
        k=given["references"],
        class_references=given["class_references"],
        vectors=given["vectors"],
        patches=given["patches"],
        patches_now=given["patches_now"],
        device=device,
        class_names=plan.class_names,
        preprocessing=plan.preprocessing,
        probabilities=given["probabilities"],
        source=origin(model, data, given["weights"], options.command_line("mine", [model, data], decides), start),
        distributed=distributed,
        overwrite=given["overwrite"],
        restart=given["restart"],
        **{name: given[name] for name in same},
    )
    if library is None:
        merge = shlex.join(["crp", "merge", given["out"]])
        click.echo(f"Shard {'/'.join(map(str, given['shard']))} is done. When all are done:  {merge}")
    elif first:
        click.echo(f"Library: {library.path}")
        click.echo(f"Next:    {options.next_command(library, plan.data, model)}")


def _cores(device: str, threads: int | None, shared: bool) -> str | None:
    """Say how to use the cores that one process leaves idle."""
    from crp.mining.settings import THREADS

    cores, threads = os.cpu_count() or 1, threads or THREADS
    if device != "cpu" or shared or cores < 2 * threads:
        return None
    return (
        f"Mining uses {threads} of {cores} cores; `torchrun --nproc-per-node {cores // threads} -m crp mine ...` uses "
        "all of them and makes the same library."
    )
