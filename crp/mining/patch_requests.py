"""Which patches to make, and which of them share a forward or a backward pass."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from crp.library.patch_segments import PatchKey
from crp.library.patches import MODES
from crp.library.references import References


@dataclass(frozen=True)
class Request:
    """A patch to make: the reference of a concept at one rank, in one mode."""

    layer: str
    mode: str
    concept: int
    rank: int
    sample: int
    score: float
    target: int
    position: int

    @property
    def key(self) -> PatchKey:
        """The patch in its layer."""
        return self.concept, MODES.index(self.mode), self.rank


# Requests whose heatmaps differ at most in sign, so that one backward pass serves them all.
Origin = list[Request]
# Requests by sample and the target explained for it.
Explained = Mapping[tuple[int, int], list[Request]]


def requests(
    wanted: Mapping[str, Iterable[PatchKey]], references: Mapping[str, Mapping[str, References]]
) -> list[Request]:
    """Request patches, given by layer; `references` are by layer and mode."""
    return [
        Request(
            layer,
            mode,
            concept,
            rank,
            sample=int(found.sample[concept, rank]),
            score=float(found.score[concept, rank]),
            target=int(found.target[concept, rank]),
            position=int(found.position[concept, rank]),
        )
        for layer, keys in wanted.items()
        for concept, place, rank in keys
        for mode in [MODES[place]]
        for found in [references[layer][mode]]
    ]


def by_explained(wanted: Iterable[Request]) -> Explained:
    """Group requests by sample and target, in the order in which these first occur."""
    explained = defaultdict(list)
    # a sample with several labels may be a reference for several of them
    for request in wanted:
        explained[request.sample, request.target].append(request)
    return explained


def passes_of(
    wanted: Iterable[Request], layer: str, fields: np.ndarray, *, linear: bool, unit: bool
) -> list[list[Origin]]:
    """Arrange the requests of one sample in a layer by backward pass: lists of origins that can share one.

    Parameters
    ----------
    wanted
        Requests of one sample and target.
    layer
        The layer.
    fields
        Receptive fields of its positions.
    linear
        Whether all rules are linear. If not, every origin and every mode needs its own pass.
    unit
        Whether a position of a concept is a single unit of the layer: then what starts in different modes differs only
        in its factor. Otherwise the relevance of a position and its activation start separately.
    """
    sharing = defaultdict(list)
    for request in wanted:
        if request.layer == layer:
            if unit:
                # without linear rules, changing the sign of the start changes more than the sign of the heatmap
                mode = "" if linear else request.mode
            else:
                mode = "activation" if request.mode == "activation" else "relevance"
            sharing[request.concept, request.position, mode].append(request)
    origins = list(sharing.values())
    return _disjoint(origins, fields) if linear else [[origin] for origin in origins]


def _disjoint(origins: Iterable[Origin], fields: np.ndarray) -> list[list[Origin]]:
    """Group origins whose receptive fields do not overlap, so that their heatmaps do not mix."""
    passes: list[list[Origin]] = []
    for origin in origins:
        first, last = np.split(fields[origin[0].position], 2)
        for together in passes:
            firsts, lasts = np.split(fields[[other[0].position for other in together]], 2, axis=1)
            if ((lasts <= first) | (last <= firsts)).any(axis=1).all():
                together.append(origin)
                break
        else:
            passes.append([origin])
    return passes


def known_sign(request: Request) -> float | None:
    """Return the sign of the value from which a patch starts, if it follows from the score.

    If a sum or a maximum of values is positive, the largest value is positive; and the smallest value of a negative sum
    is negative.
    """
    if request.mode == "negative":
        return -1.0
    return 1.0 if request.mode == "relevance" and request.score > 0 else None
