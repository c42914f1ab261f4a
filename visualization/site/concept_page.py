"""Pages about concepts: one for each concept, and one for all concepts of a layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple
from typing import Any
from urllib.parse import quote

from crp.explanations.entries import Entry, Neighbour
from crp.graphs.concept_graph import NO_CONCEPT, REST, Key
from crp.library.patches import MODES
from crp.library.profiles import Likeness
from crp.relevance_shares import LEAST_SHARE
from crp.values import ClassShare, Patch
from crp.visualization import concept_names, effect_wording, triage_wording, wording
from crp.visualization.page.explanation_page import environment, script_json
from crp.visualization.page.patch_tiles import strip
from crp.visualization.page.sounds import Sounds
from crp.visualization.picture_formats import SUFFIX
from crp.visualization.site.sample_uses import SampleUses
from crp.visualization.site.shared import Shared

UP = "../../"
USERS, OPPONENTS, ALIKE, PREDICTIONS, NEIGHBOURS = 8, 4, 8, 24, 8
# Characters of a concept's name, in the heading and beside glimpses.
HEADING_LENGTH, NAME_LENGTH = 80, 24


class ConceptPages:
    """The concept pages of a layer.

    Parameters
    ----------
    shared
        Files of the site.
    layer
        The layer.
    site
        What pages say about their site: its `title`, its `layers` with their pages, the number of `predictions`.
    shown, neighbours
        By concept, the predictions that have a card for it (`appearances`), and its neighbours in their graphs
        (`neighbours`).
    samples
        The mined samples.
    """

    def __init__(
        self,
        shared: Shared,
        layer: str,
        site: Mapping[str, Any],
        shown: Mapping[Key, Sequence[tuple[Entry, float]]],
        neighbours: Mapping[Key, tuple[Sequence[Neighbour], Sequence[Neighbour]]],
        samples: SampleUses,
    ) -> None:
        self._shared = shared
        self._layer = layer
        self._site = site
        self._shown = shown
        self._neighbours = neighbours
        self._samples = samples
        self._root = samples.root(shared.folder)
        self._profiles = shared.library.profiles(layer)
        self._given = shared.library.naming(layer)
        self.size = self._profiles.share.shape[1]
        self._uses_mean = wording.USES_MEAN[0].upper() + wording.USES_MEAN[1:]
        # The profile of a model with one output has one row: there are no classes to compare.
        self._one_output = len(self._profiles.share) == 1
        settings = shared.library.manifest["settings"]
        self._mined_classes = "" if self._one_output else wording.mined_classes(settings)

    def overview(self) -> str:
        """Write the page of all concepts of the layer."""
        return _rendered(
            "concepts.html",
            self._site,
            title=self._layer,
            layer=self._layer,
            items=[self._item(concept) for concept in range(self.size)],
            references=self._shared.library.manifest["data"].get("length"),
            uses_mean=self._uses_mean,
            mined_classes=self._mined_classes,
            one_output=self._one_output,
            sprites=self._sprites([self._layer]),
        )

    def shown_on(self, concept: int) -> list[Any]:
        """Return what of the site's predictions the page of a concept depends on, as plain values."""
        key = self._layer, concept
        shown = self._shown.get(key, ())
        above, below = self._neighbours.get(key, ((), ()))
        return [
            [[entry.name, entry.page, *astuple(entry.target), share] for entry, share in shown],
            [triage_wording.label(entry) for entry, _ in shown],
            [list(entry.effects.get(key, ())) for entry, _ in shown],
            [[astuple(other) for other in side] for side in (above, below)],
        ]

    def page(self, concept: int) -> str:
        """Write the page of one concept."""
        key = self._layer, concept
        name = self._name(self._layer, concept)
        patches = self._shared.patches(self._layer, concept)
        sheet = self._shared.sheet(self._layer, concept, patches)
        sounds = Sounds("a concept")
        strips = [
            self._strip(concept, mode, of_mode, sounds)
            for mode, of_mode in zip(MODES, patches, strict=True)
            if of_mode
        ]
        users, opponents = self._users(concept, USERS), self._users(concept, OPPONENTS, sign=-1)
        # One scale for both, so that bars for and against can be compared.
        widest = max((abs(use.share) for use in (*users, *opponents)), default=1)
        shown = self._shown.get(key, ())
        samples = self._samples.of(*key)
        above, below = self._neighbours.get(key, ((), ()))
        layers = {self._layer, *(other.layer for other in (*above, *below))} & self._shared.places.keys()
        return _rendered(
            "concept.html",
            self._site,
            title=f"{self._layer}, {concept_names.in_sentence(concept, name)}",
            layer=self._layer,
            concept=concept,
            of=f"{self._layer}/{concept}",
            given=self._given.of(concept),
            name=wording.shortened(name, HEADING_LENGTH),
            full=concept_names.full(self._layer, concept, name),
            size=self.size,
            strips=strips,
            patches=self._shared.sheet_rule("p0", self._layer, concept, UP),
            missing=wording.missing_patches(self._shared.missing(self._layer, concept), sum(map(len, patches))),
            sounds=sounds,
            columns=sheet.columns,
            users=_bars(users, widest),
            unused=not (self._profiles.used[concept] or self._one_output),
            uses_mean=self._uses_mean,
            layer_share_means=wording.LAYER_SHARE_MEANS,
            mined_classes=self._mined_classes,
            one_output=self._one_output,
            opponents=_bars(opponents, widest),
            alike_by_classes=[
                self._alike(other, f"{other.value:.2f}") for other in self._profiles.alike_by_classes(concept, ALIKE)
            ],
            alike_by_samples=[
                self._alike(other, f"{other.value:.0f} of {self._profiles.samples.shape[1]}")
                for other in self._profiles.alike_by_samples(concept, ALIKE)
            ],
            predictions=[self._prediction(entry, share) for entry, share in shown[:PREDICTIONS]],
            further=max(0, len(shown) - PREDICTIONS),
            count=len(shown),
            accuracy=triage_wording.accuracy([entry for entry, _ in shown]),
            wrong=any(
                triage_wording.is_right(entry) is False and abs(share) >= triage_wording.HOLDS
                for entry, share in shown
            ),
            holds=triage_wording.HOLDS,
            effect=effect_wording.mean_effect([entry for entry, _ in shown], key),
            above=[self._neighbour(other) for other in above[:NEIGHBOURS]],
            below=[self._neighbour(other) for other in below[:NEIGHBOURS]],
            samples=samples,
            samples_say=triage_wording.NO_SAMPLES if samples is None else _samples_say(samples),
            samples_json="" if samples is None else script_json(samples),
            sprites=self._sprites(sorted(layers)),
        )

    def _users(self, concept: int, limit: int, *, sign: int = 1) -> list[ClassShare]:
        users = self._profiles.users(concept, limit, sign=sign)
        return [use for use in users if abs(use.share) >= LEAST_SHARE]

    def _item(self, concept: int) -> dict[str, Any]:
        users = self._users(concept, 3) or (self._users(concept, 1, sign=-1) if self._one_output else [])
        count = len(self._shown.get((self._layer, concept), ()))
        names = [wording.printable(use.name) for use in users]
        name = self._name(self._layer, concept)
        return {
            "concept": concept,
            "name": wording.shortened(name, NAME_LENGTH),
            "full": concept_names.full(self._layer, concept, name),
            "glimpse": self._glimpse(self._layer, concept),
            "user": names[0] if names else "",
            "mean": wording.class_mean(users[0]) if users else "",
            "samples": users[0].samples if users else 0,
            "count": count,
            "text": " ".join([str(concept), name, *names]).lower(),
        }

    def _alike(self, other: Likeness, text: str) -> dict[str, Any]:
        return {
            "concept": other.concept,
            "name": wording.shortened(self._name(self._layer, other.concept), NAME_LENGTH),
            "page": f"{other.concept}.html",
            "glimpse": self._glimpse(self._layer, other.concept),
            "text": text,
        }

    def _prediction(self, entry: Entry, share: float) -> dict[str, Any]:
        return {
            "name": entry.name,
            "page": f"{UP}predictions/{entry.page}.html#{quote(self._layer, safe='')}",
            "picture": f"{UP}predictions/{entry.page}{SUFFIX}",
            "class": wording.class_name(entry.target),
            "share": wording.bounded_percent(share),
            "side": "supports" if share > 0 else "opposes",
            "truth": triage_wording.label(entry),
            "right": triage_wording.is_right(entry),
        }

    def _strip(self, concept: int, mode: str, patches: Sequence[Patch], sounds: Sounds) -> dict[str, Any]:
        heard = self._shared.sounds(self._layer, concept, mode, patches, UP, sounds)
        found = strip(mode, patches, heard, self._shared.renderer)
        tiles = [tile | self._caption(patch) for tile, patch in zip(found["patches"], patches, strict=True)]
        low = triage_wording.low_scores(mode, [patch.score for patch in patches])
        return found | {"patches": tiles, "low": low}

    def _caption(self, patch: Patch) -> dict[str, str]:
        name = "" if self._one_output else wording.patch_class(patch)
        return {
            "name": name or wording.sample_caption(patch),
            "score": f"{patch.score:.3g}".replace("-", wording.MINUS),
            "source": f"{UP}{self._root}{quote(patch.sample_name)}" if self._root else "",
        }

    def _neighbour(self, other: Neighbour) -> dict[str, Any]:
        known = other.layer in self._shared.places and other.concept != REST
        name = self._name(other.layer, other.concept) if known else ""
        own = NO_CONCEPT if other.concept == REST else concept_names.label(other.concept, name, NAME_LENGTH)
        return {
            "name": other.name or own,
            "concept": other.concept,
            "length": NAME_LENGTH,
            "layer": "" if other.name else other.layer,
            "page": UP + self._shared.page(other.layer, other.concept) if known else "",
            "glimpse": self._glimpse(other.layer, other.concept) if known else None,
            "share": _edge_share(other.share),
            "side": "supports" if other.share > 0 else "opposes",
            "count": other.predictions,
        }

    def _name(self, layer: str, concept: int) -> str:
        return self._shared.library.concept_name(layer, concept)

    def _glimpse(self, layer: str, concept: int) -> dict[str, str] | None:
        """Say where the small patch of a concept lies: the class of its sheet, and the cell; None if it has none."""
        cell = self._shared.glimpses(layer).cell(concept)
        return {"sheet": _sheet_name(self._shared, layer), "cell": cell} if cell else None

    def _sprites(self, layers: Sequence[str]) -> list[dict[str, str]]:
        return sprites(self._shared, layers, UP)


def sprites(shared: Shared, layers: Sequence[str], up: str) -> list[dict[str, str]]:
    """Return the custom properties that hold the addresses of sheets of glimpses, and the rules of their classes."""
    found = []
    for layer in layers:
        glimpses, name = shared.glimpses(layer), _sheet_name(shared, layer)
        if glimpses.concepts:
            rule = f".{name}{{background-image:var(--{name});{glimpses.sheet.size}}}"
            found.append({"name": f"--{name}", "uri": shared.glimpse_uri(layer, up), "rule": rule})
    return found


def _sheet_name(shared: Shared, layer: str) -> str:
    return f"g{list(shared.places).index(layer)}"


def _edge_share(share: float) -> str:
    # Many edges carry less than the 0.1 % to which other shares are rounded: these keep one significant digit.
    if 1e-6 < abs(share) < 0.001:
        return f"{100 * share:+.1g}{wording.SPACE}%".replace("-", wording.MINUS)
    return wording.share_of_all(share)


def _bars(uses: Sequence[ClassShare], widest: float) -> list[dict[str, str]]:
    return [
        {
            "name": use.name,
            "text": wording.class_use(use),
            "width": f"{100 * abs(use.share) / widest:.1f}",
        }
        for use in uses
    ]


def _samples_say(samples: Mapping[str, Any]) -> str:
    return triage_wording.sample_uses(samples["count"], samples["mined"], len(samples["pairs"]) // 2)


def _rendered(template: str, site: Mapping[str, Any], **values: Any) -> str:
    return environment().get_template(template).render(site=site, up=UP, **values)
