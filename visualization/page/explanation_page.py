"""The page: one HTML file that opens offline and asks for nothing outside itself.

The template gets finished values only (texts, data URIs, colours); what is computed here is how they look, never
relevance. Everything that comes from outside (class, file and layer names) is text until jinja2 has escaped it, in the
JSON blocks until `script_json` has; a content security policy in the page forbids all requests besides.

A page of a site is the same page, but for what all pages of the site share (`shared.py`), which it refers to.

One view is one explanation of the input: of a class, of another class beside it, of the difference of both. Without
scripts the views stand below each other with all they say; the script lets the reader choose, point, search and select.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import jinja2
import numpy as np
from markupsafe import Markup

from crp.explanations import ConceptMap, ConceptPart, Explanation, LayerExplanation, Patch, numbers
from crp.visualization import colours as palette
from crp.visualization import encoding as images
from crp.visualization import wording
from crp.visualization.package_files import template_files
from crp.visualization.page.graph_section import graph_view
from crp.visualization.sheets import glimpse_sheet

if TYPE_CHECKING:
    from crp.visualization.site.shared import Shared

# Pictures are embedded no larger than they are shown on a display of double density (stage), or single (patches, many).
STAGE_SIDE = 448
WHERE_SIDE = 224
PATCH_SIDE = 72
GLIMPSE_SIDE = 44
# Patches of one layer in a row of their common picture.
SPRITE_COLUMNS = 12
# Users of a concept that a card has room for.
USERS = 3
TITLES = {
    "relevance": "Most relevant for · RelMax",
    "activation": "Most active on · ActMax",
    "negative": "Most relevant against",
}
# From a page to the folder of its site.
UP = "../"


def render(explanation: Explanation, shared: Shared | None = None, *, site: Mapping[str, Any] | None = None) -> str:
    """Return the page of an explanation as a string.

    Parameters
    ----------
    explanation
        What it shows.
    shared
        The files of the site that the page belongs to. Without it the page needs nothing outside itself.
    site
        What the page says of that site: its `title`, and its own `place` among the predictions.
    """
    height, width = explanation.heatmap.shape
    views = (explanation, *explanation.beside)
    sprites = _sprites(views) if shared is None else _shared_sprites(views, shared)
    shown: dict[tuple[str, int], str] = {}
    return (
        environment()
        .get_template("page.html")
        .render(
            site=site,
            up=UP,
            headline=wording.headline(explanation),
            title="".join(text for text, _ in wording.headline(explanation)),
            image_name=explanation.provenance.get("image", ""),
            target=wording.class_name(explanation.target),
            classes_title=wording.classes_title(explanation),
            uses_mean=wording.USES_MEAN,
            mined_classes=wording.mined_classes(explanation.provenance.get("settings", {})),
            classes=list(_classes(explanation)),
            picture=images.picture_uri(explanation.picture, side=STAGE_SIDE, quality=88),
            faded=images.picture_uri(images.faded(explanation.picture), side=STAGE_SIDE, quality=75),
            scale=[_hex(colour) for colour in images.DIVERGING[:: (images.LEVELS - 1) // 8]],
            height=height,
            width=width,
            ratio=f"{width / height:.4f}",
            small=max(height, width) <= images.SMALL_SIDE,
            views=[_view(value, index, shown, sprites, shared) for index, value in enumerate(views)],
            sprites=[{"name": f"--s{index}", "uri": sprite["uri"]} for index, sprite in enumerate(sprites.values())],
            provenance=list(_provenance(explanation.provenance)),
            command=explanation.provenance.get("command", ""),
            numbers=script_json(numbers(explanation)),
            cells=script_json([[_cells(layer, sprites[layer.layer]) for layer in value.layers] for value in views]),
        )
    )


def script_json(content: Any) -> Markup:
    r"""JSON that may stand inside a script element: no character in it can end the element or a line of script.

    >>> str(script_json({"name": "</script>"}))
    '{"name":"\\u003c/script\\u003e"}'
    """
    # json.dumps escapes everything beyond ASCII, U+2028 and U+2029 among it.
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


@cache
def environment() -> jinja2.Environment:
    """Return the templates, with everything escaped."""
    return jinja2.Environment(
        loader=jinja2.DictLoader({name: content.decode() for name, content in template_files().items()}),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _classes(explanation: Explanation) -> Iterator[dict[str, Any]]:
    scores = list(explanation.classes)
    if all(score.index != explanation.target.index for score in scores):
        scores.append(explanation.target)
    for score in scores:
        yield {
            "name": wording.class_name(score),
            "width": f"{100 * (score.probability or 0):.2f}",
            "text": wording.class_value(score, explanation.best),
            "logit": f"{score.logit:.2f}".replace("-", wording.MINUS),
            "explained": score.index == explanation.target.index,
        }


def _view(
    explanation: Explanation,
    index: int,
    shown: dict[tuple[str, int], str],
    sprites: Mapping[str, Mapping[str, Any]],
    shared: Shared | None,
) -> dict[str, Any]:
    """One explanation; `shown` names the cards whose patches stand in an earlier view, and is added to."""
    limit = images.colour_limit(explanation.heatmap)
    subject = wording.subject(explanation)
    # Concepts and layers of the first view have the short addresses.
    prefix = f"view-{index}-" if index else ""
    layers = [
        _layer(explanation, layer, number, prefix, shown, shared) for number, layer in enumerate(explanation.layers)
    ]
    cards = {(layer["name"], card["concept"]): card["id"] for layer in layers for card in layer["cards"]}
    return {
        "index": index,
        "prefix": prefix,
        "question": wording.question(explanation),
        "subject": subject,
        "against": explanation.against is not None,
        "heatmap": images.overlay_uri(explanation.picture, explanation.heatmap, side=STAGE_SIDE, quality=80),
        "heatmap_where": wording.where(explanation.heatmap),
        "limit": f"{limit:.2g}",
        "layers": layers,
        "absorbed": wording.absorbed(explanation),
        "graph": explanation.graph and graph_view(explanation.graph, explanation.picture, cards, sprites),
    }


def _layer(
    explanation: Explanation,
    layer: LayerExplanation,
    index: int,
    prefix: str,
    shown: dict[tuple[str, int], str],
    shared: Shared | None,
) -> dict[str, Any]:
    colours = palette.concept_colours(layer)
    widest = max((abs(part.share) for part in layer.ranked), default=0) or 1
    place = f"{prefix}layer-{index}"
    cards = [_card(explanation, part, place, colours, widest, shown, shared) for part in layer.ranked]
    return {
        "index": index,
        "name": layer.layer,
        "size": layer.size,
        "cards": cards,
        "rest": layer.rest,
        "ledger": wording.ledger(layer),
        "hidden": wording.hidden(layer),
        "coverage": wording.coverage(layer),
        "map": layer.concept_map and _map(layer.concept_map, colours, {card["concept"]: card for card in cards}),
    }


def _card(
    explanation: Explanation,
    part: ConceptPart,
    place: str,
    colours: Mapping[int, str],
    widest: float,
    shown: dict[tuple[str, int], str],
    shared: Shared | None,
) -> dict[str, Any]:
    colour = colours.get(part.concept, "")
    key = part.layer, part.concept
    own = f"{place}-concept-{part.concept}"
    first = shown.setdefault(key, own)
    return {
        "id": own,
        "concept": part.concept,
        "share": part.share,
        "relevance": part.relevance,
        "share_text": wording.signed_percent(part.share),
        "side": wording.side(part),
        "where": wording.where(part.heatmap),
        "bar": f"{abs(part.share) / widest * 50:.2f}",
        "segment": f"{abs(part.share) * 100:.3f}",
        "colour": colour,
        "ink": colour and palette.ink(colour),
        "heatmap": images.overlay_uri(explanation.picture, part.heatmap, side=WHERE_SIDE, quality=68),
        "users": [
            {"name": use.name, "text": wording.class_use(use), "width": f"{100 * use.share:.1f}"}
            for use in part.classes[:USERS]
        ],
        # An earlier view shows them: the script brings them here, and without it a link leads there.
        "again": "" if first == own else first,
        "strips": [] if first != own else [_strip(part, mode, shared) for mode in ("relevance", "activation")],
        "page": "" if shared is None else UP + shared.page(*key),
    }


def _strip(part: ConceptPart, mode: str, shared: Shared | None) -> dict[str, Any]:
    patches = getattr(part, f"{mode}_patches")
    if shared is None:
        tiles = [tile(patch, rank) | _embedded(patch) for rank, patch in enumerate(patches)]
    else:
        tiles = [
            tile(patch, rank) | shared.tile(part.layer, part.concept, mode, rank, UP)
            for rank, patch in enumerate(patches)
        ]
    return {"title": TITLES[mode], "key": mode, "patches": tiles}


def tile(patch: Patch, rank: int) -> dict[str, Any]:
    """Return the text about a patch and its shape; `Shared.tile` adds where its picture is."""
    return {
        "rank": rank + 1,
        "text": wording.patch(patch),
        "aspect": f"{patch.picture.shape[1]}/{patch.picture.shape[0]}",
        "wide": patch.picture.shape[1] >= patch.picture.shape[0],
    }


def _embedded(patch: Patch) -> dict[str, str]:
    """Return a patch whose picture is inside its page."""
    picture = images.jpeg_uri(images.fitted(patch.picture, PATCH_SIDE), quality=66)
    return {"picture": picture, "veil": images.mask_uri(images.veil(patch.heatmap)), "cell": ""}


def _cells(layer: LayerExplanation, sprite: Mapping[str, Any]) -> dict[str, Any]:
    """Collect what the script needs to rank any concept anywhere: relevance of all concepts in all cells.

    Cells are int16 with one scale for each concept: a cell is off by at most 1/65534 of its concept's strongest cell.
    """
    content: dict[str, Any] = {
        "layer": layer.layer,
        "size": layer.size,
        "pages": sprite["pages"],
        "relevance": None if layer.relevance is None else [float(f"{value:.6g}") for value in layer.relevance],
        "sprite": {
            "name": sprite["index"], "rows": sprite["rows"], "columns": sprite["columns"], "place": sprite["place"]
        },
    }
    table = None if layer.concept_map is None else layer.concept_map.table
    if table is not None:
        scale = np.abs(table).reshape(-1, table.shape[2]).max(0) / 32767
        steps = np.rint(table / np.where(scale > 0, scale, 1))
        content |= {
            "rows": table.shape[0],
            "columns": table.shape[1],
            "scale": _base64(scale.astype("<f4")),
            "table": _base64(steps.astype("<i2")),
            "winner": layer.concept_map.concept.ravel().tolist(),
        }
    return content


def _base64(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")


def _sprites(views: tuple[Explanation, ...]) -> dict[str, dict[str, Any]]:
    """By layer one picture with a small patch of every concept that any part of the page may name.

    Hundreds of small pictures in one are a fraction of the bytes of as many files.
    """
    patches: dict[str, dict[int, Patch]] = {}
    for view in views:
        for node in view.graph.nodes if view.graph else ():
            if node.patch is not None:
                patches.setdefault(node.layer, {})[node.concept] = node.patch
        for layer in view.layers:
            of_layer = patches.setdefault(layer.layer, {})
            of_layer |= layer.glimpses
            of_layer |= {part.concept: part.relevance_patches[0] for part in layer.ranked if part.relevance_patches}
    sprites = {}
    for index, (name, of_layer) in enumerate(patches.items()):
        sheet = glimpse_sheet(list(of_layer.values()), side=GLIMPSE_SIDE, columns=SPRITE_COLUMNS)
        sprites[name] = {
            "index": index,
            "uri": images.jpeg_uri(sheet, quality=72) if of_layer else "",
            "rows": sheet.shape[0] // GLIMPSE_SIDE,
            "columns": SPRITE_COLUMNS,
            "place": {concept: place for place, concept in enumerate(of_layer)},
            "pages": "",
        }
    return sprites


def _shared_sprites(views: tuple[Explanation, ...], shared: Shared) -> dict[str, dict[str, Any]]:
    """Do the same for a site: one picture with a patch of every concept of the layer, and links to their pages."""
    sprites = {}
    for index, layer in enumerate(dict.fromkeys(layer.layer for view in views for layer in view.layers)):
        found = shared.glimpses(layer)
        uri = UP + found["uri"] if found["uri"] else ""
        sprites[layer] = {**found, "index": index, "uri": uri, "pages": f"{UP}{shared.places[layer]}/"}
    return sprites


def _map(concept_map: ConceptMap, colours: Mapping[int, str], cards: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    rows, columns = concept_map.concept.shape
    height, width = concept_map.shape
    strongest = float(concept_map.relevance.max()) or 1.0
    regions = []
    for concept, total in concept_map.strength().items():
        mask = concept_map.concept == concept
        cells = [
            {
                "x": f"{column * width / columns:.2f}",
                "y": f"{row * height / rows:.2f}",
                "opacity": f"{palette.cell_opacity(concept_map.relevance[row, column], strongest):.2f}",
            }
            for row, column in np.argwhere(mask)
        ]
        regions.append(
            {
                "concept": concept,
                "colour": colours[concept],
                "ink": palette.ink(colours[concept]),
                "card": cards[concept]["id"] if concept in cards else "",
                "cells": cells,
                "count": len(cells),
                "total": f"{total:.3g}",
                "outline": _outline(mask, height / rows, width / columns),
                "labels": [
                    {"x": f"{(column + 0.5) * width / columns:.2f}", "y": f"{(row + 0.5) * height / rows:.2f}"}
                    for row, column in images.label_cells(mask)
                ],
            }
        )
    return {
        "ratio": f"{width / height:.4f}",
        "rows": rows,
        "columns": columns,
        "height": height,
        "width": width,
        "cell_height": f"{height / rows:.2f}",
        "cell_width": f"{width / columns:.2f}",
        "font": f"{min(0.42 * width / columns, 0.5 * height / rows, 0.055 * max(width, height)):.2f}",
        "line": f"{max(height, width) / 220:.2f}",
        "blank": int((concept_map.concept < 0).sum()),
        "regions": regions,
        "text": _map_text(concept_map),
    }


def _map_text(concept_map: ConceptMap) -> str:
    strength = concept_map.strength()
    rows, columns = concept_map.concept.shape
    if not strength:
        return f"Concept map, {rows} by {columns} cells, all blank."
    first = [f"concept {i} {wording.where(concept_map.concept == i)}" for i in list(strength)[:3]]
    return f"Concept map, {rows} by {columns} cells, {len(strength)} concepts. The strongest: {', '.join(first)}."


def _outline(mask: np.ndarray, cell_height: float, cell_width: float) -> str:
    return "".join(
        f"M{left * cell_width:.2f} {top * cell_height:.2f}L{right * cell_width:.2f} {bottom * cell_height:.2f}"
        for (top, left), (bottom, right) in images.contour(mask)
    )


def _provenance(provenance: Mapping[str, Any]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Headed groups of (name, value), single values first under "input"."""
    plain = [
        (name, _text(value))
        for name, value in provenance.items()
        if not isinstance(value, Mapping) and name != "command"
    ]
    if plain:
        yield "input", plain
    for name, value in provenance.items():
        if isinstance(value, Mapping):
            yield name, [(str(key), _text(entry)) for key, entry in value.items()]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _hex(colour: np.ndarray) -> str:
    return "#" + "".join(f"{channel:02x}" for channel in colour)
