"""Which concept a name was given to: a fingerprint that tells it from every other concept, also in other libraries.

A concept is the same as long as model, layer, kind and number are. Where the weights are others (the last layer was
trained again, channels were permuted), it is the same only if it responds to the same samples of the same data set with
the same scores, and no other concept of the layer does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from crp.layout import Layout

from .references import References

# How a manifest describes channels.
CHANNELS = {"kind": "ChannelConcept"}
# How many of the reference samples by activation are remembered, and how many are needed to recognise a concept.
_REMEMBERED, _NEEDED = 8, 3
# Scores of the same concept, computed again, differ by so much of its largest one on other machines.
_SAME = 1e-3
# Another precision of the pass over the data set changes scores by at most so much of the layer's largest one.
_SIMILAR = 5e-2


class FingerprintedLibrary(Protocol):
    """The part of `Library` that a fingerprint is made of."""

    manifest: dict[str, Any]

    def kind(self, layer: str) -> dict[str, Any]:
        """See `Library.kind`."""

    def layout(self, layer: str) -> Layout:
        """See `Library.layout`."""

    def references(self, layer: str, mode: str) -> References:
        """See `Library.references`."""


@dataclass(frozen=True)
class ConceptFingerprint:
    """What tells one concept from all others.

    Attributes
    ----------
    identity
        SHA-256 of the model's weights, the layer, its layout and its kind of concept. With it, the number of a concept
        decides which one is meant.
    kind
        SHA-256 of the same without the weights.
    data, score
        Fingerprint of the data set, and name of the activation score; empty in names that a page exported.
    samples, scores
        The reference samples by activation, best first, at most eight, and their scores; empty in names that a page
        exported.
    """

    identity: str
    kind: str
    data: str = ""
    score: str = ""
    samples: tuple[int, ...] = ()
    scores: tuple[float, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ConceptFingerprint:
        """Read what `to_json` returned; ValueError, KeyError or TypeError if it is something else."""
        texts = {name: content[name] for name in ("identity", "kind")}
        texts |= {name: content.get(name, "") for name in ("data", "score")}
        samples, scores = (list(content.get(name, ())) for name in ("samples", "scores"))
        if not all(isinstance(text, str) for text in texts.values()) or len(samples) != len(scores):
            raise ValueError("a fingerprint is damaged")
        if not all(type(sample) is int for sample in samples) or not np.isfinite(np.array(scores, float)).all():
            raise ValueError("a fingerprint holds samples or scores that are not numbers")
        return cls(**texts, samples=tuple(samples), scores=tuple(map(float, scores)))


class LayerIdentity:
    """Fingerprints of the concepts of one layer of a library, and the check of others against them."""

    def __init__(self, library: FingerprintedLibrary, layer: str) -> None:
        self._library, self._layer = library, layer
        own = [layer, library.kind(layer), _axes(library, layer)]
        self.kind = _digest(own)
        self.identity = _digest([library.manifest["model"]["weights"], *own])
        self._data = library.manifest["data"]["fingerprint"]
        self._score = library.manifest["settings"]["activation_score"]
        self._read: References | None = None

    def of(self, concept: int) -> ConceptFingerprint:
        """Return the fingerprint of a concept."""
        sample, score = (table[concept, :_REMEMBERED] for table in self._responses())
        held = sample >= 0
        return ConceptFingerprint(
            self.identity,
            self.kind,
            self._data,
            self._score,
            tuple(sample[held].tolist()),
            tuple(score[held].tolist()),
        )

    def refusal(self, concept: int, found: ConceptFingerprint) -> str:
        """Say why a name with this fingerprint is not that of the concept; empty if it is.

        Parameters
        ----------
        concept
            Id of a concept of the layer, the number that the name was given to.
        found
            The fingerprint that the name was stored with.
        """
        if found.kind != self.kind:
            return "its layer holds concepts of another kind"
        comparable = found.samples and (found.data, found.score) == (self._data, self._score)
        if found.identity == self.identity:
            if comparable and not self._responds(concept, found, self._largest() * _SIMILAR):
                return "this concept responds to other samples"
            return ""
        if not comparable:
            return "the model has other weights, and there are no scores on the same data to compare"
        if min(len(found.samples), self._responses()[0].shape[1]) < _NEEDED:
            return f"the model has other weights, and fewer than {_NEEDED} reference samples of a concept are stored"
        if found.scores[0] <= 0:
            return "the model has other weights, and the named concept was active on no sample"
        same = [other for other in self._concepts() if self._responds(other, found, found.scores[0] * _SAME)]
        if same == [concept]:
            return ""
        if not same:
            return "the model has other weights, and no concept of the layer responds to the same samples as strongly"
        if len(same) > 1:
            return f"the model has other weights, and {len(same)} concepts of the layer respond to the same samples"
        return f"the model has other weights, and the named concept now has the number {same[0]}"

    def _responses(self) -> tuple[np.ndarray, np.ndarray]:
        if self._read is None:
            self._read = self._library.references(self._layer, "activation")
        return self._read.sample, self._read.score

    def _concepts(self) -> range:
        return range(len(self._responses()[0]))

    def _largest(self) -> float:
        score = self._responses()[1]
        return float(np.abs(score[np.isfinite(score)]).max(initial=0))

    def _responds(self, concept: int, found: ConceptFingerprint, tolerance: float) -> bool:
        """Whether a concept's reference samples are the remembered ones, with the same scores.

        Samples with almost equal scores may have changed places, or one may have taken the last place of another.
        """
        sample, score = (table[concept] for table in self._responses())
        held = sample >= 0
        sample, score = sample[held], score[held].astype(np.float64)
        count = min(len(found.samples), len(sample))
        wanted = np.array(found.scores[:count])
        if count == 0 or (np.abs(score[:count] - wanted) > tolerance).any():
            return False
        now = dict(zip(sample.tolist(), score.tolist(), strict=True))
        return all(
            abs(now.get(known, score[-1]) - value) <= tolerance
            for known, value in zip(found.samples[:count], wanted.tolist(), strict=True)
        )


def _axes(library: FingerprintedLibrary, layer: str) -> Any:
    """Describe the axes that concepts are counted along; channels are the same for inputs of any size."""
    layout = library.layout(layer)
    return [layout.last, layout.channels] if library.kind(layer) == CHANNELS else layout.described()


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
