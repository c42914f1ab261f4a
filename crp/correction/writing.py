"""A corrected model as a file that runs without this package: `write_fixed`."""

from __future__ import annotations

import copy
import os
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from crp.correction.corrections import Correction
from crp.errors import InputError, listed
from crp.extras import optional
from crp.files import user_path, write_file

# How a file of each kind is loaded.
LOADING = {
    ".safetensors": "model.load_state_dict(safetensors.torch.load_file({!r}))",
    ".pt2": "model = torch.export.load({!r}).module()",
    ".onnx": "session = onnxruntime.InferenceSession({!r})",
}
SUFFIXES = tuple(LOADING)


def saved_lines(path: Path) -> list[str]:
    """Return the lines that say where a corrected model was saved, and how it is loaded."""
    return [f"Saved: {path}", f"Load:  {LOADING[path.suffix].format(str(path))}"]


def checked_file(path: str | os.PathLike[str], original: Path | None = None) -> Path:
    """Return the path of a file that a corrected model can be written to, before anything is computed.

    Parameters
    ----------
    path
        The file.
    original
        The file of the model's weights, if there is one; it is not replaced.

    Raises
    ------
    InputError
        If the file has another ending, its folder does not exist, or it is the original.
    """
    path = user_path(path)
    if path.suffix not in SUFFIXES:
        raise InputError(f"A model is written to a file {listed(SUFFIXES)}, given '{path}'.")
    if not path.parent.is_dir():
        raise InputError(f"The folder '{path.parent}' for the corrected model does not exist.")
    if original is not None and original.is_file() and path.exists() and path.samefile(original):
        raise InputError(f"'{path}' holds the weights of the original model: write the corrected one to another file.")
    return path


def check_holds(path: str | os.PathLike[str], correction: Correction) -> None:
    """Refuse a file that cannot hold a correction: a state dict, if that is not enough.

    Raises
    ------
    InputError
    """
    if Path(path).suffix == ".safetensors" and not correction.in_weights:
        raise InputError(
            f"This correction ({correction.method}) adds a module to the model, so its weights do not fit the original "
            "architecture: write a .pt2 or .onnx file."
        )


def write_fixed(correction: Correction, path: str | os.PathLike[str], example: Tensor) -> Path:
    """Write a corrected model, for the CPU wherever it was made.

    ==================  ==================================================================================
    `.safetensors`      the state dict, for the original architecture; only if a correction is in weights
    `.pt2`              a program of `torch.export`, which torch alone loads and runs, for any batch size
    `.onnx`             ONNX in one file, for any batch size; needs the packages onnx and onnxscript
    ==================  ==================================================================================

    Parameters
    ----------
    correction
        The corrected model.
    path
        The file.
    example
        Model input `[N, c, *S]` of at least two samples, for its shape and type; no values of it are written.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        If the file has another ending, or a state dict is not enough.
    """
    path = checked_file(path)
    check_holds(path, correction)
    if path.suffix == ".safetensors":
        state = {name: value.cpu().clone().contiguous() for name, value in correction.model.state_dict().items()}
        # `save_file` would replace the open file with one that only its owner may read
        write_file(path, save(state), durable=False, refusal=InputError)
        return path
    model = copy.deepcopy(correction.model).cpu()
    example = torch.zeros_like(example[:2], device="cpu")  # programs keep it: no samples of the caller in their files
    dynamic = ({0: torch.export.Dim("batch")},)
    if path.suffix == ".pt2":
        program = torch.export.export(model, (example,), dynamic_shapes=dynamic)
        write_file(path, lambda file: torch.export.save(program, file), durable=False, refusal=InputError)
        return path
    for package in ("onnx", "onnxscript"):
        optional(package, package, "Writing ONNX", extra=None)
    write_file(
        path,
        # one file: by default, torch puts the weights into a second one beside it
        lambda file: torch.onnx.export(
            model, (example,), file.name, dynamic_shapes=dynamic, dynamo=True, external_data=False, verbose=False
        ),
        durable=False,
        refusal=InputError,
    )
    return path
