"""What people say about concepts: `GivenName`, and how the names of several people are merged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from crp.errors import InputError, nearest, shortened

from .concept_fingerprint import ConceptFingerprint

# What a person decided about a concept.
VERDICTS = ("artefact", "fine", "unsure")
# Longest texts, in characters, and most tags.
_LABEL, _NOTE, _TAGS = 120, 10_000, 40

Key = tuple[str, int]


@dataclass(frozen=True)
class GivenName:
    """What one person said about one concept.

    Attributes
    ----------
    layer, concept
        The concept.
    label
        Its name, one line of at most 120 characters; empty if it has none.
    note
        A text of at most 10,000 characters.
    tags
        At most 40 words or short phrases.
    verdict
        `"artefact"`, `"fine"`, `"unsure"`, or empty.
    author
        Who said it; may be empty.
    date
        When, in UTC: `"2026-11-29T17:40:05Z"`.
    fingerprint
        Of the concept; None only until it is stored.

    Raises
    ------
    InputError
        If a value is not of this form.
    """

    layer: str
    concept: int
    label: str = ""
    note: str = ""
    tags: tuple[str, ...] = ()
    verdict: str = ""
    author: str = ""
    date: str = ""
    fingerprint: ConceptFingerprint | None = None

    def __post_init__(self) -> None:
        """Check and convert the fields."""
        texts = {"label": _LABEL, "note": _NOTE, "verdict": _LABEL, "author": _LABEL, "date": _LABEL}
        for name, longest in texts.items():
            text = _text(name, getattr(self, name), longest)
            object.__setattr__(self, name, text.strip() if name == "note" else " ".join(text.split()))
        if isinstance(self.tags, str) or len(tuple(self.tags)) > _TAGS:
            raise InputError(f"Tags are a list of at most {_TAGS} texts, given {shortened(self.tags)}.")
        tags = (" ".join(_text("tag", tag, _LABEL).split()) for tag in self.tags)
        object.__setattr__(self, "tags", tuple(dict.fromkeys(tag for tag in tags if tag)))
        if self.verdict and self.verdict not in VERDICTS:
            raise InputError(f"There is no verdict {self.verdict!r}: {nearest(self.verdict, VERDICTS)}")
        if self.date:
            object.__setattr__(self, "date", _date(self.date))

    @property
    def key(self) -> Key:
        """(layer, concept)."""
        return self.layer, self.concept

    @property
    def address(self) -> str:
        """The concept as people write it, such as "conv5/37"."""
        return f"{self.layer}/{self.concept}"

    @property
    def empty(self) -> bool:
        """Whether it says nothing: what was said before has been removed."""
        return not (self.label or self.note or self.tags or self.verdict)

    @property
    def said(self) -> tuple[str, str, tuple[str, ...], str]:
        """Label, note, tags and verdict."""
        return self.label, self.note, self.tags, self.verdict

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "layer": self.layer,
            "concept": self.concept,
            "label": self.label,
            "note": self.note,
            "tags": list(self.tags),
            "verdict": self.verdict,
            "author": self.author,
            "date": self.date,
            "fingerprint": self.fingerprint and self.fingerprint.to_json(),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> GivenName:
        """Read what `to_json` returned.

        Raises
        ------
        InputError, ValueError, KeyError, TypeError
            If it cannot be what `to_json` returns.
        """
        layer, concept, stored = content["layer"], content["concept"], content.get("fingerprint")
        if not isinstance(layer, str) or type(concept) is not int or concept < 0:
            raise ValueError(f"{shortened(layer)}/{shortened(concept)} is no concept")
        texts = {name: content.get(name, "") for name in ("label", "note", "verdict", "author", "date")}
        tags = content.get("tags", ())
        fingerprint = None if stored is None else ConceptFingerprint.from_json(stored)
        return cls(layer, concept, tags=tags, fingerprint=fingerprint, **texts)


@dataclass(frozen=True)
class LayerNaming:
    """How the concepts of a layer are named, and which concepts these are.

    Attributes
    ----------
    identity, kind
        As in `ConceptFingerprint`.
    kind_names
        The names that the kind of concept gives; `()` if it names none.
    given
        What people said about concepts of the layer.
    """

    identity: str
    kind: str
    kind_names: tuple[str, ...] = ()
    given: tuple[GivenName, ...] = ()

    def of(self, concept: int) -> GivenName:
        """Return what people said about a concept; an empty name if nothing."""
        found = [name for name in self.given if name.concept == concept]
        return found[0] if found else GivenName("", concept)

    def to_json(self) -> dict[str, Any]:
        """Return plain values; fingerprints of single concepts are left out."""
        given = [{**name.to_json(), "fingerprint": None} for name in self.given]
        return {"identity": self.identity, "kind": self.kind, "kind_names": list(self.kind_names), "given": given}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> LayerNaming:
        """Read what `to_json` returned; errors as in `GivenName.from_json`."""
        given = tuple(GivenName.from_json(name) for name in content["given"])
        return cls(str(content["identity"]), str(content["kind"]), tuple(map(str, content["kind_names"])), given)


@dataclass(frozen=True)
class Conflict:
    """Two people said different things about one concept; `kept` is the newer one."""

    kept: GivenName
    other: GivenName

    def __str__(self) -> str:
        """Say both, in a line."""
        return f"{self.kept.address}: {_told(self.kept)} is kept, {_told(self.other)} is older"


def merged(
    ours: Mapping[Key, GivenName], theirs: Iterable[GivenName]
) -> tuple[dict[Key, GivenName], tuple[Conflict, ...]]:
    """Merge names: of two on the same concept, the newer one is kept. The order does not matter.

    Returns
    -------
    tuple of dict and tuple of Conflict
        All names by concept, and those pairs that say different things.
    """
    found, conflicts = dict(ours), []
    for other in theirs:
        own = found.get(other.key)
        if own is None:
            found[other.key] = other
            continue
        kept, left = sorted((own, other), key=_age, reverse=True)
        found[other.key] = kept
        if kept.said != left.said:
            conflicts.append(Conflict(kept, left))
    return found, tuple(conflicts)


def today() -> str:
    """Return the present time in UTC, as `GivenName.date`."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def changed(name: GivenName, **fields: Any) -> GivenName:
    """Return a name with some fields changed; those that are None stay as they are."""
    return replace(name, **{field: value for field, value in fields.items() if value is not None})


def _age(name: GivenName) -> tuple[str, str]:
    # Of two with the same date, any fixed order makes merging independent of the order of its arguments.
    return name.date, repr((*name.said, name.author))


def _told(name: GivenName) -> str:
    words = repr(name.label) if name.label else "no label"
    more = [name.verdict, *(f"tag {tag!r}" for tag in name.tags), *(["a note"] if name.note else [])]
    whose = " ".join(filter(None, (name.author, name.date))) or "without a date"
    return f"{', '.join([words, *filter(None, more)])} ({whose})"


def _text(what: str, value: object, longest: int) -> str:
    if not isinstance(value, str):
        raise InputError(f"The {what} of a name is a text, given {shortened(value)}.")
    if len(value) > longest:
        raise InputError(f"The {what} of a name has at most {longest} characters, given {len(value)}.")
    if not value.isascii():
        value = value.encode("utf-8", "replace").decode()  # no file can hold lone surrogates
    return value


def _date(text: str) -> str:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise InputError(f"The date of a name has the form 2026-11-29T17:40:05Z, given {shortened(text)}.")
    return found.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
