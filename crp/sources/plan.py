"""What is to be mined, worked out from a model, a data set and a few settings named on the command line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from crp.attribution import select_output
from crp.errors import InputError
from crp.preprocessing import Preprocessing
from crp.sources.data import load_data
from crp.sources.fitting import default_layer, matching_layers, number_of_classes
from crp.sources.named_models import (
    DEFAULT_WEIGHTS,
    DEMO,
    TORCHVISION,
    known_classifier,
    load_model,
    torchvision_weights,
)
from crp.sources.names import read_class_names


@dataclass(frozen=True)
class MiningPlan:
    """Model, data and settings that are known to go together, ready for `crp.mine`.

    `notes` are sentences about what was chosen because nothing was said.
    """

    model: nn.Module
    data: Any
    layers: tuple[str, ...]
    targets: str
    class_names: tuple[str, ...] | None
    preprocessing: Preprocessing | None
    notes: tuple[str, ...]


def plan_mining(
    model: str,
    data: str,
    *,
    weights: str | None = None,
    layers: Sequence[str] | None = None,
    targets: str | None = None,
    output: str | None = None,
    class_names: str | None = None,
    preprocessing: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> MiningPlan:
    """Load model and data, try the model on the first sample, and settle what was left open.

    Parameters
    ----------
    model, weights, data:
        As in `load_model` and `load_data`.
    layers:
        Names or patterns (`matching_layers`); None: the last convolutional stage.
    targets:
        "label", "prediction" or "top3" and the like; None: the label where the data has labels.
    output:
        Name or index of the part of the model's output to explain (`crp.select_output`); None: all of it.
    class_names:
        A file (`read_class_names`). Without it: those of torchvision's weights with weights="DEFAULT", else the data
        set's own if they are as many as the model has classes.
    preprocessing, settings:
        A JSON file, and single entries of `Preprocessing` that go before it.

    Raises
    ------
    InputError, ModelError
        When one is wrong by itself, or they do not go together.
    """
    notes = []
    if model.startswith(TORCHVISION) and known_classifier(model.removeprefix(TORCHVISION)) and weights is None:
        raise InputError(
            f"The model '{model}' has random weights as it is; give --weights FILE, "
            f"or --weights {DEFAULT_WEIGHTS} for torchvision's."
        )
    names = _names(model, weights, class_names)
    network = load_model(model, weights)
    if output is not None:
        network = select_output(network, int(output) if output.isdecimal() else output)
    samples = load_data(data, preprocessing_for(model, weights, preprocessing, settings), class_names=names)
    first = samples[0][0] if samples.labelled else samples[0]
    if not isinstance(first, Tensor):
        raise InputError(
            f"'{samples.sample_name(0)}' of '{data}' is a {type(first).__name__}; a float tensor is needed."
        )
    name = f"'{samples.sample_name(0)}'"
    classes = number_of_classes(network, first, name)
    if targets is None:
        targets = "label" if samples.labelled else "prediction"
        notes.append(f"Explaining the {targets} of each sample.")
    elif targets == "label" and not samples.labelled:
        raise InputError(f"The data '{data}' has no labels to explain; give --targets prediction.")
    names = samples.class_names
    if names is not None and len(names) != classes:
        if class_names is not None or targets == "label":
            raise InputError(
                f"There are {len(names)} class names ({class_names or data}), and the model has {classes} classes; "
                "name them all with --class-names FILE, or explain predictions with --targets prediction."
            )
        names = None
    if layers:
        chosen = matching_layers(network, layers)
    else:
        chosen = [default_layer(network, first, name)]
        notes.append(f"Mining layer '{chosen[0]}', the last convolutional stage (choose with --layers).")
    if samples.preprocessing is None:
        notes.append(
            "How pictures become these samples is not known, so `crp atlas` will not read picture files "
            "(say it with --size, --mean and --std, or --preprocessing)."
        )
    return MiningPlan(network, samples, tuple(chosen), targets, names, samples.preprocessing, tuple(notes))


def preprocessing_for(
    model: str, weights: str | None, file: str | None = None, settings: Mapping[str, Any] | None = None
) -> Preprocessing | None:
    """Return the preprocessing for a model: what was said, on top of what the model is known to want.

    torchvision's classifiers want ImageNet's (with weights="DEFAULT" exactly that of those weights); of other models
    nothing is known, and None is returned when nothing was said. A side given as `size` without a `crop` also crops the
    centre square of that side, so that all samples have one shape.

    Raises
    ------
    InputError
        When the file is missing or no preprocessing, or a value is out of its range.
    """
    settings = {name: value for name, value in (settings or {}).items() if value is not None}
    known = _from_file(Path(file)) if file is not None else _known_preprocessing(model, weights)
    if not settings:
        return known
    if "size" in settings and "crop" not in settings:
        settings["crop"] = settings["size"] if isinstance(settings["size"], int) else None
    return replace(known or Preprocessing(), **settings)


def _known_preprocessing(model: str, weights: str | None) -> Preprocessing | None:
    if model == DEMO:
        from crp.demo import Scenes
        from crp.demo.drawing import SIZE

        return replace(Scenes.preprocessing, size=SIZE, crop=SIZE)
    if not model.startswith(TORCHVISION):
        return None
    if weights != DEFAULT_WEIGHTS:
        return Preprocessing.imagenet()
    transforms = torchvision_weights(model.removeprefix(TORCHVISION)).transforms()
    return Preprocessing(
        size=transforms.resize_size[0],
        crop=transforms.crop_size[0],
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
        interpolation=transforms.interpolation.value,
    )


def _names(model: str, weights: str | None, file: str | None) -> tuple[str, ...] | None:
    if file is not None:
        return read_class_names(file)
    if model.startswith(TORCHVISION) and weights == DEFAULT_WEIGHTS:
        return tuple(torchvision_weights(model.removeprefix(TORCHVISION)).meta["categories"])
    if model == DEMO:
        from crp.demo import Scenes

        return Scenes.class_names
    return None


def _from_file(path: Path) -> Preprocessing:
    try:
        return Preprocessing.from_json(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise InputError(f"The preprocessing '{path}' cannot be read: {error.strerror}.") from None
    except InputError as error:
        raise InputError(f"The preprocessing '{path}' is not one: {error}") from None
    except ValueError as error:
        raise InputError(f"The preprocessing '{path}' is no JSON ({error}).") from None
