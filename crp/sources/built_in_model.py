"""The built-in models: `demo` or `demo:cnn`, the convolutional one for scenes, `demo:vit`, and those of `KINDS`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from crp.demo import Scenes, demo_model
from crp.demo.demo_kinds import KINDS
from crp.demo.drawing import SIZE
from crp.errors import InputError
from crp.media.any_preprocessing import AnyPreprocessing
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
    if (name or "cnn") not in KINDS["scenes"].networks:
        return _data(name).preprocessing
    return replace(Scenes.preprocessing, size=SIZE, crop=SIZE)


def _class_names(name: str, weights: str | Path | None) -> tuple[str, ...]:
    return _data(name or "cnn").class_names


def _data(network: str) -> Any:
    kind = next(kind for kind in KINDS.values() if network in kind.networks)
    return kind.functions.data(network, 1)


BUILT_IN = ModelFamily(_load, _preprocessing, _class_names)
