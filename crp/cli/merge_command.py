"""`crp merge`: what shards have mined into a library."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from crp.cli import options


@click.command(short_help="Make the library of what shards have mined.")
@click.argument("library")
@click.argument("work", nargs=-1)
@click.option("--model", metavar="MODEL", help="The model that was mined, named as for `crp mine`.")
@options.weights
@click.option("--data", metavar="DATA", help="The data that was mined, named as for `crp mine`.")
@click.option("--trust", is_flag=True, help="Run the code that the shards name. Only for folders you trust.")
@options.workers
@options.device
@options.skip_bad
@options.checkpoint
@options.overwrite
def merge(library: str, work: tuple[str, ...], **given: Any) -> None:
    """Make LIBRARY of what runs of `crp mine --out LIBRARY --shard i/n` have done.

    They left it in the folder LIBRARY.partial; WORK names folders of that kind that come from elsewhere. Model and data
    are those that the shards were told. Where these are code, they must be named again or trusted.

    \b
    Example:
        crp merge resnet18.crp
        crp merge resnet18.crp node1/resnet18.crp.partial node2/resnet18.crp.partial
    """
    # Functions in the folder one works in can be named, as with `python -m`.
    sys.path.append(os.getcwd())
    from crp.mining.durable.merging import merge as run
    from crp.mining.durable.merging import shard_identity
    from crp.preprocessing import Preprocessing
    from crp.sources.fitting import pick_device
    from crp.sources.provenance import named_data, named_model, selecting

    device = pick_device(given["device"])
    manifest = shard_identity(Path(library), [Path(other) for other in work])["manifest"]
    owner, source, stored = f"folder '{library}.partial'", manifest["source"], manifest["preprocessing"]
    trust = given["trust"]
    made = run(
        selecting(
            named_model(source, owner, model=given["model"], weights=given["weights"], trust=trust), manifest
        ).to(device),
        named_data(
            source,
            owner,
            data=given["data"],
            preprocessing=Preprocessing.from_json(stored) if stored is not None else None,
            class_names=manifest["class_names"],
            trust=trust,
        ),
        path=library,
        others=work,
        device=device,
        **{name: given[name] for name in ("workers", "skip_bad", "checkpoint", "overwrite")},
    )
    click.echo(f"Library: {made.path}")
    click.echo(f"Next:    crp atlas {made.path} PICTURE")
