"""What the concept vectors of a library tell about a data set: pure functions on arrays.

===================  =========================================================================================
`search`             which samples use a concept, the strongest first
`similarity`         how alike concepts are, over all samples; `redundant` groups them
`prototypes`         the typical concept vectors of a class; how far a new prediction is from them
`strategies`         a class's samples in clusters of alike concept vectors or heatmaps (SpRAy)
`suspects`           clusters of all classes, those that lean most on one concept first: likely Clever Hans
`concept_vector`     the vector of a new prediction
===================  =========================================================================================

`Library.vectors(layer)` is where vectors come from (`mine(..., vectors=True)`). Prototypes and strategies need
scikit-learn, an optional extra: `pip install crp-atlas[analysis]`. Names are loaded on first use: only `concept_vector`
needs torch.
"""

from importlib import import_module

_HOMES = {
    "search": "searching",
    "Hits": "searching",
    "similarity": "comparing",
    "redundant": "comparing",
    "prototypes": "mixtures",
    "Prototypes": "mixtures",
    "Deviation": "mixtures",
    "strategies": "clustering",
    "Strategies": "clustering",
    "suspects": "clustering",
    "Suspect": "clustering",
    "concept_vector": "prediction",
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'crp.analysis' has no attribute {name!r}")
    value = getattr(import_module(f"crp.analysis.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
