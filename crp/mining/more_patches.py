"""Patches made after mining: on demand (`supply_patches`), or at once (`add_patches`)."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import nn

from crp.concepts import Kinds
from crp.errors import LibraryError
from crp.library.checksums import replace_with_checksum
from crp.library.locks import Lock
from crp.library.manifest import FILE, read_manifest
from crp.library.patch_segments import PatchKey
from crp.library.store import Library, check_library
from crp.models import PreparedModel, check_layouts, ready_model
from crp.preprocessing import shown_input

from .dataset import check_data, data_subject
from .input_boxes import positions_of
from .mined_model import model_subject
from .patch_filling import fill
from .patch_maker import TOGETHER, PatchMaker
from .patch_requests import Request
from .runtime import surroundings
from .settings import CHANNELS, CHECKPOINT
from .targets import TargetRule, rule_name

if TYPE_CHECKING:
    # zennit is loaded by crp.attribution alone, which prepares torchvision for it
    from zennit.core import Composite

# A progress bar is shown for more patches than this.
_MANY = 64


@dataclass(frozen=True)
class Supply:
    """Makes patches of a library when they are needed.

    Attributes
    ----------
    maker
        Makes the patches.
    threads
        Number of threads, on which the last bits depend.
    progress
        Whether to show a progress bar if there are many.
    """

    maker: PatchMaker
    threads: int
    progress: bool = True

    def make(self, library: Library, wanted: Mapping[str, Sequence[PatchKey]]) -> None:
        """Make patches, by layer, and add them to the library.

        Several processes may do so at the same time; threads take turns.
        """
        files = {layer: library.patch_files(layer) for layer in wanted}
        progress = self.progress and sum(map(len, wanted.values())) > _MANY
        try:
            with surroundings(self.threads):
                check_same(library)
                fill(self.maker, files, wanted, chosen=_rotated, every=CHECKPOINT, progress=progress)
        except KeyboardInterrupt as interruption:
            interruption.add_note(
                f"Patches that have been made are kept in '{library.path}'; the same call or command continues."
            )
            raise
        finally:
            settle(library, wanted)


def settle(library: Library, layers: Iterable[str]) -> None:
    """Write the tables of layers that have all their patches, and join segments of others if there are many.

    Raises
    ------
    LibraryError
        If another library has taken the place of this one.
    """
    try:
        lock = Lock(library.path / FILE, wait=True)
    except OSError:
        return  # a library that cannot be written
    try:
        check_same(library)
        for layer in layers:
            every = range(library.limits(layer).concepts)
            library.patch_files(layer).settle(partial(replace_with_checksum, library.path), every)
    finally:
        lock.close()


def check_same(library: Library) -> None:
    """Refuse to add patches to a library that has taken the place of the one that was opened.

    Raises
    ------
    LibraryError
    """
    if read_manifest(library.path) != library.manifest:
        raise LibraryError(f"'{library.path}' has been replaced by another library: open it again.")


def _rotated(groups: list[list[Request]]) -> list[list[Request]]:
    """Return the groups from a place of this process on, so that several processes rarely make the same patches."""
    place = random.Random(os.getpid()).randrange(len(groups) or 1)
    return groups[place:] + groups[:place]


def supply_patches(
    library: Library,
    model: nn.Module | PreparedModel,
    dataset: object,
    *,
    composite: Composite | str | None = None,
    concept: Kinds = CHANNELS,
    targets: TargetRule | None = None,
    device: str | torch.device | None = None,
    progress: bool = True,
) -> Library:
    """Let a library make patches when they are first needed: by `Library.patches`, explanations, pages and sites.

    Patches are stored in the library, if it can be written. It does not matter which of them are made first, or by
    which process: with all its patches, the library is the same, byte for byte, as if `mine` had made them.

    Parameters
    ----------
    library
        The library. What `mine` returns can make its patches already.
    model, dataset, composite, concept
        Those that were mined. They are compared with what the library stores about them.
    targets
        The function or start that was given to `mine`, if it started relevance. A library stores only its name (of a
        start also a fingerprint, which is compared).
    device
        Where to compute; by default where the model is.
    progress
        Whether to show a progress bar when many patches are made.

    Returns
    -------
    Library
        The same library.

    Raises
    ------
    LibraryError
        If model, data set, composite or kind of concept differ from those that were mined.
    """
    check_library(library)
    ready = ready_model(model, composite, library=library)
    ready.check(library, concept)
    settings = library.manifest["settings"]
    if not settings["patches"]:
        raise LibraryError(f"The library '{library.path}' was mined with patches=0: mine again with patches.")
    if settings["start"] != "logit" and (targets is None or rule_name(targets) != settings["targets"]):
        raise LibraryError(
            f"Relevance in the library '{library.path}' was started by the {settings['start']} "
            f"{settings['targets']!r}: pass that {settings['start']} as targets=."
        )
    with surroundings(settings["threads"]):
        data = data_subject(
            dataset, labelled=False, skip_bad=bool(library.manifest.get("skipped")), preprocessing=library.preprocessing
        )
        check_data(library, data)
        explained = {"targets": targets or "prediction", "classes": library.manifest["classes"]}
        subject = model_subject(ready, None, data.reader, library.layers, device, layouts=library.layouts, **explained)
        check_layouts(library, subject.layouts, concept)
        maker = PatchMaker(
            subject.replica,
            targets if settings["start"] != "logit" else None,
            concept,
            data.reader,
            subject.layouts,
            positions_of(ready.model, data.reader.like, subject.layouts),
            partial(shown_input, preprocessing=library.preprocessing),
            settings["patch_size"],
            min(TOGETHER, settings["block_size"] or TOGETHER),  # 0: not known
        )
    library.supply, library.samples = Supply(maker, settings["threads"], progress), dataset
    return library


def add_patches(
    library: Library,
    model: nn.Module | PreparedModel,
    dataset: object,
    layer: str | None = None,
    concepts: Iterable[int] | None = None,
    *,
    composite: Composite | str | None = None,
    concept: Kinds = CHANNELS,
    targets: TargetRule | None = None,
    device: str | torch.device | None = None,
    progress: bool = True,
) -> None:
    """Make the patches that a library does not have yet, of all its concepts or of some, and store them in it.

    The order does not matter: with all its patches, the library is the same, byte for byte, as if `mine` had made them.
    After an interruption, the same call continues. Several processes may make patches of a library at the same time.

    Parameters
    ----------
    library, model, dataset, composite, concept, targets, device, progress
        As in `supply_patches`.
    layer
        One of the library's layers; by default all.
    concepts
        Ids of concepts; by default all of the layer.

    Raises
    ------
    InputError
        If there is no such layer or concept.
    LibraryError
        If model, data set, composite or kind of concept differ from those that were mined, or the library cannot be
        written.
    """
    check_library(library)
    layers = library.layers if layer is None else (layer,)
    ids = {one: library.concept_ids(one, range(library.limits(one).concepts) if concepts is None else concepts)
           for one in layers}  # fmt: skip
    given = {"composite": composite, "concept": concept, "targets": targets, "device": device, "progress": progress}
    supply_patches(library, model, dataset, **given)
    library.make_patches({one: library.patch_files(one).keys(ids[one]) for one in layers})
    settle(library, layers)
