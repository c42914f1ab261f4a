"""The built-in models: `demo` or `demo:cnn`, `demo:vit`, and for several objects `demo:segmenter`, `demo:detector`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import nn

from crp.demo import ObjectScenes, Scenes, demo_model
from crp.demo.painting import SIZE
from crp.errors import InputError
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


def _preprocessing(name: str, weights: str | Path | None) -> Preprocessing:
    return replace(_data(name).preprocessing, size=SIZE, crop=SIZE)


def _class_names(name: str, weights: str | Path | None) -> tuple[str, ...]:
    return _data(name).class_names


def _data(name: str) -> type[Scenes] | type[ObjectScenes]:
    return ObjectScenes if name in ("segmenter", "detector") else Scenes


BUILT_IN = ModelFamily(_load, _preprocessing, _class_names)
