"""A model named by a string."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.error import URLError

from torch import Tensor, nn

from crp.compat import import_zennit_safely
from crp.errors import InputError, ModelError, nearest
from crp.files import expanded
from crp.models import check_weights_finite
from crp.sources.python import called, named_object
from crp.sources.weights import put_weights, read_weights

TORCHVISION = "torchvision:"
DEMO = "demo"
DEFAULT_WEIGHTS = "DEFAULT"


def load_model(spec: str, weights: str | Path | None = None) -> nn.Module:
    """Load a model, in evaluation mode, on the CPU.

    Parameters
    ----------
    spec
        "torchvision:NAME" (a classifier of torchvision), "demo" or "demo:cnn" (the built-in convolutional network),
        "demo:vit" (the built-in vision transformer), "package.module:function" or "file.py:function" (a function
        without arguments that returns a `torch.nn.Module`, or the module itself). Code of the last two kinds is
        executed.
    weights
        A state dict, .safetensors or .pt/.pth (read without running code; see `read_weights`), or "DEFAULT" for the
        weights that torchvision recommends (downloaded once). By default the model keeps its initial weights, which are
        random for a torchvision model. The number of classes of a torchvision model is that of the weights file.

    Raises
    ------
    InputError
        If there is no such model, or the weights do not fit.
    ModelError
        If weights are NaN or infinite, or the function does not return a `torch.nn.Module`.
    """
    spec = expanded(spec)
    if spec.startswith(TORCHVISION):
        model = _torchvision_model(spec.removeprefix(TORCHVISION), weights)
    elif weights == DEFAULT_WEIGHTS:
        raise InputError(
            f"--weights {DEFAULT_WEIGHTS} is for 'torchvision:NAME' models, but the model is '{spec}'; give a weights "
            "file."
        )
    else:
        model = _demo_model(spec) if is_demo(spec) else _python_model(spec)
        if weights is not None:
            put_weights(model, read_weights(weights), weights)
    check_weights_finite(model)
    return model.eval()


def torchvision_weights(name: str):
    """Return torchvision's recommended weights of a classifier: an enum member with `.transforms()` and `.meta`."""
    return _torchvision().get_model_weights(known_classifier(name)).DEFAULT


def runs_by_itself(spec: str) -> bool:
    """Return whether a name of a model refers to torchvision or a built-in model, and not to other code."""
    return is_demo(spec) or spec.startswith(TORCHVISION)


def is_demo(spec: str) -> bool:
    """Return whether a name of a model refers to a built-in model: "demo" or "demo:NAME"."""
    return spec == DEMO or spec.startswith(f"{DEMO}:")


def _torchvision():
    import_zennit_safely()  # also makes PyPI's torchvision work beside a CPU build of torch
    try:
        import torchvision.models
    except ModuleNotFoundError as error:
        raise InputError(f"'torchvision:NAME' models need torchvision ({error}): pip install torchvision.") from None
    return torchvision.models


def known_classifier(name: str) -> str:
    """Return the name if torchvision has such a classifier; otherwise raise InputError with the nearest name."""
    models = _torchvision()
    names = models.list_models(module=models)
    if name not in names:
        raise InputError(f"torchvision has no classifier '{name}'; {nearest(name, names)}")
    return name


def _torchvision_model(name: str, weights: str | Path | None) -> nn.Module:
    models, name = _torchvision(), known_classifier(name)
    if weights == DEFAULT_WEIGHTS:
        try:
            return models.get_model(name, weights=DEFAULT_WEIGHTS)
        except (URLError, OSError, RuntimeError) as error:
            raise InputError(
                f"torchvision's weights of '{name}' could not be downloaded ({error}); give --weights FILE."
            ) from error
    state = None if weights is None else read_weights(weights)
    model = models.get_model(name, weights=None)
    if state is not None:
        classes = _other_number_of_classes(model, state)
        if classes is not None:
            model = models.get_model(name, weights=None, num_classes=classes)
        put_weights(model, state, weights)
    return model


def _other_number_of_classes(model: nn.Module, state: Mapping[str, Tensor]) -> int | None:
    """Return the number of classes of a fine-tuned state dict, if nothing else differs from the model."""
    own = model.state_dict()
    wrong = [
        (own[name].shape, value.shape)
        for name, value in state.items()
        if name in own and value.shape != own[name].shape
    ]
    counts = {given[0] for ours, given in wrong if len(given) == len(ours) > 0 and given[1:] == ours[1:]}
    only_counts = all(len(given) == len(ours) and given[1:] == ours[1:] for ours, given in wrong)
    return counts.pop() if len(counts) == 1 and only_counts else None


def _demo_model(spec: str) -> nn.Module:
    from crp.demo import demo_model

    return demo_model(*spec.split(":", 1)[1:])


def _python_model(spec: str) -> nn.Module:
    if ":" not in spec:
        models = _torchvision()
        hint = f" (did you mean '{TORCHVISION}{spec}'?)" if spec in models.list_models(module=models) else ""
        raise InputError(
            f"The model '{spec}' is not 'torchvision:NAME', 'demo', 'demo:vit', 'package.module:function' or "
            f"'file.py:function'{hint}."
        )
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
