"""The attribution graph: how lower concepts compose higher ones.

concept_graph.py  `ConceptGraph`, its nodes and edges as frozen values, and their JSON
composition.py    `compose`, which computes it
"""
