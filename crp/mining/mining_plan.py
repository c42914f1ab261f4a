"""The plan of one call of `mine`, made before the pass: model, data set, layers, patches, manifest, identity."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from crp.attribution.starts import Start
from crp.class_names import class_name
from crp.concepts import AnyKind, Layout, concept_names, kind_at
from crp.dataset_items import class_names_of
from crp.errors import InputError, listed
from crp.indices import concept_ids
from crp.library.fingerprints import value_fingerprint
from crp.library.known_outputs import KEY
from crp.library.patches import MODES
from crp.models import described_kind
from crp.preprocessing import Preprocessing, shown_input
from crp.same_model import measured_outputs

from .block_stream import several_labels
from .dataset import DataSubject, data_subject
from .estimation import Estimate, estimate
from .input_boxes import Positions, positions_of
from .mined_model import ModelSubject, model_subject
from .patch_maker import TOGETHER, PatchMaker
from .scores import Score
from .settings import PATCH_SIZE, SOUND_SIZE, Settings
from .survey import mean_sizes_of, sizes_of
from .tally import Tally, default_class_references
from .targets import TargetRule

if TYPE_CHECKING:
    # zennit is loaded by crp.attribution alone, which prepares torchvision for it
    from zennit.core import Composite

logger = logging.getLogger(__name__)

# What a manifest calls the kind of concept if layers have different ones.
SEVERAL_KINDS = "several kinds"


@dataclass(frozen=True)
class Shown:
    """How a library shows its samples and classes, and where they come from.

    `output_names` are the names of the model's outputs, if the only class of the library is a start. `probabilities` is
    how logits become probabilities of classes, if that is known.
    """

    class_names: Sequence[str] | None
    preprocessing: Preprocessing | None
    source: Mapping[str, Any] | None
    output_names: Sequence[str] | None = None
    probabilities: str | None = None


@dataclass(frozen=True)
class MiningPlan:
    """One call of `mine`, ready to run.

    Attributes
    ----------
    settings
        The options, the number of class references among them.
    subject, data
        The model and the data set.
    sizes, means
        Number of concepts of each layer, and of how many numbers their mean parts are made if these are kept.
    concepts
        By layer, the concepts whose patches are made now.
    positions
        Where each layer's positions lie in the input; empty without patches.
    manifest
        Manifest of the library, apart from the samples that will be skipped.
    identity
        The manifest and fingerprints of what it does not describe. An interrupted run of the same identity is resumed.
    preprocessing
        How samples are converted to pictures.
    """

    settings: Settings
    subject: ModelSubject
    data: DataSubject
    sizes: dict[str, int]
    means: dict[str, int]
    concepts: dict[str, list[int]]
    positions: dict[str, Positions]
    manifest: dict[str, Any]
    identity: dict[str, Any]
    preprocessing: Preprocessing | None

    def tally(self) -> Tally:
        """Return an empty tally for the pass over the data set."""
        settings = self.settings
        return Tally(self.sizes, self.subject.classes, settings.k, settings.top, settings.class_references, self.means)

    def estimate(self) -> Estimate:
        """Estimate time, memory and disk space."""
        settings = self.settings
        return estimate(
            len(self.data.reader),
            self.subject.classes,
            self.sizes,
            settings.k,
            {layer: len(MODES) * settings.patches * size for layer, size in self.sizes.items()},
            {layer: positions.windows for layer, positions in self.positions.items()},
            self.manifest["settings"]["patch_size"],
            class_references=settings.class_references,
            vectors=settings.vectors,
            now=sum(len(MODES) * settings.made_now * len(ids) for ids in self.concepts.values()),
        )

    def patch_maker(self) -> PatchMaker:
        """Return the maker of the patches."""
        settings = self.settings
        return PatchMaker(
            self.subject.replica,
            settings.targets if self.subject.start != "logit" else None,
            settings.concept,
            self.data.reader,
            self.subject.layouts,
            self.positions,
            partial(shown_input, preprocessing=self.preprocessing),
            self.manifest["settings"]["patch_size"],
            min(TOGETHER, settings.block_size),
        )


def plan_mining_run(
    model: nn.Module,
    dataset: object,
    layers: Sequence[str],
    composite: Composite | str | None,
    settings: Settings,
    patch_concepts: Mapping[str, Iterable[int]] | None,
    shown: Shown,
) -> MiningPlan:
    """Read the first samples, put rules on a copy of the model, and make the plan.

    Parameters
    ----------
    model, dataset, layers, composite, patch_concepts
        As in `crp.mine`.
    settings
        The checked options.
    shown
        Class names, preprocessing and source.

    Raises
    ------
    InputError
        If layers, class names or patch concepts do not fit the model, or samples cannot be shown as pictures.
    SampleError
        If one of the first samples cannot be used.
    ModelError
        If the model cannot be explained.
    """
    data = data_subject(
        dataset,
        labelled=settings.targets == "label",
        skip_bad=settings.skip_bad,
        preprocessing=shown.preprocessing,
    )
    if settings.patches:
        _check_pictures(data.reader.like, shown.preprocessing)
    names = shown.class_names
    subject = model_subject(
        model,
        composite,
        data.reader,
        layers,
        settings.device,
        settings.dtype,
        targets=settings.targets,
        classes=len(names) if names is not None and not isinstance(settings.targets, Start) else None,
        layouts=settings.layouts,
        in_batches=settings.block_size > 1,
    )
    count = subject.outputs if subject.start == "start" else subject.classes
    if names is not None and len(names) != count:
        raise InputError(f"There are {len(names)} class names, and the model has {count} classes.")
    if names is not None and settings.targets == "label":
        _check_order(dataset, names)
    if names is None:
        names = _names_in(dataset, count, settings.targets)
        shown = dataclasses.replace(shown, class_names=names)
    if subject.start == "start":
        known = [class_name(names or (), index, count) for index in range(count)]
        shown = dataclasses.replace(shown, class_names=(settings.targets.name(known),), output_names=names or ())
    if shown.probabilities is None and several_labels(data.reader):
        shown = dataclasses.replace(shown, probabilities="sigmoid")
    kinds = {layer: kind_at(layer, settings.concept) for layer in subject.layouts}
    sizes = sizes_of(kinds, subject.layouts)
    if settings.class_references is None:
        by_default = default_class_references(subject.classes, sum(sizes.values()))
        settings = dataclasses.replace(settings, class_references=by_default)
    concepts = _patch_concepts(sizes, patch_concepts, settings.patches)
    device = torch.device(settings.device).type if settings.device is not None else device_of(model)
    stored = {**settings.stored(data.data["dtype"], device), "concept": _together(kinds)}
    means = mean_sizes_of(kinds, subject.layouts)
    described_kinds = stored_kinds(kinds, subject.layouts)
    manifest = described(subject, data, sizes, settings.scores, stored, shown, described_kinds, means)
    identity = {
        "manifest": manifest,
        # rules with a name are in the manifest
        "composite": value_fingerprint(None if isinstance(composite, str) else composite),
        "concept": value_fingerprint(kinds),
        "targets": value_fingerprint(settings.targets),
        "patch_concepts": None if patch_concepts is None else concepts,
    }
    positions = positions_of(model, data.reader.like, subject.layouts) if settings.patches else {}
    return MiningPlan(
        settings, subject, data, sizes, means, concepts, positions, manifest, identity, shown.preprocessing
    )


def described(
    subject: ModelSubject,
    data: DataSubject,
    sizes: Mapping[str, int],
    scores: Mapping[str, Score],
    settings: Mapping[str, Any],
    shown: Shown,
    kinds: Mapping[str, Mapping[str, Any]],
    means: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Put together the manifest of a library (docs/library-format.md); `means` is None if it holds none."""
    names, preprocessing, source = shown.class_names, shown.preprocessing, shown.source
    return {
        "versions": {name: version(name) for name in ("crp-atlas", "torch", "zennit", "numpy", "Pillow")},
        "model": {**subject.model, KEY: measured_outputs(subject.replica.source, data.reader.like)},
        "data": data.data,
        "classes": subject.classes,
        "class_names": list(names) if names is not None else None,
        **({} if shown.output_names is None else {"output_names": list(shown.output_names)}),
        **({} if shown.probabilities is None else {"probabilities": shown.probabilities}),
        "layers": [
            {
                "name": layer,
                "concepts": size,
                **subject.layouts[layer].described(),
                **kinds[layer],
                **({} if means is None else {"means": means.get(layer, 0)}),
            }
            for layer, size in sizes.items()
        ],
        "composite": subject.composite,
        "preprocessing": preprocessing.to_json() if preprocessing is not None else None,
        "source": dict(source) if source is not None else None,
        "settings": {
            **settings,
            "patch_size": SOUND_SIZE if getattr(preprocessing, "kind", "") == "audio" else PATCH_SIZE,
            "start": subject.start,
            **{name: score.name for name, score in scores.items()},
        },
        "definitions": {name: score.definition for name, score in scores.items()},
    }


def stored_kinds(kinds: Mapping[str, AnyKind], layouts: Mapping[str, Layout]) -> dict[str, dict[str, Any]]:
    """Return what a manifest says of each layer's concepts: their kind, unless channels, and their names, if any."""
    found = {}
    for layer, kind in kinds.items():
        described, names = described_kind(kind), concept_names(kind, layouts[layer])
        found[layer] = {
            **({"concept": described} if "fingerprint" in described else {}),
            **({"names": list(names)} if names else {}),
        }
    return found


def _together(kinds: Mapping[str, AnyKind]) -> str:
    """Name the kind of all layers."""
    names = {type(kind).__name__ for kind in kinds.values()}
    return names.pop() if len(names) == 1 else SEVERAL_KINDS


def _names_in(dataset: object, classes: int, targets: TargetRule) -> tuple[str, ...] | None:
    """Return the data set's own names of the model's classes; None if it has none or other classes.

    Raises
    ------
    InputError
        If its labels are to be explained, and count other classes than the model's.
    """
    names = class_names_of(dataset)
    if names is None or len(names) == classes:
        return names
    if targets == "label":
        raise InputError(
            f"The data set has labels of {len(names)} classes ({listed(names, 3)}), and the model has {classes} "
            "classes: pass class_names=, or targets='prediction' to explain predictions."
        )
    return None


def _check_order(dataset: object, names: Sequence[str]) -> None:
    """Refuse names of classes that the data set's labels have in another order."""
    for label, name in enumerate(class_names_of(dataset) or ()):
        if name in names and (label >= len(names) or names[label] != name):
            raise InputError(
                f"Label {label} of the data set is {name!r}, which is class {list(names).index(name)} in class_names: "
                "bring the labels into the order of the model's classes."
            )


def device_of(model: nn.Module) -> str:
    """Return the type of the device that holds a model's parameters."""
    return next(model.parameters()).device.type


def _check_pictures(sample: Tensor, preprocessing: Preprocessing | None) -> None:
    if sample.ndim not in (2, 3, 4):
        shape = list(sample.shape)
        raise InputError(
            f"Samples of shape {shape} cannot be shown as pictures; pass patches=0 to mine without patches."
        )
    if isinstance(preprocessing, Preprocessing) and (said := preprocessing.out_of_range(sample)):
        logger.warning("Of the first sample: %s", said)
    shown_input(sample, preprocessing)  # raises here, before the pass, if the preprocessing does not fit the sample


def _patch_concepts(
    sizes: Mapping[str, int], chosen: Mapping[str, Iterable[int]] | None, patches: int
) -> dict[str, list[int]]:
    """Return the concepts to make patches of, by layer."""
    if not patches:
        return {layer: [] for layer in sizes}
    if chosen is None:
        return {layer: list(range(size)) for layer, size in sizes.items()}
    for layer in chosen:
        if layer not in sizes:
            raise InputError(f"patch_concepts names layer {layer!r}, which is not among the layers to mine.")
    return {
        layer: sorted(concept_ids(chosen[layer], size, f"layer {layer!r}")) if layer in chosen else []
        for layer, size in sizes.items()
    }
