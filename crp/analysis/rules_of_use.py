"""Whether a model, such as the latest checkpoint, uses concepts as it should: `failures`, `lightning_callback`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from crp.analysis.differing import difference
from crp.concepts import ChannelConcept, Kinds
from crp.errors import InputError
from crp.extras import optional
from crp.library import Library
from crp.mining import mine
from crp.mining.targets import TargetRule, named_rule
from crp.models import rules_in

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.callbacks import Callback
    from zennit.core import Composite

_CHANNELS = ChannelConcept()


def failures(
    model: nn.Module,
    reference: Library,
    dataset: object,
    rules: Sequence[str],
    *,
    composite: Composite | None = None,
    concept: Kinds = _CHANNELS,
    targets: TargetRule | None = None,
    device: str | torch.device | None = None,
    progress: bool = False,
) -> list[str]:
    """Say which rules hold for a model: an empty list if none does.

    The model is mined with the settings of the reference library, into a folder that is removed afterwards, and
    compared with it (`difference`). The model may be another checkpoint or training: concepts are matched by what they
    respond to.

    Parameters
    ----------
    model
        The model; it is not changed.
    reference
        A library of an earlier model, mined with `vectors=True`.
    dataset
        The samples of the reference.
    rules
        Such as `"octagon uses conv5/37 > 5%"` (`LibraryDifference.holds`); concepts are those of the reference.
    composite, concept, targets
        As given to `crp.mine` for the reference, if they were not the defaults. A target rule that has a name is known.
    device
        Where to compute; by default where the model is.
    progress
        Whether to show progress bars.

    Returns
    -------
    list of str
        A sentence for each rule that holds.

    Raises
    ------
    InputError
        If a rule is not written like that, or the reference was mined with a composite or target rule that is not
        given. Both are said before mining.
    LibraryError
        If the samples are not those of the reference.

    Examples
    --------
    In a test: `assert failures(model, crp.open_library("scenes.crp"), data, ["octagon uses conv5/37 > 5%"]) == []`.
    """
    settings = reference.manifest["settings"]
    if composite is None and reference.manifest["composite"]["reason"] == "given by the caller":
        raise InputError(f"The library '{reference.path}' was mined with a composite of the caller; pass it, too.")
    if targets is None and not named_rule(settings["targets"]):
        raise InputError(
            f"Targets of the library '{reference.path}' were chosen by {settings['targets']!r}; pass that as targets=."
        )
    same = difference(reference, reference)
    for rule in rules:
        same.holds(rule)
    with tempfile.TemporaryDirectory() as folder:
        mined = mine(
            model,
            dataset,
            layers=list(reference.layers),
            path=Path(folder) / "now.crp",
            composite=composite or rules_in(reference.manifest),
            concept=concept,
            targets=targets or settings["targets"],
            vectors=True,
            precision=settings["precision"] if settings["precision"] in ("bfloat16", "tf32") else None,
            relevance_score=settings["relevance_score"],
            activation_score=settings["activation_score"],
            block_size=settings["block_size"],
            threads=settings["threads"],
            device=device,
            patches=0,
            class_names=reference.class_names or None,
            preprocessing=reference.preprocessing,
            progress=progress,
        )
        found = difference(reference, mined)
        return [sentence for rule in rules if (sentence := found.holds(rule))]


def lightning_callback(
    reference: Library,
    dataset: object,
    rules: Sequence[str],
    *,
    network: Callable[[LightningModule], nn.Module] = lambda module: module,
    stop: bool = False,
    **given: Any,
) -> Callback:
    """Make a callback of Lightning that checks rules after every validation.

    It logs the number of rules that hold as `concept_failures`, by which checkpoints can be chosen, and keeps the
    sentences of the last check in its attribute `sentences`.

    Parameters
    ----------
    reference, dataset, rules
        As in `failures`.
    network
        From the module that is trained to the network whose layers have the names of the reference, as
        `lambda module: module.net`.
    stop
        Whether to end the training when a rule holds.
    given
        Further arguments of `failures`.

    Raises
    ------
    InputError
        If Lightning is not installed.
    """
    callbacks = optional("lightning.pytorch.callbacks", "lightning", "The callback", extra=None)

    class ConceptRules(callbacks.Callback):
        """Checks after every validation that the network uses concepts as it should."""

        sentences: list[str] = []  # noqa: RUF012  (replaced, never changed)

        def on_validation_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
            """Mine the network as it is now."""
            if trainer.sanity_checking:
                return
            self.sentences = failures(network(module), reference, dataset, rules, **given)
            module.log("concept_failures", float(len(self.sentences)))
            trainer.should_stop = trainer.should_stop or (stop and bool(self.sentences))

    return ConceptRules()
