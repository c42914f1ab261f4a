"""Analyses of a library's concept vectors, as pure functions on arrays, and of the objects of many pictures.

===================  =========================================================================================
`search`             the samples that use a concept, sorted
`similarity`         similarity of concepts over all samples; `redundant` groups them
`prototypes`         typical concept vectors of a class, and how far a new prediction is from them
`class_deviation`    how far a prediction is from the mean of its class, without scikit-learn
`strategies`         clusters of the samples of a class, by concept vectors or heatmaps (SpRAy)
`suspects`           clusters of all classes, sorted by their dependence on one concept: likely Clever Hans
`difference`         what changed between two libraries of the same samples, concept by concept
`propose`            names for concepts, from what is known of the samples, or none; also from class profiles
                     (`propose_from_classes`) and from any embedder (`propose_from_embeddings`)
`failures`           whether a model uses concepts as it should, for tests; `lightning_callback` for training
`concept_vector`     the vector of a new prediction
`concept_contexts`   which concepts of a class lie outside of its objects (L-CRP); `found_in` finds objects
===================  =========================================================================================

The vectors are `Library.vectors(layer)` of a library mined with `vectors=True`. Prototypes and strategies need
scikit-learn, an optional extra: `pip install crp-atlas[analysis]`. Names are imported on first use, and only
`concept_vector`, `concept_contexts`, `failures` and `lightning_callback` need torch.
"""

from crp.lazy_names import on_first_use

_HOMES = {
    "search": ".searching",
    "Hits": ".searching",
    "similarity": ".comparing",
    "redundant": ".comparing",
    "prototypes": ".mixtures",
    "Prototypes": ".mixtures",
    "Deviation": ".mixtures",
    "class_deviation": ".class_means",
    "strategies": ".clustering",
    "Strategies": ".clustering",
    "suspects": ".clustering",
    "Suspect": ".clustering",
    "difference": ".differing",
    "LibraryDifference": ".differing",
    "propose": ".proposing",
    "propose_from_classes": ".proposing",
    "propose_from_embeddings": ".proposing",
    "Proposal": ".proposing",
    "read_columns": ".attributes",
    "failures": ".rules_of_use",
    "lightning_callback": ".rules_of_use",
    "concept_vector": ".prediction",
    "concept_contexts": ".object_contexts",
    "MeasuredContexts": ".object_contexts",
    "found_in": ".object_contexts",
    "ConceptContext": ".object_contexts",
    "GivenObject": ".object_contexts",
}

__all__ = [*_HOMES]
__getattr__ = on_first_use(__name__, _HOMES)
