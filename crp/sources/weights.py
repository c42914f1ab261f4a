"""State dicts, read without running code and loaded with clear errors."""

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
from crp.files import user_path

TORCH_SUFFIXES = (".pt", ".pth", ".th", ".bin", ".ckpt")
SUFFIXES = (".safetensors", *TORCH_SUFFIXES)
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_PARALLEL_PREFIX = "module."


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict on the CPU, without executing code from the file.

    The entry "state_dict", "model_state_dict" or "model" of a checkpoint is unwrapped, and DataParallel's prefix
    "module." is removed.

    Raises
    ------
    InputError
        If the file does not exist, has another format, is damaged, or holds anything else than named tensors.
    """
    path = user_path(path)
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
        raise InputError(f"The weights file '{path}' holds {found}, not named tensors; save model.state_dict().")
    if all(name.startswith(_PARALLEL_PREFIX) for name in content):
        return {name.removeprefix(_PARALLEL_PREFIX): value for name, value in content.items()}
    return dict(content)


def put_weights(model: nn.Module, state: Mapping[str, Tensor], source: str | Path) -> None:
    """Load a state dict into a model; `source` names it in messages.

    Raises
    ------
    InputError
        If names or shapes differ; says which and how many.
    """
    own = model.state_dict()
    # Old checkpoints lack the counters of batch norms, which evaluation does not use.
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
    except Exception as error:  # damaged pickles raise nearly any type of error
        if isinstance(error, pickle.UnpicklingError) and zipfile.is_zipfile(path):
            raise InputError(
                f"The weights file '{path}' holds Python objects other than tensors, which are not loaded because they "
                "can run code; save model.state_dict() instead."
            ) from None
        raise InputError(f"The weights file '{path}' is damaged, or was not written by torch.save.") from error
