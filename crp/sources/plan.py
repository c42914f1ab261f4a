"""A plan for `crp.mine`, made from the names of a model and a data set and some settings."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from crp.attribution.starts import Start
from crp.class_names import is_expression
from crp.errors import InputError, listed
from crp.files import user_path
from crp.media.any_preprocessing import AnyPreprocessing, preprocessing_from
from crp.media.medium import Medium
from crp.preprocessing import Preprocessing
from crp.sources.data import load_data
from crp.sources.fitting import default_layers, matching_layers, number_of_classes
from crp.sources.mined_starts import named_start
from crp.sources.model_family import DEFAULT_WEIGHTS
from crp.sources.named_models import family_of, load_model
from crp.sources.names import read_class_names


@dataclass(frozen=True)
class MiningPlan:
    """Model, data and settings that fit together, as arguments of `crp.mine`.

    `outputs` is the number of the model's outputs; `notes` are sentences about choices that were made by default.
    """

    model: nn.Module
    data: Any
    layers: tuple[str, ...]
    targets: str | Callable[..., Any] | Start
    outputs: int
    class_names: tuple[str, ...] | None
    preprocessing: AnyPreprocessing | None
    notes: tuple[str, ...]


def plan_mining(
    model: str,
    data: str,
    *,
    weights: str | None = None,
    layers: Sequence[str] | None = None,
    targets: str | None = None,
    output: str | int | None = None,
    class_names: str | None = None,
    preprocessing: str | None = None,
    settings: Mapping[str, Any] | None = None,
    shown: Sequence[str] = (),
    limits: Sequence[float] | None = None,
) -> MiningPlan:
    """Load model and data, run the model on the first sample, and choose what was not given.

    Parameters
    ----------
    model, weights, data
        As in `load_model` and `load_data`.
    layers
        Names or patterns (see `matching_layers`); by default those of `default_layers`.
    targets
        "label", "prediction", or "top3" and the like; by default the rule of the data set (`crp.mining.ObjectSamples`),
        or the label, if the data have labels. An expression of classes ("octagon - disc") becomes a start.
    output
        Name or index of the part of the model's output to explain (`crp.select_output`); by default all of it.
    class_names
        A file (see `read_class_names`). By default those that come with the model (with weights="DEFAULT", or in an
        "hf:FOLDER"), or else the data set's own, if their number is that of the model's classes.
    preprocessing, settings
        A JSON file, and single entries of `Preprocessing`, which take precedence.
    shown, limits
        Of images with any channels and values (`Medium.image`): the channels that are drawn, by name or number, and the
        values drawn as black and as full colour. They take precedence over those of the file.

    Raises
    ------
    InputError, ModelError
        If an argument is wrong, or they do not fit together.
    """
    notes = []
    names = _names(model, weights, class_names)
    family, _ = family_of(model)
    if family is not None and family.random and weights is None:
        raise InputError(
            f"Without weights the model '{model}' is random; give --weights FILE, or --weights {DEFAULT_WEIGHTS} for "
            f"{model.partition(':')[0]}'s own."
        )
    network = load_model(model, weights, output=output)
    how = preprocessing_for(model, weights, preprocessing, settings, shown, limits)
    samples = load_data(data, how, class_names=names)
    if (shown or limits is not None) and samples.preprocessing != how:
        raise InputError(
            f"The data '{data}' say themselves what is drawn of them: omit --show-channels and --show-limits."
        )
    first = samples[0][0] if samples.labelled else samples[0]
    if not isinstance(first, Tensor):
        raise InputError(
            f"'{samples.sample_name(0)}' of '{data}' is a {type(first).__name__}; a float tensor is needed."
        )
    if isinstance(samples.preprocessing, Medium):
        samples.preprocessing.to_picture(first)  # a channel that is not there is found before mining
    name = f"'{samples.sample_name(0)}'"
    rule = getattr(samples, "targets", None) if targets is None else None
    classes = number_of_classes(network, first, name) if rule is None else len(samples.class_names or ())
    if rule is not None:
        targets = rule
        notes.append("Each object of a sample is explained in its own mask or box, as the data say.")
    elif targets is None:
        targets = "label" if samples.labelled else "prediction"
        notes.append(f"The {targets} of each sample is explained.")
    elif targets == "label" and not samples.labelled:
        raise InputError(f"The data '{data}' have no labels to explain; give --targets prediction.")
    names = samples.class_names
    if names is not None and len(names) != classes:
        if class_names is not None or targets == "label":
            raise InputError(
                f"There are {len(names)} class names ({class_names or data}), but the model has {classes} classes; "
                "name all of them with --class-names FILE, or explain predictions with --targets prediction."
            )
        names = None
    if layers:
        chosen = matching_layers(network, layers)
    else:
        chosen = default_layers(network, first)
        notes.append(
            f"Mined layers: {', '.join(chosen)}; the last of each stage, or evenly spaced blocks if there is only one "
            "stage (choose others with --layers; `crp layers` lists them)."
        )
    if samples.preprocessing is None:
        notes.append(
            "It is not known how pictures become these samples, so `crp atlas` cannot read picture files "
            "(give --size, --mean and --std, or --preprocessing)."
        )
    if isinstance(targets, str) and is_expression(targets):
        targets = named_start(targets, names or (), classes)
    return MiningPlan(network, samples, tuple(chosen), targets, classes, names, samples.preprocessing, tuple(notes))


def preprocessing_for(
    model: str,
    weights: str | None,
    file: str | None = None,
    settings: Mapping[str, Any] | None = None,
    shown: Sequence[str] = (),
    limits: Sequence[float] | None = None,
) -> AnyPreprocessing | None:
    """Return the preprocessing for a model: the given settings on top of those that the model is known to need.

    torchvision's classifiers need ImageNet's (with weights="DEFAULT" that of these weights), timm's what timm evaluates
    them with, and an "hf:FOLDER" model what its processor does. Nothing is known about code: the result is None if
    nothing is given. A `size` without a `crop` also crops the centre square of that
    size, so that all samples have the same shape. With `shown` or `limits`, files hold images of any channels and
    values (`Medium.image`).

    Raises
    ------
    InputError
        If the file is missing or does not hold a preprocessing, or a value is out of range.
    """
    settings = {name: value for name, value in (settings or {}).items() if value is not None}
    known = _from_file(user_path(file)) if file is not None else _known_preprocessing(model, weights)
    if shown or limits is not None:
        known = _drawn(known, file or model, shown, limits)
    if not settings:
        return known
    if isinstance(known, Medium):
        named, verb = listed([f"--{name}" for name in settings]), "is" if len(settings) == 1 else "are"
        what = f"'{file}' describes" if file else "--show-channels and --show-limits are for"
        raise InputError(f"{named} {verb} for pictures, and {what} inputs of the kind '{known.kind}'.")
    if "size" in settings and "crop" not in settings:
        settings["crop"] = settings["size"] if isinstance(settings["size"], int) else None
    return replace(known or Preprocessing(), **settings)


def _drawn(known: AnyPreprocessing | None, of: str, shown: Sequence[str], limits: Sequence[float] | None) -> Medium:
    """Return images of any channels, with the channels and limits that are drawn."""
    known = Medium.image() if known is None else known
    if not isinstance(known, Medium) or known.kind != "image":
        what = f"an input of the kind '{known.kind}'" if isinstance(known, Medium) else "pictures"
        raise InputError(
            f"--show-channels and --show-limits are for images with other channels or values, and '{of}' reads {what}."
        )
    chosen = {"limits": known.limits if limits is None else limits, "shown": known.shown}
    if shown:
        chosen["shown"] = [int(one) if one.isdecimal() and one not in known.channels else one for one in shown]
    return replace(known, **chosen)


def _known_preprocessing(model: str, weights: str | None) -> Preprocessing | None:
    family, name = family_of(model)
    return None if family is None else family.preprocessing(name, weights)


def _names(model: str, weights: str | None, file: str | None) -> tuple[str, ...] | None:
    if file is not None:
        return read_class_names(file)
    family, name = family_of(model)
    return None if family is None else family.class_names(name, weights)


def _from_file(path: Path) -> AnyPreprocessing:
    try:
        return preprocessing_from(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise InputError(f"The preprocessing '{path}' cannot be read: {error.strerror}.") from None
    except InputError as error:
        raise InputError(f"The file '{path}' does not hold a preprocessing: {error}") from None
    except ValueError as error:
        raise InputError(f"The preprocessing '{path}' is not JSON ({error}).") from None
