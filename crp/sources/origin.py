"""What mining was told, as plain values that a library keeps, and the model found again from them.

A library is a file from anywhere, so nothing it names runs by itself but torchvision's classifiers and the built-in
model; and a weights file it names is read only if it still has the content it had.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crp.attribution import select_output
from crp.errors import LibraryError
from crp.library.fingerprints import file_digest
from crp.sources.models import DEFAULT_WEIGHTS, load_model, runs_by_itself

if TYPE_CHECKING:
    from torch import nn

    from crp.library import Library


def origin(model: str, data: str, weights: str | None, command: Sequence[str]) -> dict[str, Any]:
    """Return what a library keeps under "source".

    Paths are made absolute, so that they are found from another folder; the weights file comes with its SHA-256.
    """
    file = None
    if weights is not None and weights != DEFAULT_WEIGHTS:
        file = {"path": str(Path(weights).resolve()), "sha256": file_digest(weights)}
    return {
        "model": absolute(model),
        "weights": DEFAULT_WEIGHTS if weights == DEFAULT_WEIGHTS else file,
        "data": absolute(data),
        "command": list(command),
    }


def absolute(spec: str) -> str:
    """Return the name of a model or data set with its path, if it has one, made absolute."""
    place, colon, name = spec.rpartition(":")
    if place.endswith(".py"):
        return f"{Path(place).resolve()}{colon}{name}"
    return str(Path(spec).resolve()) if Path(spec).exists() and not colon else spec


def model_of(
    library: Library, *, model: str | None = None, weights: str | None = None, trust: bool = False
) -> nn.Module:
    """Load the model a library was mined with, in evaluation mode; refuse it where its weights are others.

    It gives the part of its output that was mined, if that has a name.

    Parameters
    ----------
    library:
        The opened library.
    model, weights:
        As in `load_model`; by default those the library names.
    trust:
        Whether code that the library names may run. Pass True only for a library you made or trust.

    Raises
    ------
    LibraryError
        When the library names no model, names one that does not run by itself, or names a weights file that is gone or
        changed; or when the model has other weights than the one mined.
    InputError, ModelError
        As `load_model`.
    """
    source = library.manifest.get("source")
    if not isinstance(source, dict) or not isinstance(source.get("model"), str):
        source = {}
    named = model or source.get("model")
    if named is None:
        raise LibraryError(
            f"The library '{library.path}' does not say which model it was mined with; name it with --model."
        )
    if model is None and not trust and not runs_by_itself(named):
        raise LibraryError(
            f"The library '{library.path}' names the model '{named}', which is code that does not run by itself; "
            f"give --model '{named}', or --trust if you trust the library."
        )
    # A model named again may bring its weights with it; only the library's own model needs the library's weights file.
    if weights is None and (model is None or absolute(model) == source.get("model")):
        weights = _stored_weights(library, source.get("weights"))
    loaded = load_model(named, weights)
    output = library.manifest["model"].get("output")
    if isinstance(output, int) or (isinstance(output, str) and ":" not in output):
        loaded = select_output(loaded, output)
    library.check_model(loaded)
    return loaded


def _stored_weights(library: Library, stored: object) -> str | None:
    if stored is None or stored == DEFAULT_WEIGHTS:
        return stored
    if not isinstance(stored, dict) or not all(isinstance(stored.get(name), str) for name in ("path", "sha256")):
        raise LibraryError(f"The library '{library.path}' does not say where the weights are; give --weights FILE.")
    if not Path(stored["path"]).is_file():
        raise LibraryError(
            f"The weights file '{stored['path']}' that the library '{library.path}' names is gone; give --weights FILE."
        )
    if file_digest(stored["path"]) != stored["sha256"]:
        raise LibraryError(
            f"The weights file '{stored['path']}' has changed since the library '{library.path}' was mined; "
            "give the former one with --weights FILE, or mine again."
        )
    return stored["path"]
