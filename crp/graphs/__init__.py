"""The attribution graph: how lower concepts compose higher ones.

    from crp.graphs import ConceptGraph, compose

concept_graph.py  `ConceptGraph`, its nodes and edges as frozen values, and their JSON
composition.py    `compose`, which computes it

Names are loaded on first use, so that drawing a graph needs no torch.
"""

from __future__ import annotations

from crp.lazy_names import on_first_use

_HOMES = {
    "ConceptGraph": "crp.graphs.concept_graph",
    "GraphEdge": "crp.graphs.concept_graph",
    "GraphNode": "crp.graphs.concept_graph",
    "compose": "crp.graphs.composition",
}

__all__ = list(_HOMES)
__getattr__ = on_first_use(__name__, _HOMES)
