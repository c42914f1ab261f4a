"""Models whose output is not a single tensor: selects the part that is explained."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from crp.attribution.wrappers import unwrapped
from crp.errors import InputError, ModelError, listed, nearest

OutputName = str | int | Callable[[Any], Tensor]


def select_output(model: nn.Module, output: OutputName) -> nn.Module:
    """Return a model that gives one tensor of the output of `model`.

    It can be passed wherever a model is expected (`crp.mine`, `crp.explain`, ...). It shares modules, weights, names of
    modules and the name of its class with `model`, which is not changed. A library stores which output it was mined
    with, and refuses the model with another output.

    Parameters
    ----------
    model
        A model that returns a dict, tuple, list, named tuple or dataclass (torchvision's segmentation models, Hugging
        Face's models).
    output
        A key, the name of an attribute, or an index; or a function that takes the output and returns the tensor.
        Relevance starts at that tensor and passes through the function as the gradient does.

    Raises
    ------
    InputError
        If `model` is not a module, or the name begins with an underscore.

    Examples
    --------
    >>> class Two(nn.Linear):
    ...     def forward(self, data):
    ...         return {"out": super().forward(data), "aux": data}
    >>> select_output(Two(3, 2), "out")(Tensor([[1, 2, 3]])).shape
    torch.Size([1, 2])
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"A model is a torch.nn.Module, given {type(model).__name__}.")
    if isinstance(output, str) and output.startswith("_"):
        raise InputError(f"The output's name is {output!r}; names of outputs do not begin with '_'.")
    model = unwrapped(model)
    kind = type(model)

    class Selecting(kind):
        explained_output = output_name(output)

        def forward(self, *args: Any, **options: Any) -> Tensor:
            return part_of(super().forward(*args, **options), output)

    Selecting.__name__, Selecting.__qualname__, Selecting.__module__ = kind.__name__, kind.__qualname__, kind.__module__
    selecting = Selecting.__new__(Selecting)
    selecting.__dict__ = dict(model.__dict__)
    return selecting


def output_name(output: OutputName) -> str | int:
    """Return how a library identifies an output: its name or index, or the module and name of the function."""
    if isinstance(output, str | int):
        return output
    named = output if hasattr(output, "__qualname__") else type(output)
    return f"{named.__module__}:{named.__qualname__}"


def part_of(whole: Any, output: OutputName) -> Tensor:
    """Return one tensor of an output.

    Raises
    ------
    ModelError
        If the output has no such part, or the part is not a tensor; names the parts that exist.
    """
    if callable(output):
        part = output(whole)
    elif output in (names := _parts(whole)):
        part = whole[output] if isinstance(whole, Mapping) or isinstance(output, int) else getattr(whole, output)
    else:
        words = [name for name in names if isinstance(name, str)]
        hint = nearest(output, words) if isinstance(output, str) and words else f"there are {listed(names)}."
        raise ModelError(f"The model's output is a {type(whole).__name__} without {output!r}: {hint}")
    if not isinstance(part, Tensor):
        name, found = output_name(output), type(part).__name__
        raise ModelError(f"The part {name!r} of the model's output is a {found}, not a tensor.")
    return part


def described_output(whole: Any) -> str:
    """Describe an output that is not a tensor.

    >>> described_output({"out": 1, "aux": 2}), described_output((1, 2)), described_output(None)
    ("a dict with 'out', 'aux'", 'a tuple with 0, 1', 'a NoneType')
    """
    names = _parts(whole)
    return f"a {type(whole).__name__}" + (f" with {listed(names)}" if names else "")


def _parts(whole: Any) -> list[Any]:
    if isinstance(whole, Mapping):
        return list(whole)
    if isinstance(whole, tuple | list):
        return [*getattr(whole, "_fields", ()), *range(len(whole))]
    return [field.name for field in dataclasses.fields(whole)] if dataclasses.is_dataclass(whole) else []
