"""timm's classifiers, as `timm:NAME` or `timm:NAME.TAG`. Nothing is downloaded."""

from __future__ import annotations

import math
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from crp.compat import import_zennit_safely
from crp.errors import InputError, nearest
from crp.extras import optional
from crp.preprocessing import Preprocessing
from crp.sources.model_family import DEFAULT_WEIGHTS, ModelFamily, with_weights


def _timm() -> ModuleType:
    import_zennit_safely()  # timm imports torchvision
    return optional("timm", "timm", "A model 'timm:NAME'", "timm")


def _known(name: str) -> ModuleType:
    """Return timm, if it has such a model. Names of places on a hub or of folders, which timm also takes, are none."""
    timm = _timm()
    architecture, _, tag = name.partition(".")
    if architecture not in timm.list_models():
        raise InputError(f"timm has no model '{architecture}'; {nearest(architecture, timm.list_models())}")
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        raise InputError(f"timm has no weights '{tag}' of '{architecture}'; {nearest(tag, tags)}")
    return timm


def _load(name: str, weights: str | Path | None) -> nn.Module:
    timm = _known(name)
    if weights == DEFAULT_WEIGHTS:
        return timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"file": str(_cached(name))})
    return with_weights(lambda **options: timm.create_model(name, pretrained=False, **options), weights)


def _config(name: str) -> Any:
    """Return timm's configuration of a model's weights."""
    return _known(name).get_pretrained_cfg(name)


def _cached(name: str) -> Path:
    """Find the weights that timm has downloaded before.

    Raises
    ------
    InputError
        If it has not; says how to download them.
    """
    from huggingface_hub import try_to_load_from_cache

    config = _config(name)
    names = [config.hf_hub_filename] if config.hf_hub_filename else ["model.safetensors", "pytorch_model.bin"]
    repository, _, revision = (config.hf_hub_id or "").partition("@")
    found = [try_to_load_from_cache(repository, file, revision=revision or None) for file in names if repository]
    if config.url:
        found.append(Path(torch.hub.get_dir()) / "checkpoints" / config.url.rpartition("/")[2])
    for path in found:
        if isinstance(path, str | Path) and Path(path).is_file():
            return Path(path)
    command = f"python -c \"import timm; timm.create_model('{name}', pretrained=True)\""
    raise InputError(
        f"timm has not downloaded the weights of '{name}'; give --weights FILE, or download them with  {command}"
    )


def _preprocessing(name: str, weights: str | Path | None) -> Preprocessing:
    """Return the preprocessing with which timm evaluates the model (`timm.data.create_transform`)."""
    config = _config(name)
    channels, *sides = config.input_size
    resized = tuple(math.floor(side / config.crop_pct) for side in sides)
    square = sides[0] == sides[1]
    known = config.crop_mode == "squash" or (config.crop_mode == "center" and square)
    if not known or any(side < crop for side, crop in zip(resized, sides, strict=True)):  # would be padded
        raise InputError(
            f"timm prepares pictures for '{name}' in a way that is not supported (crop mode '{config.crop_mode}', "
            f"{' x '.join(map(str, resized))} pixels cropped to {' x '.join(map(str, sides))}); give --preprocessing "
            "FILE."
        )
    return Preprocessing(
        size=resized if config.crop_mode == "squash" else resized[0],
        crop=sides[0] if square else tuple(sides),
        mean=tuple(config.mean),
        std=tuple(config.std),
        mode="L" if channels == 1 else "RGB",
        interpolation=config.interpolation,
    )


def _class_names(name: str, weights: str | Path | None) -> tuple[str, ...] | None:
    """Return the names of ImageNet's classes, if timm's own weights have them."""
    if _known(name) and weights != DEFAULT_WEIGHTS:
        return None
    from timm.data import ImageNetInfo, infer_imagenet_subset

    config = _config(name)
    if config.label_names:
        return tuple(config.label_names)
    subset = infer_imagenet_subset(config.to_dict())
    return None if subset is None else tuple(ImageNetInfo(subset).label_descriptions())


TIMM = ModelFamily(_load, _preprocessing, _class_names, random=True)
