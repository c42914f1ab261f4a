"""Which weights and which samples a library belongs to, as SHA-256 digests; and which values are the same."""

from __future__ import annotations

import functools
import hashlib
import inspect
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, nn

# Enough to tell data sets apart, few enough to read again whenever a library is used with one.
SAMPLED = 64


def file_digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_fingerprint(model: nn.Module) -> str:
    """SHA-256 over the `state_dict`: names in sorted order, each with dtype, shape and bytes.

    Two models with this fingerprint compute the same, whatever the file their weights came from.
    """
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name}\n".encode())
        _update(digest, value)
    return digest.hexdigest()


def sample_digest(data: Tensor) -> str:
    """SHA-256 over dtype, shape and bytes of one sample."""
    digest = hashlib.sha256()
    _update(digest, data)
    return digest.hexdigest()


def sampled_indices(length: int) -> list[int]:
    """Up to 64 evenly spaced indices, the first and the last among them, in increasing order."""
    count = min(SAMPLED, length)
    return [index * (length - 1) // max(count - 1, 1) for index in range(count)]


def data_fingerprint(length: int, digests: Mapping[int, str]) -> str:
    """SHA-256 over the length of the data set and the digests of its `sampled_indices`."""
    lines = [f"{length}", *(f"{index} {digest}" for index, digest in sorted(digests.items()))]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _update(digest: hashlib._Hash, value: Tensor) -> None:
    import torch  # whoever holds a tensor has loaded it; opening a library does without

    digest.update(f"{value.dtype} {list(value.shape)}\n".encode())
    digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())


def value_fingerprint(*values: Any) -> str:
    """SHA-256 of values by what they hold: numbers, arrays, containers, functions with closures, objects of any class.

    Two composites have the same one if their rules have the same options. What a function looks up in its module is not
    followed. Two processes agree.
    """
    digest, seen = hashlib.sha256(), {}

    def add(value: Any) -> None:
        if hasattr(value, "detach"):
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
            seen[id(value)] = value  # held, so that no other object gets its id
            put(type(value).__qualname__)
            for part in _parts(value):
                add(part)
            put("end")

    def put(text: str) -> None:
        digest.update(f"{text}\n".encode())

    for value in values:
        add(value)
    return digest.hexdigest()


def options_in(value: Any) -> list[str]:
    """Numbers, texts and digests of arrays that an object holds, in order: for a rule of zennit's, its options.

    Code is left out, so that other versions of Python agree.
    """
    found, seen = [], {}

    def look(value: Any) -> None:
        if hasattr(value, "detach"):
            found.append(sample_digest(value)[:12])
        elif isinstance(value, bool | int | float | str | np.generic):
            found.append(str(value))
        elif not (value is None or isinstance(value, type) or inspect.isbuiltin(value) or inspect.iscode(value)):
            if id(value) in seen or inspect.ismodule(value):
                return
            seen[id(value)] = value  # held, so that no other object gets its id
            for part in value.values() if isinstance(value, Mapping) else _parts(value):
                look(part)

    look(value)
    return found


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
