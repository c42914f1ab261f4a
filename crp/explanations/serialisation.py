"""Explanations as JSON.

`numbers` gives names and numbers, which a page embeds; `to_json` adds every array; `from_json` reads the latter back.
"""

from __future__ import annotations

import dataclasses
import math
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from crp.errors import InputError
from crp.explanations.ablations import ablation_arrays, ablation_numbers, ablations_from
from crp.explanations.concept_map import ConceptMap
from crp.explanations.explanation import ConceptPart, Explanation, LayerExplanation
from crp.graphs.concept_graph import graph_arrays, graph_from, graph_numbers
from crp.library.given_names import LayerNaming
from crp.media.medium import Medium
from crp.places import ContextUse, Place, context_use
from crp.values import (
    ClassShare,
    ConceptEffect,
    class_from,
    class_numbers,
    defined,
    packed,
    packed_patch,
    patch_from,
    patch_numbers,
    target_from,
    undefined,
    unpacked,
)

FORMAT = "crp-atlas explanation"
VERSION = 1
_ABLATIONS = ("ablations", "mean_ablations")
_DEPARTURE = ("module", "operation", "left")


def numbers(explanation: Explanation) -> dict[str, Any]:
    """Turn names and numbers of an explanation into plain JSON values, without pictures, heatmaps and tables of cells.

    Undefined numbers (NaN) are None. Pages embed this; `to_json` adds the arrays. `share` is the share of the layer in
    `layers`, and the share of the prediction in `graph` (see `ConceptPart` and `GraphNode`).
    """
    shape = explanation.heatmap.shape
    return {
        "format": FORMAT,
        "version": VERSION,
        "input": dict(zip(("height", "width"), shape, strict=True)) if len(shape) == 2 else {"shape": list(shape)},
        "classes": [class_numbers(score) for score in explanation.classes],
        "target": class_numbers(explanation.target),
        "against": explanation.against and class_numbers(explanation.against),
        "absorbed": defined(explanation.absorbed),
        "absorbers": [{"module": name, "part": part} for name, part in explanation.absorbers],
        "departure": explanation.departure and dict(zip(_DEPARTURE, explanation.departure, strict=True)),
        "place": explanation.place and _place_numbers(explanation.place, explanation.heatmap),
        "layers": [_layer_numbers(layer, explanation) for layer in explanation.layers],
        "graph": explanation.graph and graph_numbers(explanation.graph),
        "provenance": dict(explanation.provenance),
        "beside": [numbers(other) for other in explanation.beside],
        **({} if explanation.medium is None else {"medium": explanation.medium.to_json()}),
        **({"probabilities": explanation.probabilities} if explanation.probabilities else {}),
    }


def to_json(explanation: Explanation) -> dict[str, Any]:
    """Turn the whole explanation into plain JSON values: `numbers` and a table "arrays".

    An array is {"dtype": "|u1" or "<f4", "shape": [...], "data": base64 of zlib of its bytes in C order}. Its name is
    its place in the explanation, such as "layers/0/supporting/2/heatmap".
    """
    arrays = _arrays(explanation, "")
    return numbers(explanation) | {"arrays": {name: packed(array) for name, array in arrays.items()}}


def from_json(content: Mapping[str, Any]) -> Explanation:
    """Build the explanation that `to_json` wrote.

    Raises
    ------
    InputError
        If `content` is something else, has another version, or is incomplete.
    """
    if not isinstance(content, Mapping) or content.get("format") != FORMAT:
        raise InputError(f'this is not an explanation: its "format" is not {FORMAT!r}.')
    if content.get("version") != VERSION:
        raise InputError(
            f"this explanation has version {content.get('version')!r}; this program reads version {VERSION}."
        )
    if "arrays" not in content:
        raise InputError(
            "this explanation holds numbers only (as embedded in a page); the file saved as .json holds the arrays too."
        )
    try:
        return _explanation(content, {name: unpacked(array) for name, array in content["arrays"].items()}, "")
    except (KeyError, IndexError, TypeError, ValueError, zlib.error) as error:
        raise InputError(f"this explanation is damaged: {type(error).__name__} {error}.") from error


def _arrays(explanation: Explanation, place: str) -> dict[str, np.ndarray]:
    """Collect the arrays of an explanation by name; `place`, the prefix of all names, is empty or ends with a slash."""
    arrays = {f"{place}picture": explanation.picture, f"{place}heatmap": explanation.heatmap}
    if explanation.place is not None:
        arrays[f"{place}place"] = explanation.place.mask.astype(np.uint8)
    for index, layer in enumerate(explanation.layers):
        here = f"{place}layers/{index}"
        for side, number, part in _parts(layer):
            arrays[f"{here}/{side}/{number}/heatmap"] = part.heatmap
            for kind in ("relevance_patches", "activation_patches"):
                for rank, patch in enumerate(getattr(part, kind)):
                    arrays |= packed_patch(f"{here}/{side}/{number}/{kind}/{rank}", patch)
        if layer.concept_map is not None and layer.concept_map.table is not None:
            arrays[f"{here}/concept_map/table"] = layer.concept_map.table
        for name in _ABLATIONS:
            if (found := getattr(layer, name)) is not None:
                arrays |= ablation_arrays(found, f"{here}/{name}")
        for concept, patch in layer.glimpses.items():
            arrays |= packed_patch(f"{here}/glimpses/{concept}", patch)
    if explanation.graph is not None:
        arrays |= graph_arrays(explanation.graph, f"{place}graph")
    for index, other in enumerate(explanation.beside):
        arrays |= _arrays(other, f"{place}beside/{index}/")
    return arrays


def _explanation(content: Mapping[str, Any], arrays: Mapping[str, np.ndarray], place: str) -> Explanation:
    # What was added to version 1 since it was first written may be missing.
    against, graph, outputs = content.get("against"), content.get("graph"), len(content["classes"])
    departure = content.get("departure")
    return Explanation(
        picture=arrays[f"{place}picture"],
        heatmap=arrays[f"{place}heatmap"],
        classes=tuple(class_from(score, outputs) for score in content["classes"]),
        target=target_from(content["target"], outputs),
        layers=tuple(_layer(layer, f"{place}layers/{index}", arrays) for index, layer in enumerate(content["layers"])),
        absorbed=undefined(content["absorbed"]),
        absorbers=tuple((entry["module"], entry["part"]) for entry in content.get("absorbers", ())),
        departure=departure and tuple(departure[name] for name in _DEPARTURE),
        provenance=content["provenance"],
        against=None if against is None else target_from(against, outputs),
        place=content.get("place") and Place(arrays[f"{place}place"], content["place"]["box"]),
        graph=None if graph is None else graph_from(graph, arrays, f"{place}graph"),
        beside=tuple(
            _explanation(other, arrays, f"{place}beside/{index}/")
            for index, other in enumerate(content.get("beside", ()))
        ),
        medium=None if content.get("medium") is None else Medium.from_json(content["medium"]),
        probabilities=content.get("probabilities", ""),
    )


def _layer(content: Mapping[str, Any], place: str, arrays: Mapping[str, np.ndarray]) -> LayerExplanation:
    concept_map = content["concept_map"]
    if concept_map is not None:
        table = arrays.get(f"{place}/concept_map/table")
        concept_map = ConceptMap(layer=content["layer"], **concept_map, table=table)
    sides = {
        side: tuple(
            _part(content["layer"], part, f"{place}/{side}/{i}", arrays) for i, part in enumerate(content[side])
        )
        for side in ("supporting", "opposing")
    }
    return LayerExplanation(
        layer=content["layer"],
        size=content["size"],
        rest=content["rest"],
        coverage=undefined(content["coverage"]),
        outside=content.get("outside", 0.0),
        first_order=content.get("first_order", False),
        names=content.get("names", ()),
        naming=None if content.get("naming") is None else LayerNaming.from_json(content["naming"]),
        overlooked={one["concept"]: ConceptEffect(**one["effect"]) for one in content.get("overlooked", ())},
        concept_map=concept_map,
        relevance=content.get("relevance"),
        glimpses={
            glimpse["concept"]: patch_from(glimpse, f"{place}/glimpses/{glimpse['concept']}", arrays)
            for glimpse in content.get("glimpses", ())
        },
        **{name: ablations_from(content[name], f"{place}/{name}", arrays) for name in _ABLATIONS if content.get(name)},
        **sides,
    )


def _part(layer: str, content: Mapping[str, Any], place: str, arrays: Mapping[str, np.ndarray]) -> ConceptPart:
    patches = {
        kind: tuple(patch_from(patch, f"{place}/{kind}/{i}", arrays) for i, patch in enumerate(content[kind]))
        for kind in ("relevance_patches", "activation_patches")
    }
    return ConceptPart(
        layer=layer,
        concept=content["concept"],
        relevance=content["relevance"],
        share=content["share"],
        heatmap=arrays[f"{place}/heatmap"],
        patches_missing=content.get("patches_missing", 0),
        classes=tuple(ClassShare(**use) for use in content.get("classes", ())),
        effect=None if content.get("effect") is None else ConceptEffect(**content["effect"]),
        **patches,
    )


def _place_numbers(place: Place, heatmap: np.ndarray) -> dict[str, Any]:
    use = context_use(heatmap, place)
    return {"box": place.box and list(place.box), "part": place.part, **context_numbers(use)}


def context_numbers(use: ContextUse) -> dict[str, float | None]:
    """Turn a context use into plain JSON values; a ratio that is infinite or undefined is None."""
    return {
        "inside": use.inside,
        "outside": use.outside,
        "ratio": use.ratio if math.isfinite(use.ratio) else None,
        "context": defined(use.context),
    }


def _layer_numbers(layer: LayerExplanation, explanation: Explanation) -> dict[str, Any]:
    concept_map = layer.concept_map
    if concept_map is not None:
        concept_map = {
            "concept": concept_map.concept.tolist(),
            "relevance": concept_map.relevance.tolist(),
            "shape": list(concept_map.shape),
            **({"grid": list(concept_map.grid)} if concept_map.grid else {}),
        }
    return {
        "layer": layer.layer,
        "size": layer.size,
        "names": list(layer.names),
        "naming": layer.naming and layer.naming.to_json(),
        **{name: (found := getattr(layer, name)) and ablation_numbers(found) for name in _ABLATIONS},
        "supporting": [_part_numbers(part, layer, explanation) for part in layer.supporting],
        "opposing": [_part_numbers(part, layer, explanation) for part in layer.opposing],
        "rest": layer.rest,
        "coverage": defined(layer.coverage),
        "outside": layer.outside,
        "first_order": layer.first_order,
        "overlooked": [
            {"concept": concept, "name": layer.name_of(concept), "effect": dataclasses.asdict(effect)}
            for concept, effect in layer.overlooked.items()
        ],
        "concept_map": concept_map,
        "relevance": None if layer.relevance is None else layer.relevance.tolist(),
        "glimpses": [{"concept": concept, **patch_numbers(patch)} for concept, patch in layer.glimpses.items()],
    }


def _part_numbers(part: ConceptPart, layer: LayerExplanation, explanation: Explanation) -> dict[str, Any]:
    use = explanation.context_of(part)
    return {
        "concept": part.concept,
        "name": layer.name_of(part.concept),
        "relevance": part.relevance,
        "share": part.share,
        "relevance_patches": [patch_numbers(patch) for patch in part.relevance_patches],
        "activation_patches": [patch_numbers(patch) for patch in part.activation_patches],
        "patches_missing": part.patches_missing,
        "classes": [dataclasses.asdict(use) for use in part.classes],
        "effect": part.effect and dataclasses.asdict(part.effect),
        "context": use and context_numbers(use),
    }


def _parts(layer: LayerExplanation) -> Iterator[tuple[str, int, ConceptPart]]:
    for side in ("supporting", "opposing"):
        for number, part in enumerate(getattr(layer, side)):
            yield side, number, part
