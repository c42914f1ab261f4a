"""`crp merge`: joins the shards of a mining run into a library."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from crp.cli import options
from crp.files import user_path


@click.command(short_help="Join the shards of a mining run into a library.")
@click.argument("library")
@click.argument("work", nargs=-1)
@click.option("--model", metavar="MODEL", help="The mined model, named as for `crp mine`.")
@options.weights
@click.option("--data", metavar="DATA", help="The mined data, named as for `crp mine`.")
@click.option("--trust", is_flag=True, help="Run the code that the shards name. Only for folders that you trust.")
@options.patches_now
@options.concept
@options.workers
@options.device
@options.skip_bad
@options.checkpoint
@options.overwrite
def merge(library: str, work: tuple[str, ...], **given: Any) -> None:
    """Join the results of all runs of `crp mine --out LIBRARY --shard i/n` into LIBRARY.

    The runs wrote their results to the folder LIBRARY.partial. WORK names such folders from other machines. Model and
    data are those that the shards name; if they are code, give them again or trust the folder.

    \b
    Example:
        crp merge resnet18.crp
        crp merge resnet18.crp node1/resnet18.crp.partial node2/resnet18.crp.partial
    """
    # Makes modules in the current folder importable, as `python -m` does.
    sys.path.append(os.getcwd())
    from crp.media.any_preprocessing import preprocessing_from
    from crp.mining.durable.merging import merge as run
    from crp.mining.durable.merging import shard_identity
    from crp.sources.fitting import pick_device
    from crp.sources.kinds import kinds_named
    from crp.sources.mined_starts import rule_of
    from crp.sources.provenance import named_data, named_model

    device = pick_device(given["device"])
    manifest = shard_identity(user_path(library), [user_path(other) for other in work])["manifest"]
    owner, source, stored = f"folder '{library}.partial'", manifest["source"], manifest["preprocessing"]
    trust = given["trust"]
    mined_data = named_data(
        source,
        owner,
        data=given["data"],
        preprocessing=preprocessing_from(stored) if stored is not None else None,
        class_names=manifest["class_names"],
        trust=trust,
    )
    made = run(
        named_model(manifest, owner, model=given["model"], weights=given["weights"], trust=trust).to(device),
        mined_data,
        path=library,
        others=work,
        targets=rule_of(manifest, mined_data),
        concept=kinds_named(given["concept"], [layer["name"] for layer in manifest["layers"]]),
        device=device,
        **{name: given[name] for name in ("patches_now", "workers", "skip_bad", "checkpoint", "overwrite")},
    )
    click.echo(f"Library: {made.path}")
    model = given["model"] or (source or {}).get("model")
    click.echo(f"Next:    {options.next_command(made, mined_data, model)}")
