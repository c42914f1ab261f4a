"""A model named by a string."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from crp.attribution import select_output
from crp.errors import InputError, ModelError
from crp.files import expanded
from crp.models import check_weights_finite
from crp.sources.built_in_model import BUILT_IN
from crp.sources.model_family import DEFAULT_WEIGHTS, ModelFamily
from crp.sources.python import called, named_object
from crp.sources.timm_models import TIMM
from crp.sources.torchvision_models import TORCHVISION, classifiers
from crp.sources.transformers_models import HF, TRANSFORMERS
from crp.sources.weights import put_weights, read_weights

FAMILIES = {
    "torchvision:": TORCHVISION,
    "timm:": TIMM,
    HF: TRANSFORMERS,
    "demo": BUILT_IN,
    "demo:": BUILT_IN,
}
FORMS = (
    "'torchvision:NAME', 'timm:NAME', 'hf:FOLDER', 'demo', 'demo:vit', 'package.module:function' or "
    "'file.py:function'"
)


def load_model(spec: str, weights: str | Path | None = None, *, output: str | int | None = None) -> nn.Module:
    """Load a model, in evaluation mode, on the CPU.

    Parameters
    ----------
    spec
        "torchvision:NAME" or "timm:NAME" (a classifier of these packages), "hf:FOLDER" (an image classifier that
        transformers saved), "demo" and "demo:vit" (the built-in models), "package.module:function" or
        "file.py:function" (a function without arguments that returns a `torch.nn.Module`, or the module itself). Code
        of the last two kinds is executed.
    weights
        A state dict, .safetensors or .pt/.pth (read without running code; see `read_weights`), or "DEFAULT" for the
        weights that torchvision recommends (downloaded once) or that timm has downloaded before. By default the model
        keeps its initial weights, which are random for torchvision and timm. The number of classes of their models is
        that of the weights file.
    output
        Name or index of the part of the model's output to explain (`crp.select_output`); by default all of it, or the
        logits of an "hf:FOLDER" model.

    Raises
    ------
    InputError
        If there is no such model, its package is not installed, or the weights do not fit.
    ModelError
        If weights are NaN or infinite, or the function does not return a `torch.nn.Module`.
    """
    spec = expanded(spec)
    family, name = family_of(spec)
    if family is not None:
        model = family.load(name, weights)
        output = family.output if output is None else output
    elif weights == DEFAULT_WEIGHTS:
        raise InputError(
            f"--weights {DEFAULT_WEIGHTS} is for 'torchvision:NAME' and 'timm:NAME' models, but the model is '{spec}'; "
            "give a weights file."
        )
    else:
        model = _python_model(spec)
        if weights is not None:
            put_weights(model, read_weights(weights), weights)
    check_weights_finite(model)
    model = model.eval()
    return model if output is None else select_output(model, output)


def family_of(spec: str) -> tuple[ModelFamily | None, str]:
    """Return the family of a named model and the rest of the name; None for code."""
    prefix, colon, name = spec.partition(":")
    family = FAMILIES.get(prefix + colon)
    return family, name if family is not None else spec


def runs_by_itself(spec: str) -> bool:
    """Return whether a name of a model refers to a known package or a built-in model, and not to other code."""
    return family_of(spec)[0] is not None


def _python_model(spec: str) -> nn.Module:
    if ":" not in spec:
        hint = f" (did you mean 'torchvision:{spec}'?)" if spec in classifiers() else ""
        raise InputError(f"The model '{spec}' is not {FORMS}{hint}.")
    named = named_object(spec)
    model = named if isinstance(named, nn.Module) else None
    if model is None and callable(named):
        model = called(spec, named)
    if not isinstance(model, nn.Module):
        found = type(named if model is None else model).__name__
        raise ModelError(
            f"'{spec}' gives a {found}; it must be a torch.nn.Module, or a function without arguments that returns one."
        )
    return model
