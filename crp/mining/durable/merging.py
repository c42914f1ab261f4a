"""`merge`: the library from what shards have computed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from crp.concepts import Kinds, Layout
from crp.errors import InputError, LibraryError
from crp.files import user_path
from crp.library.store import Library
from crp.media.any_preprocessing import preprocessing_from
from crp.mining.pipeline import mine
from crp.mining.settings import CHANNELS, CHECKPOINT
from crp.mining.targets import TargetRule, named_rule
from crp.models import rules_in

from .checkpoints import blocks_of, read_parts
from .spans import difference
from .work import PARTS, SURVEYED, difference_of, gather, stored_identity, work_folder

if TYPE_CHECKING:
    import torch

    # zennit is loaded by crp.attribution alone, which prepares torchvision for it
    from zennit.core import Composite


def merge(
    model: nn.Module,
    dataset: object,
    *,
    path: str | os.PathLike[str],
    others: Sequence[str | os.PathLike[str]] = (),
    composite: Composite | str | None = None,
    concept: Kinds = CHANNELS,
    targets: TargetRule | None = None,
    patches_now: str | None = None,
    workers: int = 0,
    device: str | torch.device | None = None,
    skip_bad: bool = False,
    checkpoint: float = CHECKPOINT,
    progress: bool = True,
    overwrite: bool = False,
) -> Library:
    """Make the library from what shards have computed: merge their parts, compute the last block.

    The settings are those of the shards. After an interruption, the same call resumes.

    Parameters
    ----------
    model, dataset, composite, concept
        Those that were given to the shards.
    path
        Folder of the library, as it was given to the shards.
    others
        Work folders (`NAME.partial`) of shards that ran elsewhere, in any order. They are not changed.
    targets
        The target rule if it is a function; otherwise the rule of the shards is used.
    patches_now, workers, device, skip_bad, checkpoint, progress, overwrite
        As in `mine`.

    Returns
    -------
    Library
        The opened library.

    Raises
    ------
    LibraryError
        If there is nothing to merge, the folders do not belong together, or samples are missing.
    """
    path, others = user_path(path), [user_path(other) for other in others]
    identity = _gathered(path, others)
    manifest = identity["manifest"]
    settings = manifest["settings"]
    if targets is None:
        targets = settings["targets"]
        if not named_rule(targets):
            kind = "start" if settings["start"] == "start" else "function"
            raise InputError(f"The shards used the target rule {targets!r}: pass that {kind} as targets=.")
    stored = manifest["preprocessing"]
    if composite is None:
        composite = rules_in(manifest)
    return mine(
        model,
        dataset,
        path=path,
        layers=[layer["name"] for layer in manifest["layers"]],
        composite=composite,
        concept=concept,
        layouts={layer["name"]: Layout.from_description(layer) for layer in manifest["layers"]},
        targets=targets,
        precision=settings["precision"] if settings["precision"] != manifest["data"]["dtype"] else None,
        **{name: settings[name] for name in ("k", "top", "class_references", "vectors", "patches")},
        **{name: settings[name] for name in ("block_size", "threads")},
        **{name: settings[name] for name in ("relevance_score", "activation_score")},
        patches_now=patches_now if identity["patch_concepts"] is None else None,
        patch_concepts=identity["patch_concepts"],
        class_names=manifest.get("output_names", manifest["class_names"]) or None,
        probabilities=manifest.get("probabilities"),
        preprocessing=preprocessing_from(stored) if stored is not None else None,
        workers=workers,
        device=device,
        skip_bad=skip_bad,
        checkpoint=checkpoint,
        progress=progress,
        overwrite=overwrite,
    )


def shard_identity(path: Path, others: Sequence[Path] = ()) -> dict[str, Any]:
    """Read what the shards mined from the first of their work folders.

    Raises
    ------
    LibraryError
        If none of them is a work folder.
    """
    for folder in (work_folder(path), *others):
        if (identity := stored_identity(folder)) is not None:
            return identity
    raise LibraryError(f"There is nothing to merge: '{work_folder(path)}' is not a work folder of `crp mine`.")


def _gathered(path: Path, others: Sequence[Path]) -> dict[str, Any]:
    """Copy the parts of other folders into the library's own, after checking that nothing is missing."""
    folder, identity = work_folder(path), shard_identity(path, others)
    for other in others:
        found = stored_identity(other)
        if found is None:
            raise LibraryError(f"'{other}' is not a work folder of `crp mine`.")
        if differs := difference_of(identity, found, ("manifest.source",)):
            raise LibraryError(f"'{other}' does not belong to the other shards: {differs}.")
    if (folder / SURVEYED).exists():
        return identity
    parts = [part for place in (folder, *others) for part in read_parts(place / PARTS)]
    block_size = identity["manifest"]["settings"]["block_size"]
    missing = difference([(0, identity["manifest"]["data"]["length"] // block_size)], blocks_of(parts))
    if missing:
        start, stop = missing[0]
        raise LibraryError(
            f"Samples {start * block_size} to {stop * block_size - 1} have not been mined yet: run the missing shard, "
            "or the command without --shard, which mines the rest."
        )
    gather(folder, others)
    return identity
