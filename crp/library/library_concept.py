"""One concept of a library, with properties that are read when needed and a view for notebooks."""

from __future__ import annotations

import base64
import html
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from crp.errors import InputError
from crp.sample_names import sample_words
from crp.values import ClassShare, ConceptMeans, Patch

from .patch_files import PatchFiles
from .patches import MODES, LayerPatches, StoredPatch
from .profiles import LayerProfiles, Likeness

_TITLES = {"relevance": "most relevant for", "activation": "most active on", "negative": "most relevant against"}
_SHOWN = 5
# Kinds of concept of which the means are one number each.
_ONE_NUMBER = ("ChannelConcept", "Directions")


class ConceptSource(Protocol):
    """The part of `Library` that a concept uses."""

    def kind(self, layer: str) -> dict[str, Any]:
        """See `Library.kind`."""

    def means(self, layer: str) -> ConceptMeans:
        """See `Library.means`."""

    def patches(self, layer: str, concept: int, mode: str) -> tuple[Patch, ...]:
        """See `Library.patches`."""

    def stored_patches(self, layer: str, concepts: list[int]) -> LayerPatches:
        """See `Library.stored_patches`."""

    def patch_files(self, layer: str) -> PatchFiles:
        """See `Library.patch_files`."""

    def profiles(self, layer: str) -> LayerProfiles:
        """See `Library.profiles`."""

    def concept_name(self, layer: str, concept: int) -> str:
        """See `Library.concept_name`."""

    def sample_name(self, index: int) -> str:
        """See `Library.sample_name`."""


@dataclass(frozen=True, eq=False)
class LibraryConcept:
    """One concept of a library, as `Library.concept` returns it.

    Attributes
    ----------
    library
        The library.
    layer, concept
        Layer and id of the concept.
    """

    library: ConceptSource
    layer: str
    concept: int

    def patches(self, mode: str) -> tuple[Patch, ...]:
        """Read its patches of a mode, best first; see `Library.patches`."""
        return self.library.patches(self.layer, self.concept, mode)

    @property
    def name(self) -> str:
        """Its name; empty if it has only its number."""
        return self.library.concept_name(self.layer, self.concept)

    @cached_property
    def mean(self) -> float:
        """Its mean over samples and positions: of a channel the mean activation, of a direction the mean coefficient.

        Raises
        ------
        InputError
            If the library holds no means, or the kind of concept has more than one number for each.
        """
        kind = self.library.kind(self.layer)["kind"]
        if kind not in _ONE_NUMBER:
            raise InputError(f"The mean of a {kind} is more than one number: see library.means({self.layer!r}).")
        return float(self.library.means(self.layer).numbers[self.concept])

    @cached_property
    def users(self) -> tuple[ClassShare, ...]:
        """The classes that use it most, by its mean share in them, largest first."""
        return self._profiles.users(self.concept, _SHOWN)

    @cached_property
    def alike_by_classes(self) -> tuple[Likeness, ...]:
        """Concepts of the layer that the same classes use, in descending order of the cosine of class profiles."""
        return self._profiles.alike_by_classes(self.concept, _SHOWN)

    @cached_property
    def alike_by_samples(self) -> tuple[Likeness, ...]:
        """Concepts of the layer that share the most reference samples."""
        return self._profiles.alike_by_samples(self.concept, _SHOWN)

    @cached_property
    def _profiles(self) -> LayerProfiles:
        return self.library.profiles(self.layer)

    def __repr__(self) -> str:
        """Return a line with the classes that use the concept most."""
        users = ", ".join(f"{use.name} {use.share:+.1%} (n = {use.samples})" for use in self.users)
        name = f" ({self.name})" if self.name else ""
        return f"<concept {self.concept}{name} of {self.layer}: used most by {users or 'no class'}>"

    def _repr_html_(self) -> str:
        for mode in MODES:
            self.patches(mode)  # makes those that are missing, if the library can
        stored = self.library.stored_patches(self.layer, [self.concept]).get(self.concept, {})
        files = self.library.patch_files(self.layer)
        missing = len(files.missing(files.keys([self.concept])))
        rows = [
            (
                "used most by",
                ", ".join(
                    f"<bdi>{html.escape(use.name)}</bdi> {use.share:+.1%} (n = {use.samples})" for use in self.users
                ),
            ),
            ("similar, by classes", ", ".join(f"{one.concept} ({one.value:.2f})" for one in self.alike_by_classes)),
            ("similar, by samples", ", ".join(f"{one.concept} ({one.value:.0f})" for one in self.alike_by_samples)),
        ]
        if missing:
            rows.insert(0, ("patches", f"{missing} have not been made yet (crp.supply_patches, crp patches)"))
        pictures = {
            mode: "".join(_picture(patch, self.library.sample_name(patch.sample)) for patch in stored.get(mode, ()))
            for mode in MODES
        }
        rows = [(_TITLES[mode], pictures[mode]) for mode in MODES] + rows
        cells = "".join(
            f'<tr><th style="text-align:left">{title}</th><td style="text-align:left">{content}</td></tr>'
            for title, content in rows
            if content
        )
        name = f" <bdi>{html.escape(self.name)}</bdi>" if self.name else ""
        caption = f"Concept {self.concept}{name} of <bdi>{html.escape(self.layer)}</bdi>"
        return f"<table><caption>{caption}</caption>{cells}</table>"


def _picture(patch: StoredPatch, sample_name: str) -> str:
    text = html.escape(f"{sample_words(patch.sample, sample_name)}, score {patch.score:.3g}")
    if patch.heatmap.ndim != 2:  # a window of a signal, a box of a volume
        ends = zip(patch.box[: patch.heatmap.ndim], patch.box[patch.heatmap.ndim :], strict=True)
        return f"{text}, from {' and '.join(f'{first} to {last}' for first, last in ends)}<br>"
    kind = "png" if patch.picture.startswith(b"\x89PNG") else "jpeg"
    data = base64.b64encode(patch.picture).decode("ascii")
    style = "height:72px;display:inline-block;margin:0 4px 0 0"
    return f'<img src="data:image/{kind};base64,{data}" alt="{text}" title="{text}" style="{style}">'
