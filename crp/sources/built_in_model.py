"""The built-in models: `demo` or `demo:cnn`, the convolutional one for scenes, `demo:vit`, and those of `KINDS`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from crp.demo import ObjectScenes, demo_model
from crp.demo.demo_kinds import KIND_OF
from crp.demo.painting import SIZE
from crp.errors import InputError
from crp.media.any_preprocessing import AnyPreprocessing
from crp.preprocessing import Preprocessing
from crp.sources.model_family import DEFAULT_WEIGHTS, ModelFamily
from crp.sources.weights import put_weights, read_weights


def _load(name: str, weights: str | Path | None) -> nn.Module:
    if weights == DEFAULT_WEIGHTS:
        raise InputError(f"A built-in model has its own weights: leave out --weights {DEFAULT_WEIGHTS}.")
    model = demo_model(name or "cnn")
    if weights is not None:
        put_weights(model, read_weights(weights), weights)
    return model


def _preprocessing(name: str, weights: str | Path | None) -> AnyPreprocessing:
    known = _data(name).preprocessing
    return replace(known, size=SIZE, crop=SIZE) if isinstance(known, Preprocessing) else known


def _class_names(name: str, weights: str | Path | None) -> tuple[str, ...]:
    return _data(name).class_names


def _data(name: str) -> Any:
    """Return what has the preprocessing and class names of a network's inputs; a detector has no row in `KINDS`."""
    if name == "detector":
        return ObjectScenes
    return KIND_OF[name or "cnn"].functions.data(name or "cnn", 1)


BUILT_IN = ModelFamily(_load, _preprocessing, _class_names)
