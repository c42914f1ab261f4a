"""A state dict read without running code, and put into a model with differences explained."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from crp.errors import InputError, listed, nearest

TORCH_SUFFIXES = (".pt", ".pth", ".th", ".bin", ".ckpt")
SUFFIXES = (".safetensors", *TORCH_SUFFIXES)
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_PARALLEL_PREFIX = "module."


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict on the CPU, never executing what the file holds.

    A checkpoint's entry "state_dict", "model_state_dict" or "model" is unwrapped, and the prefix "module." that
    DataParallel leaves is taken off.

    Raises
    ------
    InputError
        When the file is missing, of another format, damaged, or holds anything but tensors by name.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no weights file '{path}'.")
    if path.suffix not in SUFFIXES:
        raise InputError(
            f"The weights file '{path}' ends in '{path.suffix}'; weights are read from {listed(SUFFIXES)}."
        )
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    if (
        not isinstance(content, Mapping)
        or not content
        or not all(isinstance(value, Tensor) for value in content.values())
    ):
        found = listed(content) if isinstance(content, Mapping) else type(content).__name__
        raise InputError(f"The weights file '{path}' holds {found}, not tensors by name; save model.state_dict().")
    if all(name.startswith(_PARALLEL_PREFIX) for name in content):
        return {name.removeprefix(_PARALLEL_PREFIX): value for name, value in content.items()}
    return dict(content)


def put_weights(model: nn.Module, state: Mapping[str, Tensor], source: str | Path) -> None:
    """Load a state dict into a model; `source` names it in messages.

    Raises
    ------
    InputError
        When names or shapes differ: which, how many, and the nearest name.
    """
    own = model.state_dict()
    # Counters of batch norm are missing from old checkpoints, and evaluation does not read them.
    missing = [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in state if name not in own]
    facts = []
    if missing:
        facts.append(f"{len(missing)} of the model's {len(own)} entries are missing ({listed(missing, 3)})")
    if unexpected:
        facts.append(
            f"{len(unexpected)} entries are not the model's ({listed(unexpected, 3)}; "
            f"{nearest(unexpected[0], missing or list(own))})"
        )
    wrong = [name for name, value in state.items() if name in own and value.shape != own[name].shape]
    if wrong:
        name = wrong[0]
        facts.append(f"'{name}' has shape {list(state[name].shape)} where the model has {list(own[name].shape)}")
    if facts:
        raise InputError(f"The weights of '{source}' do not fit the model: {', '.join(facts)}.")
    model.load_state_dict(state, strict=False)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"The weights file '{path}' is damaged and cannot be read ({error}).") from error


def _read_torch(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged pickles raise nearly any type
        if isinstance(error, pickle.UnpicklingError) and zipfile.is_zipfile(path):
            raise InputError(
                f"The weights file '{path}' holds Python objects other than tensors, which are not loaded because they "
                "can run code; save model.state_dict() instead."
            ) from None
        raise InputError(f"The weights file '{path}' is damaged, or no file that torch.save wrote.") from error
