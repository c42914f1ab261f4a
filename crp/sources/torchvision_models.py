"""torchvision's classifiers, as `torchvision:NAME`."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.error import URLError

from torch import nn

from crp.compat import import_zennit_safely
from crp.errors import InputError, nearest
from crp.preprocessing import Preprocessing
from crp.sources.model_family import DEFAULT_WEIGHTS, ModelFamily, with_weights


def classifiers() -> list[str]:
    """List the names of torchvision's classifiers."""
    models = _models()
    return models.list_models(module=models)


def _models() -> ModuleType:
    import_zennit_safely()  # also makes PyPI's torchvision work beside a CPU build of torch
    try:
        import torchvision.models
    except ModuleNotFoundError as error:
        raise InputError(f"'torchvision:NAME' models need torchvision ({error}): pip install torchvision.") from None
    return torchvision.models


def _known(name: str) -> str:
    names = classifiers()
    if name not in names:
        raise InputError(f"torchvision has no classifier '{name}'; {nearest(name, names)}")
    return name


def _load(name: str, weights: str | Path | None) -> nn.Module:
    models, name = _models(), _known(name)
    if weights == DEFAULT_WEIGHTS:
        try:
            return models.get_model(name, weights=DEFAULT_WEIGHTS)
        except (URLError, OSError, RuntimeError) as error:
            raise InputError(
                f"torchvision's weights of '{name}' could not be downloaded ({error}); give --weights FILE."
            ) from error
    return with_weights(lambda **options: models.get_model(name, weights=None, **options), weights)


def _default_weights(name: str) -> Any:
    return _models().get_model_weights(_known(name)).DEFAULT


def _preprocessing(name: str, weights: str | Path | None) -> Preprocessing:
    """Return the preprocessing of torchvision's weights, or ImageNet's for a weights file."""
    if weights != DEFAULT_WEIGHTS:
        return Preprocessing.imagenet()
    transforms = _default_weights(name).transforms()
    return Preprocessing(
        size=transforms.resize_size[0],
        crop=transforms.crop_size[0],
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
        interpolation=transforms.interpolation.value,
    )


def _class_names(name: str, weights: str | Path | None) -> tuple[str, ...] | None:
    if _known(name) and weights == DEFAULT_WEIGHTS:
        return tuple(_default_weights(name).meta["categories"])
    return None


TORCHVISION = ModelFamily(_load, _preprocessing, _class_names, random=True)
