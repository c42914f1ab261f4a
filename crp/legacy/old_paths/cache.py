"""zennit-crp's caches of drawn references, and the decorator that uses them."""

from __future__ import annotations

import functools
import inspect
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from crp.compat import OLD_NAMES, old_names
from crp.errors import InputError
from crp.files import write_file
from crp.library.fingerprints import value_fingerprint, weights_fingerprint

__all__ = [*OLD_NAMES[__name__]]

__getattr__ = old_names(__name__)


class Cache:
    """Base class of caches for drawn references."""

    def __init__(self, path: str | Path = "cache") -> None:
        self.path = Path(path)

    def save(self, ref_c, layer_name, mode, r_range, composite, rf, f_name, plot_name) -> None:
        """Save the drawn references of ranks `r_range`, by concept (or `"concept:class"`)."""
        raise NotImplementedError(f"{type(self).__name__} must define 'save'.")

    def load(self, concept_ids, layer_name, mode, r_range, composite, rf, f_name, plot_name) -> tuple:
        """Load references. Return those that were found and the ranks that are missing, both by concept."""
        raise NotImplementedError(f"{type(self).__name__} must define 'load'.")

    def extend_dict(self, ref_original, rf_addition) -> dict:
        """Append new references to loaded ones."""
        raise NotImplementedError(f"{type(self).__name__} must define 'extend_dict'.")


class ImageCache(Cache):
    """Stores lists of PIL pictures, or pairs of lists, as PNG files below `path`."""

    def _create_path(self, layer_name, mode, composite, rf, func_name, plot_name) -> Path:
        folder = f"{mode}_{type(composite).__name__}{'_rf' if rf else ''}"
        path = self.path / func_name / plot_name / folder / layer_name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def save(self, ref_dict, layer_name, mode, r_range, composite, rf, func_name, plot_name) -> None:
        """Write each picture atomically.

        Parameters
        ----------
        ref_dict
            By concept: a list of PIL pictures, or a tuple of two lists.
        layer_name, mode, r_range, composite, rf, func_name, plot_name
            What they show; `r_range` holds the first and the last rank (exclusive).

        Raises
        ------
        TypeError
            If `ref_dict` holds anything but pictures.
        """
        path = self._create_path(layer_name, mode, composite, rf, func_name, plot_name)
        for concept, drawn in ref_dict.items():
            for place, pictures in enumerate(drawn if isinstance(drawn, tuple) else (drawn,)):
                for picture, rank in zip(pictures, range(*r_range), strict=False):
                    if not isinstance(picture, Image.Image):
                        raise TypeError(f"ImageCache saves PIL pictures, given a {type(picture).__name__}.")
                    buffer = io.BytesIO()
                    picture.save(buffer, "PNG", optimize=True)
                    write_file(self._file(path, concept, place, rank), buffer.getvalue(), durable=False)

    def load(
        self, indices, layer_name, mode, r_range, composite, rf, func_name, plot_name
    ) -> tuple[dict[Any, Any], dict[Any, tuple[int, int]]]:
        """Read pictures.

        Returns
        -------
        tuple of two dicts
            By concept: the pictures up to the first missing rank, as they were saved; and the ranks from there on.
        """
        path = self._create_path(layer_name, mode, composite, rf, func_name, plot_name)
        found, missing = {}, {}
        for concept in indices:
            pairs = self._file(path, concept, 1, r_range[0]).is_file()
            drawn: tuple[list, ...] = ([], []) if pairs else ([],)
            for rank in range(*r_range):
                files = [self._file(path, concept, place, rank) for place in range(len(drawn))]
                if not all(file.is_file() for file in files):
                    missing[concept] = (rank, r_range[1])
                    break
                for pictures, file in zip(drawn, files, strict=True):
                    with Image.open(file) as picture:
                        picture.load()
                    pictures.append(picture)
            if drawn[0]:
                found[concept] = drawn if pairs else drawn[0]
        return found, missing

    def extend_dict(self, ref_original, rf_addition) -> dict:
        """Append lists to lists, and pairs of lists to pairs, in place."""
        for concept, drawn in rf_addition.items():
            if concept not in ref_original:
                ref_original[concept] = drawn
                continue
            before = ref_original[concept]
            if not isinstance(drawn, list | tuple) or type(drawn) is not type(before):
                raise TypeError(f"A {type(drawn).__name__} cannot be appended to a {type(before).__name__}.")
            for old, new in zip(before, drawn, strict=True) if isinstance(drawn, tuple) else [(before, drawn)]:
                old.extend(new)
        return ref_original

    @staticmethod
    def _file(path: Path, concept: Any, place: int, rank: int) -> Path:
        return path / f"{concept}_{place}_{rank}.png"


def cache_reference(method: Callable[..., dict]) -> Callable[..., dict]:
    """Make a method of `FeatureVisualization` look in the cache first, if there is one and something is drawn.

    The method takes one more argument, `overwrite=False`: whether to draw everything again.
    """
    signature = inspect.signature(method)

    @functools.wraps(method)
    def cached(self: Any, *args: Any, overwrite: bool = False, **options: Any) -> dict:
        call = signature.bind(self, *args, **options)
        call.apply_defaults()
        given = call.arguments
        if self.Cache is None or given["plot_fn"] is None or given["composite"] is None:
            return method(**given)
        layer, mode = given["layer_name"], given["mode"]
        if method.__name__ == "get_max_reference":
            chosen = self._concepts(given["concept_ids"], layer, mode)
            wanted = {concept: {"concept_ids": concept} for concept in chosen}
        else:
            concept = self._concept(given["concept_id"], layer, mode)
            chosen = self._classes(given["targets"], mode)
            wanted = {f"{concept}:{target}": {"targets": target} for target in chosen}
        preprocess = getattr(self.preprocess_data, "__func__", self.preprocess_data)
        facts = (
            weights_fingerprint(self.attribution.model), self.preprocess_fn, preprocess, self.layer_map.get(layer),
            given["composite"],
        )  # fmt: skip
        drawn: dict = {}
        for key, narrowed in wanted.items():
            tables = self._tables(mode, layer, narrowed.get("targets"))
            span = ranks(given["r_range"], len(tables[0]), layer)
            plot = plot_name(given["plot_fn"], *facts, *tables)
            place = given["composite"], given["rf"], method.__name__, plot
            found, missing = ({}, {key: span}) if overwrite else self.Cache.load([key], layer, mode, span, *place)
            for rest in missing.values():
                new = method(**{**given, **narrowed, "r_range": rest})
                self.Cache.save(new, layer, mode, rest, *place)
                found = self.Cache.extend_dict(found, new)
            drawn |= found
        return drawn

    return cached


def ranks(r_range: Sequence[int | None], count: int, layer: str) -> tuple[int, int]:
    """Return the first and (exclusive) last rank of the references that exist.

    Raises
    ------
    InputError
        If there are none.
    """
    start, stop, _ = slice(*r_range).indices(count)
    if start >= stop:
        raise InputError(
            f"r_range {tuple(r_range)} selects no reference: each concept of '{layer}' has {count} references."
        )
    return start, stop


def plot_name(function: Callable, *facts: Any) -> str:
    """Return the name of a plot function, with a digest of everything that its pictures depend on."""
    named = function.func if isinstance(function, functools.partial) else function
    name = getattr(named, "__name__", type(named).__name__).strip("<>")
    return f"{name}-{value_fingerprint(function, *facts)[:16]}"
