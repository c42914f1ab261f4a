"""`add_patches`: patches of more concepts for a library that has been mined."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import nn

from crp.concepts import Kinds
from crp.errors import LibraryError
from crp.library.checksums import replace_with_checksum
from crp.library.patches import MODES, encoded
from crp.library.store import Library, check_library
from crp.models import PreparedModel, check_layouts, ready_model
from crp.preprocessing import shown_input

from .dataset import check_data, data_subject
from .input_boxes import positions_of
from .mined_model import model_subject
from .patch_maker import PatchMaker
from .patch_requests import requests
from .runtime import surroundings
from .settings import CHANNELS
from .targets import TargetRule, rule_name

if TYPE_CHECKING:
    # zennit is loaded by crp.attribution alone, which prepares torchvision for it
    from zennit.core import Composite


def add_patches(
    library: Library,
    model: nn.Module | PreparedModel,
    dataset: object,
    layer: str,
    concepts: Iterable[int],
    *,
    composite: Composite | str | None = None,
    concept: Kinds = CHANNELS,
    targets: TargetRule | None = None,
    device: str | torch.device | None = None,
    progress: bool = True,
) -> None:
    """Make patches of more concepts of a layer and store them in the library.

    Concepts that have patches are left unchanged. The order in which concepts are added does not matter: the library
    ends up the same, byte for byte. If two processes add to one layer at the same time, the library stays valid, but
    the patches of one of them are lost.

    Parameters
    ----------
    library
        The library.
    model, dataset, composite, concept
        Those that were mined. They are compared with what the library stores about them.
    layer
        One of the library's layers.
    concepts
        Ids of concepts.
    targets
        The function or start that was given to `mine`, if it started relevance. A library stores only its name (of a
        start also a fingerprint, which is compared).
    device
        Where to compute; by default where the model is.
    progress
        Whether to show a progress bar.

    Raises
    ------
    InputError
        If there is no such layer or concept.
    LibraryError
        If model, data set, composite or kind of concept differ from those that were mined, or the library cannot be
        written.
    """
    check_library(library)
    concepts = sorted(library.concept_ids(layer, concepts))
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
        explained["layouts"] = {layer: library.layout(layer)}
        subject = model_subject(ready, None, data.reader, [layer], device, **explained)
        check_layouts(library, subject.layouts, concept)
        stored = library.stored_patches(layer)
        missing = {layer: [concept for concept in concepts if concept not in stored]}
        references = {(layer, mode): library.references(layer, mode) for mode in MODES}
        maker = PatchMaker(
            subject.replica,
            targets if settings["start"] != "logit" else None,
            concept,
            data.reader,
            subject.layouts,
            positions_of(ready.model, data.reader.like, subject.layouts),
            partial(shown_input, preprocessing=library.preprocessing),
            settings["patch_size"],
            settings["block_size"],
        )
        made = maker.make(requests(references, missing, settings["patches"]), missing, progress=progress)
        replace_with_checksum(library.path, library.file(layer, "patches"), encoded({**stored, **made[layer]}))
