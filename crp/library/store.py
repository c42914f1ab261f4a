"""An open library, whose tables are read when they are needed."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from crp.arguments import layer_name
from crp.class_names import class_index
from crp.errors import InputError, nearest, shortened
from crp.files import user_path
from crp.indices import concept_id, concept_ids
from crp.layout import Layout
from crp.media.any_preprocessing import preprocessing_from
from crp.values import ConceptMeans

from .concept_fingerprint import CHANNELS
from .library_concept import LibraryConcept
from .library_facts import facts_of, in_lines, in_table
from .library_names import LibraryNames
from .library_patches import LibraryPatches, check_mode
from .manifest import layer_folder, read_manifest
from .means import read_means
from .patches import MODES
from .profiles import LayerProfiles
from .references import (
    ClassStatistics,
    DeadConcepts,
    Limits,
    References,
    check_references,
    check_statistics,
    read_class_references,
    read_references,
    read_statistics,
)
from .tables import check_file, damaged
from .usage import ConceptUse, uses
from .vectors import Vectors, read_vectors, samples_file, vectors_file

TABLES = ("references", "statistics", "patches")


def open_library(path: str | os.PathLike[str]) -> Library:
    """Open a library for reading.

    Only the manifest is read; that the tables exist is checked.

    Parameters
    ----------
    path
        The folder that `crp.mine` wrote. A leading `~` is the home folder.

    Raises
    ------
    LibraryError
        If the folder is not a library, has another schema, or is damaged.
    """
    return Library(user_path(path))


def check_library(library: object) -> None:
    """Refuse anything but an opened library.

    Raises
    ------
    InputError
    """
    if not isinstance(library, Library):
        raise InputError(f"A library is what crp.open_library returns, given {shortened(library)}.")


class Library(LibraryPatches, LibraryNames):
    """A library on disk: references, statistics and patches of concepts.

    Attributes
    ----------
    path
        The folder.
    manifest
        manifest.json as plain values; docs/library-format.md lists them.
    layers
        Names of the layers, in the order given to `mine`.
    layouts
        By layer, what the axes of its output mean.
    mean_sizes
        By layer, of how many numbers the mean parts of its concepts are made, 0 if they were too many to keep; empty
        in libraries without means, which earlier versions mined.
    kind_names
        By layer, the name that the kind of concept gives every concept (empty for those without); `()` if it names
        none. `names` has the labels that people gave in their places.
    class_names, output_names
        Names of the classes and of the model's outputs (the same, unless a start was mined); empty without names.
    preprocessing
        How pictures become model input; None if the library does not say.
    supply
        Makes patches that are missing (`crp.supply_patches`); None if they stay missing.
    samples
        The mined data set, to name its samples (`sample_name(index)`); None if it is not at hand. `crp.mine`,
        `crp.supply_patches` and `crp.make_site` say what it is.
    """

    def __init__(self, path: Path):
        LibraryPatches.__init__(self)
        LibraryNames.__init__(self)
        self.path = path
        self.manifest: dict[str, Any] = read_manifest(path)
        self._shapes = {layer["name"]: tuple(layer["shape"]) for layer in self.manifest["layers"]}
        self.layouts = {layer["name"]: Layout.from_description(layer) for layer in self.manifest["layers"]}
        self._sizes = {layer["name"]: int(layer["concepts"]) for layer in self.manifest["layers"]}
        self.mean_sizes = {layer["name"]: layer["means"] for layer in self.manifest["layers"] if "means" in layer}
        self._kinds = {layer["name"]: layer.get("concept", CHANNELS) for layer in self.manifest["layers"]}
        self.kind_names = {layer["name"]: tuple(layer.get("names", ())) for layer in self.manifest["layers"]}
        self.layers = tuple(self._shapes)
        self.class_names = tuple(self.manifest.get("class_names") or ())
        self.output_names = tuple(self.manifest.get("output_names", self.class_names) or ())
        stored = self.manifest.get("preprocessing")
        try:
            self.preprocessing = preprocessing_from(stored) if stored is not None else None
        except InputError as error:
            raise damaged(path / "manifest.json", shortened(error, 300)) from error
        settings = self.manifest["settings"]
        files = [self.file(layer, table) for layer in self.layers for table in TABLES]
        files += [self.file(layer, "means") for layer, count in self.mean_sizes.items() if count]
        if settings["class_references"]:
            files += [self.file(layer, "class_references") for layer in self.layers]
        if settings["vectors"]:
            files += [samples_file(path), *(vectors_file(path, layer) for layer in self.layers)]
        for file in files:
            check_file(path, file)

    def file(self, layer: str, table: str) -> Path:
        """Return the file of a layer's table, such as `"references"` or `"means"`."""
        return self.path / "layers" / layer_folder(layer) / f"{table}.safetensors"

    def shape(self, layer: str) -> tuple[int, ...]:
        """Return the shape `[C, *S]` of a layer's output.

        Raises
        ------
        InputError
            If the library does not hold the layer.
        """
        if layer_name(layer) not in self._shapes:
            raise InputError(f"The library does not hold layer {layer!r}: {nearest(layer, self.layers)}")
        return self._shapes[layer]

    def space(self, layer: str) -> tuple[int, ...]:
        """Return the extent of the positions of a layer's concepts."""
        layout = self.layout(layer)
        # a kind with methods of its own may count positions along any axis
        return (math.prod(layout.shape),) if self.kind(layer).get("methods") else layout.space

    def kind(self, layer: str) -> dict[str, Any]:
        """Return the kind of a layer's concepts: the name of its class, and what it holds as a `fingerprint`."""
        self.shape(layer)
        return self._kinds[layer]

    def layout(self, layer: str) -> Layout:
        """Return what the axes of a layer's output mean; errors as in `shape`."""
        self.shape(layer)
        return self.layouts[layer]

    def references(self, layer: str, mode: str) -> References:
        """Read the reference samples of every concept of a layer.

        Parameters
        ----------
        layer
            One of `layers`.
        mode
            `"relevance"` (RelMax), `"activation"` (ActMax) or `"negative"` (most negative relevance).

        Raises
        ------
        InputError
            If there is no such layer or mode.
        LibraryError
            If the table is damaged.
        """
        self.shape(layer)
        check_mode(mode)
        shape, file = (self._concepts(layer), self.manifest["settings"]["k"]), self.file(layer, "references")
        found = read_references(file, mode, shape)
        check_references(file, mode, found, self.limits(layer))
        return found

    def class_references(self, layer: str, target: int | str, mode: str) -> References:
        """Read the reference samples of every concept of a layer among the samples explained for one class.

        Only this class's part of the table is read. The tables are `[C, settings.class_references]`.

        Parameters
        ----------
        layer
            One of `layers`.
        target
            The class, by index or name.
        mode
            `"relevance"`, `"activation"` or `"negative"`.

        Raises
        ------
        InputError
            If there is no such layer, class or mode, or the library has no references by class.
        LibraryError
            If the table is damaged.
        """
        target = self.class_index(target)
        count = self.manifest["settings"]["class_references"]
        shape = (self.manifest["classes"], self._concepts(layer), count)
        check_mode(mode)
        if not count:
            raise InputError(f"The library '{self.path}' has no references by class: mine with class_references=3.")
        file = self.file(layer, "class_references")
        found = read_class_references(file, mode, shape, target)
        check_references(file, mode, found, self.limits(layer))
        return found

    def statistics(self, layer: str) -> ClassStatistics:
        """Read how much each class uses each concept of a layer; errors as in `references`."""
        classes, concepts = self.manifest["classes"], self._concepts(layer)
        file = self.file(layer, "statistics")
        found = read_statistics(file, (classes, concepts))
        check_statistics(file, found)
        return found

    def means(self, layer: str) -> ConceptMeans:
        """Read what the mean parts of a layer's concepts are made of; `InputError` if the library holds no means."""
        self.shape(layer)
        return read_means(self.file(layer, "means"), layer, self.mean_sizes.get(layer))

    def concepts_of(
        self, target: int | str, layer: str, *, order: str = "share", count: int | None = None
    ) -> tuple[ConceptUse, ...]:
        """Rank the concepts of a layer by how much a class uses them.

        Parameters
        ----------
        target
            The class, by index or name.
        layer
            One of `layers`.
        order
            Sort key, in descending order: `"share"` (mean signed share), `"activation"` (mean activation score) or
            `"frequency"` (fraction of samples on which the concept is among the leading ones).
        count
            Number of rows; all by default.

        Raises
        ------
        InputError
            If there is no such class, layer or order.
        """
        target = self.class_index(target)
        pairs = [(target, concept) for concept in range(self._concepts(layer))]
        return uses(self.statistics(layer), self.class_names, self.names[layer], pairs, order, count)

    def classes_of(
        self, layer: str, concept: int, *, order: str = "share", count: int | None = None
    ) -> tuple[ConceptUse, ...]:
        """Rank the classes that have samples by how much they use a concept; arguments as in `concepts_of`."""
        concept = self.concept_id(layer, concept)
        statistics = self.statistics(layer)
        pairs = [(target, concept) for target in np.flatnonzero(statistics.count).tolist()]
        return uses(statistics, self.class_names, self.names[layer], pairs, order, count)

    def dead_concepts(self, layer: str) -> DeadConcepts:
        """Find the concepts of a layer that no sample of the data set used; errors as in `references`."""
        best = {mode: self.references(layer, mode) for mode in MODES}
        below = best["negative"].sample[:, 0] >= 0
        return DeadConcepts(
            never_active=np.flatnonzero(best["activation"].score[:, 0] <= 0),
            never_relevant=np.flatnonzero((best["relevance"].score[:, 0] <= 0) & ~below),
        )

    def vectors(self, layer: str) -> Vectors:
        """Open the concept vectors of every sample, memory-mapped.

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
        """Return the index of one class, by name or by index as `crp.class_names.class_index` reads it.

        Raises
        ------
        InputError
            If there is no such class.
        """
        return class_index(self.class_names, target, self.manifest["classes"], "the library")

    def profiles(self, layer: str) -> LayerProfiles:
        """Read class profiles and reference samples: which classes use a concept, and which concepts are similar to it.

        Errors are as in `references`.
        """
        return LayerProfiles(self.statistics(layer), self.references(layer, "relevance"), self.class_names)

    def concept(self, layer: str, concept: int) -> LibraryConcept:
        """Return one concept as an object: its patches, the classes that use it, similar concepts.

        Raises
        ------
        InputError
            If there is no such layer or concept.
        """
        return LibraryConcept(self, layer, self.concept_id(layer, concept))

    def limits(self, layer: str) -> Limits:
        """Return the valid ranges of the numbers in a layer's tables, according to the manifest."""
        settings, data = self.manifest["settings"], self.manifest["data"]
        return Limits(
            samples=data["length"],
            classes=self.manifest["classes"],
            concepts=self._concepts(layer),
            positions=math.prod(self.space(layer)),
            references=settings["k"],
            picture=tuple(data["shape"][1:]),
            patch_size=settings["patch_size"],
        )

    def concept_name(self, layer: str, concept: int) -> str:
        """Return the label that a person gave a concept, or the name that its kind has; empty if it has neither."""
        return self.names[layer][self.concept_id(layer, concept)] if self.names[layer] else ""

    def concept_ids(self, layer: str, concepts: object) -> tuple[int, ...]:
        """Read ids of concepts of a layer, in any form that `crp.indices` reads.

        Raises
        ------
        InputError
            If there is no such layer or concept.
        """
        return concept_ids(concepts, self._concepts(layer), f"layer {layer!r}")

    def concept_id(self, layer: str, concept: object) -> int:
        """Read the id of a single concept of a layer; otherwise as `concept_ids`."""
        return concept_id(concept, self._concepts(layer), f"layer {layer!r}")

    def facts(self) -> list[tuple[str, str]]:
        """List what the library holds as pairs of a label and a value, for display."""
        return facts_of(self.path, self.manifest)

    def __repr__(self) -> str:
        """Return the facts, one per line."""
        return in_lines(self.facts())

    def _repr_html_(self) -> str:
        return in_table(self.facts())

    def _concepts(self, layer: str) -> int:
        self.shape(layer)
        return self._sizes[layer]
