"""The page: one HTML file that opens offline and asks for nothing outside itself.

The template gets finished values only (texts, data URIs, colours); what is computed here is how they look, never
relevance. Everything that comes from outside (class, file and layer names) is text until jinja2 has escaped it, in the
JSON block until `script_json` has; a content security policy in the page forbids all requests besides.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from crp.explanation import ConceptMap, ConceptPart, Explanation, LayerExplanation, Patch, numbers
from crp.visualization import images, palette, wording

# Pictures are embedded no larger than they are shown on a display of double density (stage), or single (patches, many).
STAGE_SIDE = 448
WHERE_SIDE = 224
PATCH_SIDE = 72


def render(explanation: Explanation) -> str:
    """The page of an explanation as a string."""
    height, width = explanation.heatmap.shape
    limit = images.colour_limit(explanation.heatmap)
    target = wording.class_name(explanation.target)
    return (
        _environment()
        .get_template("page.html")
        .render(
            headline=wording.headline(explanation),
            title="".join(text for text, _ in wording.headline(explanation)),
            image_name=explanation.provenance.get("image", ""),
            target=target,
            classes=list(_classes(explanation)),
            picture=images.picture_uri(explanation.picture, side=STAGE_SIDE, quality=88),
            faded=images.picture_uri(images.faded(explanation.picture), side=STAGE_SIDE, quality=75),
            heatmap=images.picture_uri(
                images.overlay(explanation.picture, explanation.heatmap), side=STAGE_SIDE, quality=80
            ),
            heatmap_where=wording.where(explanation.heatmap),
            limit=f"{limit:.2g}",
            scale=[_hex(colour) for colour in images.DIVERGING[:: (images.LEVELS - 1) // 8]],
            height=height,
            width=width,
            small=max(height, width) <= images.SMALL_SIDE,
            layers=[_layer(explanation, layer, index) for index, layer in enumerate(explanation.layers)],
            absorbed=wording.absorbed(explanation),
            provenance=list(_provenance(explanation.provenance)),
            command=explanation.provenance.get("command", ""),
            numbers=script_json(numbers(explanation)),
        )
    )


def script_json(content: Any) -> Markup:
    """JSON that may stand inside a script element: no character in it can end the element or a line of script.

    >>> str(script_json({"name": "</script>"}))
    '{"name":"\\\\u003c/script\\\\u003e"}'
    """
    # json.dumps escapes everything beyond ASCII, U+2028 and U+2029 among it.
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


@cache
def _environment() -> jinja2.Environment:
    templates = {
        entry.name: entry.read_text("utf-8")
        for entry in resources.files("crp.visualization").joinpath("templates").iterdir()
    }
    return jinja2.Environment(
        loader=jinja2.DictLoader(templates),
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
            "probability": score.probability,
            "text": wording.probability(score.probability),
            "logit": f"{score.logit:.2f}".replace("-", wording.MINUS),
            "explained": score.index == explanation.target.index,
        }


def _layer(explanation: Explanation, layer: LayerExplanation, index: int) -> dict[str, Any]:
    colours = palette.concept_colours(layer)
    widest = max((abs(part.share) for part in layer.ranked), default=0) or 1
    cards = [_card(explanation, part, index, colours, widest) for part in layer.ranked]
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
    explanation: Explanation, part: ConceptPart, layer_index: int, colours: Mapping[int, str], widest: float
) -> dict[str, Any]:
    colour = colours.get(part.concept, "")
    return {
        "id": f"layer-{layer_index}-concept-{part.concept}",
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
        "heatmap": images.picture_uri(images.overlay(explanation.picture, part.heatmap), side=WHERE_SIDE, quality=68),
        "strips": [
            {
                "title": "Most relevant for · RelMax",
                "key": "relevance",
                "patches": [_patch(patch) for patch in part.relevance_patches],
            },
            {
                "title": "Most active on · ActMax",
                "key": "activation",
                "patches": [_patch(patch) for patch in part.activation_patches],
            },
        ],
    }


def _patch(patch: Patch) -> dict[str, Any]:
    return {
        "picture": images.jpeg_uri(images.fitted(patch.picture, PATCH_SIDE), quality=66),
        "veil": images.mask_uri(images.veil(patch.heatmap)),
        "text": wording.patch(patch),
        "aspect": f"{patch.picture.shape[1]}/{patch.picture.shape[0]}",
        "wide": patch.picture.shape[1] >= patch.picture.shape[0],
    }


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
