"""Where a library's model and data come from, as JSON values, and loading them again.

A library may come from anybody. So the code that it names is not run unless the user trusts it, except models by name
of torchvision, timm and transformers and the built-in model, and a weights file or configuration that it names is read
only if its content is unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crp.errors import LibraryError
from crp.files import expanded, user_path
from crp.library.fingerprints import file_digest
from crp.same_model import check_model
from crp.sources.data import DEMO, is_code, load_data
from crp.sources.model_family import DEFAULT_WEIGHTS
from crp.sources.named_models import load_model, runs_by_itself
from crp.sources.transformers_models import CONFIGURATION, HF

if TYPE_CHECKING:
    from torch import nn

    from crp.library import Library
    from crp.preprocessing import Preprocessing


def origin(
    model: str, data: str, weights: str | None, command: Sequence[str], start: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the manifest's entry "source": model, data, weights and command; and the `start`, if one was named.

    Paths are absolute, so that they are found from another folder. The weights file has its SHA-256, and so has the
    configuration of an "hf:FOLDER" model, which is most of its architecture.
    """
    file = None if weights is None or weights == DEFAULT_WEIGHTS else _with_digest(weights)
    stored = {
        "model": absolute(model),
        "weights": DEFAULT_WEIGHTS if weights == DEFAULT_WEIGHTS else file,
        "data": absolute(data),
        "command": list(command),
    }
    if start is not None:
        stored["start"] = dict(start)
    if model.startswith(HF):
        stored["configuration"] = _with_digest(user_path(model.removeprefix(HF)) / CONFIGURATION)
    return stored


def _with_digest(path: str | Path) -> dict[str, str]:
    path = user_path(path).resolve()
    return {"path": str(path), "sha256": file_digest(path)}


def absolute(spec: str) -> str:
    """Return the name of a model or data set with an absolute path, if it has a path."""
    spec = expanded(spec)
    if spec.startswith(HF):
        return f"{HF}{user_path(spec.removeprefix(HF)).resolve()}"
    place, colon, name = spec.rpartition(":")
    if place.endswith(".py"):
        return f"{Path(place).resolve()}{colon}{name}"
    is_path = Path(spec).exists() and not colon and spec != DEMO
    return str(Path(spec).resolve()) if is_path else spec


def model_of(
    library: Library, *, model: str | None = None, weights: str | None = None, trust: bool = False
) -> nn.Module:
    """Load the model that a library was mined with, in evaluation mode.

    Its output is the part that was mined, if that part has a name.

    Parameters
    ----------
    library
        The opened library.
    model, weights
        As in `load_model`; by default those that the library names.
    trust
        Whether code that the library names may run. Pass True only for a library that you made or trust.

    Raises
    ------
    LibraryError
        If the library names no model, untrusted code, or a weights file that is missing or changed, or if the model has
        other weights than those that were mined.
    InputError, ModelError
        As `load_model`.
    """
    loaded = named_model(library.manifest, f"library '{library.path}'", model=model, weights=weights, trust=trust)
    check_model(library, loaded)
    return loaded


def named_model(
    manifest: Mapping[str, Any],
    owner: str,
    *,
    model: str | None = None,
    weights: str | None = None,
    trust: bool = False,
) -> nn.Module:
    """Load the model named by the manifest of an `owner` (such as "library 'a.crp'"); the rest is as in `model_of`."""
    source = manifest["source"] if isinstance(manifest.get("source"), dict) else {}
    named = model or _string(source, "model")
    if named is None:
        raise LibraryError(f"The {owner} does not name the model it was mined with; give it with --model.")
    if model is None and not trust and not runs_by_itself(named):
        raise LibraryError(
            f"The {owner} names the model '{named}', which is code that is not run without your consent; "
            f"give --model '{named}', or --trust if you trust the {owner.split()[0]}."
        )
    # Another model has its own weights; only the library's model needs the library's weights file.
    if weights is None and (model is None or absolute(model) == _string(source, "model")):
        weights = _stored_weights(source.get("weights"), owner)
        if "configuration" in source:
            _unchanged(source["configuration"], "configuration", owner, "--model hf:FOLDER")
    output = manifest["model"].get("output")
    has_name = isinstance(output, int) or (isinstance(output, str) and ":" not in output)
    return load_model(named, weights, output=output if has_name else None)


def data_of(library: Library, *, data: str | None = None, trust: bool = False) -> Any:
    """Load the data set that a library was mined from, or `data`; errors as in `named_data`."""
    return named_data(
        library.manifest.get("source"),
        f"library '{library.path}'",
        data=data,
        preprocessing=library.preprocessing,
        class_names=library.manifest["class_names"],
        trust=trust,
    )


def named_data(
    source: object,
    owner: str,
    *,
    data: str | None = None,
    preprocessing: Preprocessing | None = None,
    class_names: Sequence[str] | None = None,
    trust: bool = False,
) -> Any:
    """Load the data set named by a "source", or `data`.

    Raises
    ------
    LibraryError
        If none is named, or it is untrusted code.
    InputError
        As `load_data`.
    """
    named = data or (_string(source, "data") if isinstance(source, dict) else None)
    if named is None:
        raise LibraryError(f"The {owner} does not name the data it was mined from; give them with --data.")
    if data is None and not trust and is_code(named):
        raise LibraryError(
            f"The {owner} names the data '{named}', which is code that is not run without your consent; "
            f"give --data '{named}', or --trust if you trust the {owner.split()[0]}."
        )
    return load_data(named, preprocessing, class_names=class_names)


def weights_file(library: Library) -> Path | None:
    """Return the path of the weights file that a library names; None if it names none."""
    source = library.manifest.get("source")
    stored = source.get("weights") if isinstance(source, dict) else None
    path = stored.get("path") if isinstance(stored, dict) else None
    return Path(path) if isinstance(path, str) and Path(path).is_file() else None


def _string(source: dict[str, Any], name: str) -> str | None:
    return source[name] if isinstance(source.get(name), str) else None


def _stored_weights(stored: object, owner: str) -> str | None:
    if stored is None or stored == DEFAULT_WEIGHTS:
        return stored
    return _unchanged(stored, "weights file", owner, "--weights FILE")


def _unchanged(stored: object, what: str, owner: str, remedy: str) -> str:
    """Return the path of a stored file, if its content is what it was."""
    if not isinstance(stored, dict) or not all(isinstance(stored.get(name), str) for name in ("path", "sha256")):
        raise LibraryError(f"The {owner} does not say where its {what} is; give {remedy}.")
    if not Path(stored["path"]).is_file():
        raise LibraryError(f"The {what} '{stored['path']}' that the {owner} names does not exist; give {remedy}.")
    if file_digest(stored["path"]) != stored["sha256"]:
        raise LibraryError(
            f"The {what} '{stored['path']}' has changed since the {owner} was mined; give the original with {remedy}, "
            "or mine again."
        )
    return stored["path"]
