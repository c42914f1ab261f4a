"""One prediction explained: its values, their JSON, and how they are computed.

    from crp.explanations import Explanation, explain, from_json, to_json

ablations.py        `Ablations`: the model's outputs without some concepts
explanation.py      `Explanation` and its parts as frozen values
plausibility.py     which coverage and absorption can be read as a share
serialisation.py    an explanation as JSON
computation.py      `explain`: from a model, an input and a library to these values
explained.py        what is explained: a class or another start, with its value
map_computation.py  the concept map
concept_table.py    `concept_rows`: the concepts with a card as rows of a table
entries.py          what several explanations say together: where a concept appears, its neighbours in their graphs

Names are loaded on first use, so that reading and drawing an explanation needs no torch.
"""

from __future__ import annotations

from crp.lazy_names import on_first_use

_HOMES = {
    "Ablations": "crp.explanations.ablations",
    "ClassScore": "crp.values",
    "ClassShare": "crp.values",
    "ConceptEffect": "crp.values",
    "ConceptMap": "crp.explanations.concept_map",
    "ConceptPart": "crp.explanations.explanation",
    "Explanation": "crp.explanations.explanation",
    "LayerExplanation": "crp.explanations.explanation",
    "Patch": "crp.values",
    "StartScore": "crp.values",
    "concept_rows": "crp.explanations.concept_table",
    "concepts_in_cells": "crp.explanations.map_computation",
    "explain": "crp.explanations.computation",
    "from_json": "crp.explanations.serialisation",
    "numbers": "crp.explanations.serialisation",
    "to_json": "crp.explanations.serialisation",
}

__all__ = list(_HOMES)
__getattr__ = on_first_use(__name__, _HOMES)
