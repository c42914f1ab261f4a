"""Models whose output is no single tensor: which part of it is explained."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from crp.errors import InputError, ModelError, listed, nearest

OutputName = str | int | Callable[[Any], Tensor]


def select_output(model: nn.Module, output: OutputName) -> nn.Module:
    """The same model with one tensor of its output: `crp.mine`, `crp.explain` and all others take it as any model.

    Modules, weights, names and the class's name are those of `model`; the model itself is not changed. What was
    selected is kept in a library that is mined with it, which then refuses the model with another output.

    Parameters
    ----------
    model
        Gives a dict, tuple, list, named tuple or dataclass (torchvision's segmentation models, Hugging Face's outputs).
    output
        A key, an attribute's name or an index; or a function of the output that returns the tensor. Relevance starts at
        that tensor, and passes what the function does as the gradient does.

    Raises
    ------
    InputError
        If the model is none, or the name begins with an underscore.

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
        raise InputError(f"The output's name is {output!r}; names of parts of an output do not begin with '_'.")
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        model = model.module
    model = getattr(model, "_orig_mod", model)
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
    """How a library calls an output: its name or index, or where the function stands."""
    if isinstance(output, str | int):
        return output
    named = output if hasattr(output, "__qualname__") else type(output)
    return f"{named.__module__}:{named.__qualname__}"


def part_of(whole: Any, output: OutputName) -> Tensor:
    """The tensor of an output that is meant.

    Raises
    ------
    ModelError
        If the output has no such part, or it is no tensor; names the parts there are.
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
        raise ModelError(f"The part {name!r} of the model's output is a {found}, no tensor.")
    return part


def described_output(whole: Any) -> str:
    """An output that is no tensor, in words.

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
