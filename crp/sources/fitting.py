"""Whether a model and a sample fit together; the device to use; names and patterns of layers."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from crp.attribution.layer_choice import observed_layers
from crp.attribution.named_layers import check_layer, module_name
from crp.attribution.outputs import described_output
from crp.errors import InputError, ModelError, listed, nearest

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def pick_device(name: str | None = None, place: int = 0) -> torch.device:
    """Return the device of that name, or by default the first available one of cuda, mps and cpu.

    If there are several GPUs, it is number `place`, so that several processes share them.

    Raises
    ------
    InputError
        If torch does not know the device, or the machine does not have it.
    """
    there = [kind for kind, module in (("cuda", torch.cuda), ("mps", torch.backends.mps)) if module.is_available()] + [
        "cpu"
    ]
    if name is None:
        name = f"cuda:{place % torch.cuda.device_count()}" if there[0] == "cuda" and place else there[0]
    kind = name.split(":")[0]
    if kind not in there:
        raise InputError(f"There is no device '{name}' on this machine; there is {listed(there)}.")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except RuntimeError:
        raise InputError(f"There is no device '{name}' on this machine; there is {listed(there)}.") from None
    return device


def number_of_classes(model: nn.Module, data: Tensor, name: str) -> int:
    """Run the model on one sample `[c, *S]` and return the number of classes of its output.

    `name` is the name of the sample in messages.

    Raises
    ------
    InputError
        If the model cannot run on the sample (too small, other channels).
    ModelError
        If the output is not a tensor `[1, classes]`, or `[1]` (a regression with a single output).
    """
    output = run(model, data, name)
    if not isinstance(output, Tensor):
        raise ModelError(
            f"The model returns {described_output(output)} for one sample, not a tensor [1, classes]; name the part to "
            "explain with --output."
        )
    if output.ndim not in (1, 2):
        raise ModelError(
            f"The model returns a tensor {list(output.shape)} for one sample; a tensor [1, classes] is needed. A "
            "segmentation is mined from Python: crp.mine(..., targets=ClassInMask(1))."
        )
    return output.shape[1] if output.ndim == 2 else 1


def run(model: nn.Module, data: Tensor, name: str) -> object:
    """Return the model's output for one sample `[c, *S]`; its errors become an InputError of one sentence."""
    parameter = next(model.parameters(), data)
    try:
        with torch.no_grad():
            return model(data[None].to(parameter.device))
    except (RuntimeError, ValueError, AssertionError, IndexError, TypeError) as error:
        text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise InputError(f"The model cannot run on {name} of shape {list(data.shape)}: {text}.") from error


def matching_layers(model: nn.Module, patterns: Iterable[str]) -> list[str]:
    """Return the layers that match names and patterns, in the model's order.

    A pattern is matched between the dots (`layer*` matches layer1, but not layer1.0), and only against modules that
    contain a convolution or a linear layer.

    Raises
    ------
    InputError
        If a name or pattern matches no layer; says the nearest name.
    """
    names = [name for name, _ in model.named_modules() if name]
    chosen = set()
    for pattern in patterns:
        if any(sign in pattern for sign in "*?["):
            matches = {
                name for name in names if _matches(name, pattern) and _is_concept_layer(model.get_submodule(name))
            }
        else:
            check_layer(dict(model.named_modules()), pattern)
            matches = {pattern}
        if not matches:
            raise InputError(f"The model has no layer '{pattern}': {nearest(pattern, names)}")
        chosen |= matches
    return sorted(chosen, key=lambda layer: names.index(module_name(layer)))


def default_layers(model: nn.Module, data: Tensor) -> list[str]:
    """Return the layers to mine by default for a sample `[c, *S]` (`crp.attribution.layer_choice`).

    Raises
    ------
    InputError
        If there is none.
    """
    chosen = [layer.name for layer in observed_layers(model, data[None]) if layer.chosen]
    if not chosen:
        raise InputError("The model has no layer to choose by default; name the layers with --layers (layers=...).")
    return chosen


def _matches(name: str, pattern: str) -> bool:
    parts, signs = name.split("."), pattern.split(".")
    return len(parts) == len(signs) and all(fnmatchcase(part, sign) for part, sign in zip(parts, signs, strict=True))


def _is_concept_layer(module: nn.Module) -> bool:
    return any(isinstance(inner, (*CONVOLUTIONS, nn.Linear)) for inner in module.modules())
