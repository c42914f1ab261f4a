"""SHA-256 digests that identify weights, data sets and settings."""

from __future__ import annotations

import functools
import hashlib
import inspect
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crp.arguments import uncompiled_name

if TYPE_CHECKING:
    from torch import Tensor, nn

# Enough to tell data sets apart, and few enough to read them again whenever a library is used with one.
SAMPLED = 64


def file_digest(path: str | os.PathLike[str]) -> str:
    """Compute the SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_fingerprint(model: nn.Module) -> str:
    """Compute the SHA-256 of a `state_dict`: names in sorted order, each with dtype, shape and bytes.

    It does not depend on the file that the weights were loaded from, nor on which parts `torch.compile` has wrapped.
    """
    digest = hashlib.sha256()
    state = {uncompiled_name(name): value for name, value in model.state_dict().items()}
    for name, value in sorted(state.items()):
        if not hasattr(value, "data_ptr"):
            continue  # a module's extra state, which may be any object
        digest.update(f"{name}\n".encode())
        _update(digest, value)
    return digest.hexdigest()


def sample_digest(data: Tensor) -> str:
    """Compute the SHA-256 of dtype, shape and bytes of one sample."""
    digest = hashlib.sha256()
    _update(digest, data)
    return digest.hexdigest()


def sampled_indices(length: int) -> list[int]:
    """List up to 64 evenly spaced indices in ascending order, including the first and the last."""
    count = min(SAMPLED, length)
    return [index * (length - 1) // max(count - 1, 1) for index in range(count)]


def data_fingerprint(length: int, digests: Mapping[int, str]) -> str:
    """Compute the SHA-256 of the length of a data set and the digests of its `sampled_indices`."""
    lines = [f"{length}", *(f"{index} {digest}" for index, digest in sorted(digests.items()))]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _update(digest: hashlib._Hash, value: Tensor) -> None:
    import torch  # not at the top of the module: opening a library must not load it

    digest.update(f"{value.dtype} {list(value.shape)}\n".encode())
    digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())


def value_fingerprint(*values: Any) -> str:
    """Compute the SHA-256 of the content of values: numbers, arrays, containers, functions with closures, any objects.

    Two composites have the same fingerprint if their rules have the same options. Globals that a function uses are not
    included. The result is the same in every process.
    """
    digest, seen = hashlib.sha256(), {}

    def add(value: Any) -> None:
        if _is_tensor(value):
            value = value.detach().cpu().numpy()
        if isinstance(value, np.ndarray):
            put(f"{value.dtype}{value.shape}")
            digest.update(np.ascontiguousarray(value))
        elif value is None or isinstance(value, bool | int | float | complex | str | bytes | np.generic | Path):
            put(f"{type(value).__name__} {value!r}")
        elif isinstance(value, type) or inspect.isbuiltin(value) or inspect.ismodule(value):
            put(f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', value.__name__)}")
        elif id(value) in seen:
            put(f"as {list(seen).index(id(value))}")
        else:
            seen[id(value)] = value  # a reference, so that no other object gets this id
            put(type(value).__qualname__ + _own_text(value))
            for part in _parts(value):
                add(part)
            put("end")

    def put(text: str) -> None:
        digest.update(f"{text}\n".encode())

    for value in values:
        add(value)
    return digest.hexdigest()


def options_in(value: Any) -> list[str]:
    """List the numbers, strings and digests of arrays that an object contains: the options of a zennit rule.

    Code is omitted, so that the result does not depend on the version of Python.
    """
    found, seen = [], {}

    def look(value: Any) -> None:
        if _is_tensor(value):
            found.append(sample_digest(value)[:12])
        elif isinstance(value, bool | int | float | str | np.generic):
            found.append(str(value))
        elif not (value is None or isinstance(value, type) or inspect.isbuiltin(value) or inspect.iscode(value)):
            if id(value) in seen or inspect.ismodule(value):
                return
            seen[id(value)] = value  # a reference, so that no other object gets this id
            for part in value.values() if isinstance(value, Mapping) else _parts(value):
                look(part)

    look(value)
    return found


def _own_text(value: Any) -> str:
    """Return the `repr` of a value without attributes, such as a `torch.dtype`, unless it is an address."""
    if hasattr(value, "__dict__") or inspect.iscode(value) or isinstance(value, list | tuple | dict | set | frozenset):
        return ""
    text = repr(value)
    return "" if " at 0x" in text else f" {text}"


def _is_tensor(value: Any) -> bool:
    # by its module's entry: opening a library must not load torch
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _parts(value: Any) -> Sequence[Any]:
    if isinstance(value, functools.partial):
        return [value.func, value.args, value.keywords]
    if inspect.ismethod(value):
        return [value.__func__, value.__self__]
    if inspect.isfunction(value):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        return [value.__code__, value.__defaults__, value.__kwdefaults__, cells]
    if inspect.iscode(value):
        return [value.co_code, value.co_consts, value.co_names]
    if isinstance(value, Mapping):
        return [part for pair in value.items() for part in pair]
    if isinstance(value, list | tuple):
        return value
    if isinstance(value, set | frozenset):
        return sorted(value_fingerprint(part) for part in value)
    return [vars(value)] if hasattr(value, "__dict__") else []
