"""Banks of directions in files: `save_directions`, `load_directions`, and the checkpoints of sparse autoencoders."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from crp.errors import InputError, listed, shortened
from crp.files import user_path, write_file

from .directions import Directions
from .encoders import LeastSquares, NonNegative, SparseAutoencoder

_ENCODERS = {"least squares": LeastSquares, "non-negative": NonNegative}
# Names of an autoencoder's tensors in published checkpoints: directions [n, C], weight [C, n], bias, shift.
_TENSORS = {
    "directions": ("directions", "W_dec", "decoder"),
    "weight": ("weight", "W_enc"),
    "bias": ("bias", "b_enc", "encoder.bias", "latent_bias"),
    "shift": ("shift", "b_dec", "decoder.bias", "pre_bias"),
}
# The same for the weights of `torch.nn.Linear`, which are transposed.
_TRANSPOSED = {"directions": ("decoder.weight",), "weight": ("encoder.weight",)}


def save_directions(directions: Directions, path: str | os.PathLike[str]) -> None:
    """Write directions, their encoder and their names to a safetensors file.

    Raises
    ------
    InputError
        If the encoder is a function of your own, which no file can hold.
    """
    from safetensors.torch import save

    encoder, told = directions.encoder, {"names": json.dumps(directions.names)}
    tensors = {"directions": directions.matrix}
    if isinstance(encoder, SparseAutoencoder):
        tensors |= {"weight": encoder.weight, "bias": encoder.bias, "shift": encoder.shift}
        told |= {"encoder": "autoencoder", "k": json.dumps(encoder.k)}
    elif isinstance(encoder, LeastSquares):
        told["encoder"] = "least squares"
    elif isinstance(encoder, NonNegative):
        told |= {"encoder": "non-negative", "steps": json.dumps(encoder.steps)}
    else:
        raise InputError(f"An encoder of class {type(encoder).__name__} cannot be written to a file.")
    write_file(user_path(path), save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, told))


def load_directions(path: str | os.PathLike[str]) -> Directions:
    """Read directions from a file.

    Parameters
    ----------
    path
        A safetensors file of `save_directions`; a checkpoint of a sparse autoencoder in safetensors
        (`directions_of_autoencoder`); or a .npy file with directions `[n, C]`, for which the encoder is `LeastSquares`.

    Raises
    ------
    InputError
        If the file cannot be read, or holds no directions.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(user_path(path))
    try:
        if path.suffix == ".npy":
            return Directions(torch.from_numpy(np.load(path, allow_pickle=False)))
        with safe_open(path, "pt") as file:
            told = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
        if "encoder" not in told:
            return directions_of_autoencoder(tensors)
        names = tuple(json.loads(told["names"]))
        if told["encoder"] == "autoencoder":
            return directions_of_autoencoder(tensors, k=json.loads(told["k"]), names=names)
        options = {"steps": json.loads(told["steps"])} if "steps" in told else {}
        return Directions(tensors["directions"], _ENCODERS[told["encoder"]](**options), names)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"'{path}' cannot be read as directions: {shortened(error, 200)}") from error


def directions_of_autoencoder(
    tensors: Mapping[str, Tensor], *, k: int | None = None, names: tuple[str, ...] = ()
) -> Directions:
    """Make directions of the tensors of a sparse autoencoder.

    Parameters
    ----------
    tensors
        By name: `W_enc` `[C, n]`, `W_dec` `[n, C]`, `b_enc` `[n]`, `b_dec` `[C]`; or as of `torch.nn.Linear`,
        `encoder.weight` `[n, C]`, `encoder.bias`, `decoder.weight` `[C, n]`, `decoder.bias`. A missing bias is 0.
    k
        How many latents of each position count, for a TopK autoencoder.
    names
        A name for each latent; may be empty.

    Raises
    ------
    InputError
        If encoder or decoder is missing, they do not fit, or there are tensors of another encoder, such as thresholds
        (JumpReLU) and gates.
    """
    found = {role: tensors[name] for role, names in _TENSORS.items() for name in names if name in tensors}
    found |= {role: tensors[name].T for role, names in _TRANSPOSED.items() for name in names if name in tensors}
    missing = [role for role in ("directions", "weight") if role not in found]
    if missing:
        raise InputError(
            f"An autoencoder's tensors are W_enc, W_dec, b_enc and b_dec, or encoder.weight, encoder.bias, "
            f"decoder.weight and decoder.bias; given {listed(tensors)}."
        )
    others = tensors.keys() - {name for names in (*_TENSORS.values(), *_TRANSPOSED.values()) for name in names}
    if others:
        raise InputError(
            f"A sparse autoencoder with ReLU has no tensors {listed(sorted(others))}: its latents may be others "
            "(JumpReLU, gates, scales). Leave these tensors out if they do not change the latents; otherwise give "
            "Directions(W_dec, encoder) with an encoder of your own."
        )
    directions, weight = found["directions"], found["weight"]
    if weight.shape != directions.T.shape:
        raise InputError(
            f"The encoder of directions {list(directions.shape)} is {list(directions.T.shape)}, given "
            f"{list(weight.shape)}."
        )
    bias = found.get("bias", weight.new_zeros(weight.shape[1]))
    return Directions(
        directions.contiguous(),
        SparseAutoencoder(weight.contiguous(), bias, found.get("shift", weight.new_zeros(len(weight))), k),
        names,
    )
