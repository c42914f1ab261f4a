"""A library, opened: what it holds is read when it is asked for."""

from __future__ import annotations

import html
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crp.class_names import class_index
from crp.errors import InputError, inert, nearest, shortened
from crp.preprocessing import Preprocessing
from crp.values import Patch

from .library_concept import LibraryConcept
from .manifest import layer_folder, read_manifest
from .patches import MODES, LayerPatches, check_patches, decoded, read_patches, stored_concepts
from .profiles import LayerProfiles
from .references import (
    ClassStatistics,
    DeadConcepts,
    Limits,
    References,
    check_references,
    check_statistics,
    read_references,
)
from .tables import check_file, damaged, open_table
from .usage import ConceptUse, uses
from .vectors import Vectors, read_vectors, samples_file, vectors_file

if TYPE_CHECKING:

    pass


TABLES = ("references", "statistics", "patches")


def open_library(path: str | os.PathLike[str]) -> Library:
    """Open a library for reading.

    Only the manifest is read, and the presence of the tables checked.

    Parameters
    ----------
    path
        The folder that `crp.mine` left.

    Raises
    ------
    LibraryError
        If the folder is no library, of another schema, or damaged.
    """
    return Library(Path(path))


class Library:
    """What mining left on disk.

    Attributes
    ----------
    path
        The folder.
    manifest
        manifest.json as plain values; docs/library-format.md lists them.
    layers
        Names of the layers, in the order given when mining.
    class_names
        Names of the classes, empty where none were given.
    preprocessing
        How pictures become the model's input, or None where mining was not told.
    """

    def __init__(self, path: Path):
        self.path = path
        self.manifest: dict[str, Any] = read_manifest(path)
        self._shapes = {layer["name"]: tuple(layer["shape"]) for layer in self.manifest["layers"]}
        self._sizes = {layer["name"]: int(layer["concepts"]) for layer in self.manifest["layers"]}
        self.layers = tuple(self._shapes)
        self.class_names = tuple(self.manifest.get("class_names") or ())
        stored = self.manifest.get("preprocessing")
        try:
            self.preprocessing = Preprocessing.from_json(stored) if stored is not None else None
        except InputError as error:
            raise damaged(path / "manifest.json", shortened(error, 300)) from error
        settings = self.manifest["settings"]
        files = [self.file(layer, table) for layer in self.layers for table in TABLES]
        if settings["class_references"]:
            files += [self.file(layer, "class_references") for layer in self.layers]
        if settings["vectors"]:
            files += [samples_file(path), *(vectors_file(path, layer) for layer in self.layers)]
        for file in files:
            check_file(path, file)

    def file(self, layer: str, table: str) -> Path:
        """File of a layer's table: `"references"`, `"class_references"`, `"statistics"` or `"patches"`."""
        return self.path / "layers" / layer_folder(layer) / f"{table}.safetensors"

    def shape(self, layer: str) -> tuple[int, ...]:
        """Shape `[C, *S]` of a layer's output.

        Raises
        ------
        InputError
            If the library does not hold the layer.
        """
        if layer not in self._shapes:
            raise InputError(f"The library does not hold layer {layer!r}: {nearest(str(layer), self.layers)}")
        return self._shapes[layer]

    def references(self, layer: str, mode: str) -> References:
        """The best samples of every concept of a layer.

        Parameters
        ----------
        layer
            One of `layers`.
        mode
            `"relevance"` (RelMax), `"activation"` (ActMax), or `"negative"`: what a concept speaks against most.

        Raises
        ------
        InputError
            If there is no such layer or mode.
        LibraryError
            If the table is damaged.
        """
        self.shape(layer)
        _check_mode(mode)
        shape, file = (self._concepts(layer), self.manifest["settings"]["k"]), self.file(layer, "references")
        found = read_references(file, mode, shape)
        check_references(file, mode, found, self.limits(layer))
        return found

    def class_references(self, layer: str, target: int | str, mode: str) -> References:
        """The best samples of every concept of a layer, of those explained for one class; only its part is read.

        Parameters
        ----------
        layer
            One of `layers`.
        target
            The class, by index or name.
        mode
            `"relevance"`, `"activation"` or `"negative"`.

        Returns
        -------
        References
            With `settings.class_references` places for each concept.

        Raises
        ------
        InputError
            If there is no such layer, class or mode, or the library keeps no references by class.
        LibraryError
            If the table is damaged.
        """
        target = self.class_index(target)
        count = self.manifest["settings"]["class_references"]
        shape = (self.manifest["classes"], self._concepts(layer), count)
        _check_mode(mode)
        if not count:
            raise InputError(f"The library '{self.path}' keeps no references by class: mine with class_references=3.")
        with open_table(self.file(layer, "class_references")) as table:
            sample = table.part(f"{mode}.sample", np.int64, shape, target)
            found = References(
                sample=sample,
                score=table.part(f"{mode}.score", np.float32, shape, target),
                target=np.where(sample >= 0, target, -1),
                position=table.part(f"{mode}.position", np.int64, shape, target),
            )
        check_references(self.file(layer, "class_references"), mode, found, self.limits(layer))
        return found

    def statistics(self, layer: str) -> ClassStatistics:
        """How much each class uses each concept of a layer; errors as in `references`."""
        classes, concepts = self.manifest["classes"], self._concepts(layer)
        file = self.file(layer, "statistics")
        with open_table(file) as table:
            found = ClassStatistics(
                **{
                    name: table.array(name, np.float64, (classes, concepts))
                    for name in ("share", "share_variance", "activation", "activation_variance")
                },
                among_top=table.array("among_top", np.int64, (classes, concepts)),
                count=table.array("count", np.int64, (classes,)),
            )
        check_statistics(file, found)
        return found

    def concepts_of(
        self, target: int | str, layer: str, *, order: str = "share", count: int | None = None
    ) -> tuple[ConceptUse, ...]:
        """The concepts of a layer that a class uses, the largest first.

        Parameters
        ----------
        target
            The class, by index or name.
        layer
            One of `layers`.
        order
            What the largest is of: `"share"` (mean signed share), `"activation"` (mean score) or `"frequency"` (among
            the leading ones).
        count
            How many rows, by default all.

        Raises
        ------
        InputError
            If there is no such class, layer or order.
        """
        target = self.class_index(target)
        pairs = [(target, concept) for concept in range(self._concepts(layer))]
        return uses(self.statistics(layer), self.class_names, pairs, order, count)

    def classes_of(
        self, layer: str, concept: int, *, order: str = "share", count: int | None = None
    ) -> tuple[ConceptUse, ...]:
        """The classes that use a concept, the largest first, of those with samples; arguments as in `concepts_of`."""
        self.check_concepts(layer, [concept])
        statistics = self.statistics(layer)
        pairs = [(target, concept) for target in np.flatnonzero(statistics.count).tolist()]
        return uses(statistics, self.class_names, pairs, order, count)

    def dead_concepts(self, layer: str) -> DeadConcepts:
        """Concepts of a layer that no sample of the data set used; errors as in `references`."""
        best = {mode: self.references(layer, mode) for mode in MODES}
        below = best["negative"].sample[:, 0] >= 0
        return DeadConcepts(
            never_active=np.flatnonzero(best["activation"].score[:, 0] <= 0),
            never_relevant=np.flatnonzero((best["relevance"].score[:, 0] <= 0) & ~below),
        )

    def vectors(self, layer: str) -> Vectors:
        """Concept vectors of every sample, mapped from disk.

        Raises
        ------
        InputError
            If there is no such layer, or the library was mined without vectors.
        LibraryError
            If a file is damaged.
        """
        concepts = self._concepts(layer)
        if not self.manifest["settings"]["vectors"]:
            raise InputError(f"The library '{self.path}' holds no concept vectors: mine with vectors=True (--vectors).")
        return read_vectors(self.path, layer, self.manifest["data"]["length"], concepts, self.manifest["classes"])

    def class_index(self, target: object) -> int:
        """Index of one class, by name or by index as `crp.class_names.class_index` reads it.

        Raises
        ------
        InputError
            If there is no such class.
        """
        return class_index(self.class_names, target, self.manifest["classes"], "the library")

    def patches(self, layer: str, concept: int, mode: str) -> tuple[Patch, ...]:
        """The stored patches of a concept, best first; empty where none have been made (see `crp.mining.add_patches`).

        Raises
        ------
        InputError
            If there is no such layer, concept or mode.
        LibraryError
            If the table is damaged.
        """
        shape = self.shape(layer)
        _check_mode(mode)
        self.check_concepts(layer, [concept])
        stored = self.stored_patches(layer, [concept]).get(concept, {}).get(mode, ())
        return tuple(decoded(self.file(layer, "patches"), patch, shape[1:], self.class_names) for patch in stored)

    def stored_patches(self, layer: str, concepts: Iterable[int] | None = None) -> LayerPatches:
        """Patches as they are kept, encoded, of some concepts (default: all that have any); errors as in `patches`."""
        self.shape(layer)
        file = self.file(layer, "patches")
        stored = read_patches(file, concepts)
        check_patches(file, stored, self.limits(layer))
        return stored

    def profiles(self, layer: str) -> LayerProfiles:
        """Class profiles and reference samples of a layer's concepts: who uses them, and which are alike.

        Raises
        ------
        InputError
            If the library does not hold the layer.
        LibraryError
            If a table is damaged.
        """
        return LayerProfiles(self.statistics(layer), self.references(layer, "relevance"), self.class_names)

    def concept(self, layer: str, concept: int) -> LibraryConcept:
        """One concept as a value: its patches, the classes that use it, the concepts that are like it.

        Raises
        ------
        InputError
            If there is no such layer or concept.
        """
        self.check_concepts(layer, [concept])
        return LibraryConcept(self, layer, concept)

    def with_patches(self, layer: str) -> list[int]:
        """Concepts of a layer whose patches have been made, in increasing order."""
        self.shape(layer)
        return stored_concepts(self.file(layer, "patches"))

    def limits(self, layer: str) -> Limits:
        """Between what the numbers in a layer's tables lie, as the manifest has it."""
        shape, settings, data = self.shape(layer), self.manifest["settings"], self.manifest["data"]
        return Limits(
            samples=data["length"],
            classes=self.manifest["classes"],
            concepts=self._concepts(layer),
            # a kind of concept of the user's own may count positions along another axis
            positions=math.prod(shape[1:] if settings["concept"] == "ChannelConcept" else shape),
            references=settings["k"],
            picture=tuple(data["shape"][1:]),
            patch_size=settings["patch_size"],
        )

    def check_concepts(self, layer: str, concepts: list[int]) -> None:
        """Refuse concepts that the layer does not have.

        Raises
        ------
        InputError
        """
        count = self._concepts(layer)
        for concept in concepts:
            if not 0 <= concept < count:
                raise InputError(f"There is no concept {concept}: layer {layer!r} has the concepts 0 to {count - 1}.")

    def facts(self) -> list[tuple[str, str]]:
        """What the library holds, in pairs of a word and a value, for people."""
        manifest, settings = self.manifest, self.manifest["settings"]
        layers = [f"{layer} {list(self.shape(layer))}" for layer in self.layers]
        facts = [
            ("path", str(self.path)),
            ("model", f"{manifest['model'].get('class')}, weights {manifest['model']['weights'][:12]}"),
            ("data", f"{manifest['data']['length']} samples, fingerprint {manifest['data']['fingerprint'][:12]}"),
            ("layers", ", ".join(layers)),
            ("composite", manifest["composite"]["name"]),
            ("explained class", str(settings.get("targets"))),
            ("scores", f"relevance {settings.get('relevance_score')}, activation {settings.get('activation_score')}"),
            ("references", f"{settings['k']} for each concept, patches of {settings['patches']}"),
        ]
        return [(word, inert(value)) for word, value in facts]

    def __repr__(self) -> str:
        width = max(len(word) for word, _ in self.facts())
        return "\n".join(["<crp.Library>", *(f"  {word:<{width}}  {value}" for word, value in self.facts())])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{html.escape(word)}</th><td>{html.escape(value)}</td></tr>" for word, value in self.facts()
        )
        return f"<table><caption>crp.Library</caption>{rows}</table>"

    def _concepts(self, layer: str) -> int:
        self.shape(layer)
        return self._sizes[layer]


def _check_mode(mode: str) -> None:
    if mode not in MODES:
        raise InputError(f"There is no mode {mode!r}: {nearest(str(mode), MODES)}")
