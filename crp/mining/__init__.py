"""From a data set to a library: which samples show each concept of a model.

Public names
------------
===================  ===============================================================================================
`mine`               one pass over the data set, then the patches; writes a library
`merge`              makes the library from what shards have computed
`add_patches`        makes patches that a library does not have yet
`supply_patches`     lets a library make patches when they are needed
`AttributionTarget`  a target for each sample of a block, and the relevance that starts for it
`ObjectSamples`      each object of a sample as a sample, explained in its own mask or box
`ObjectLabel`        what is explained of one object
`detected_objects`   the objects that a detector finds in every sample
===================  ===============================================================================================

`Question` is the old name of `AttributionTarget`.

Modules
-------
================================  ===================================================================================
`pipeline`                        `mine`
`settings`, `mining_plan`         its options, checked; what one call does, worked out before the pass
`more_patches`, `patch_filling`   `add_patches`, `supply_patches`; patches are added to a library as they are made
`dataset`, `mined_model`          data set and model, prepared for mining
`block_stream`                    the samples in fixed blocks, and checks of every sample
`targets`, `objects`              what is explained of each sample; and of each object of a sample
`survey`                          the pass over the data set
`scores`                          how a sample is scored for a concept
`topk`, `class_sums`, `exact`     the best samples of every concept; statistics by class; sums in any order
`tally`                           everything kept of the samples so far: stored, resumed, merged
`vector_writer`                   concept vectors of every sample
`patch_requests`, `patch_maker`   which patches to make; their heatmaps
`crops`                           boxes, sizes and encoding of patches
`estimation`, `runtime`           time and disk space; threads, precision, random state, memory
`durable/`                        checkpoints, resuming, several processes, shards, `merge`
================================  ===================================================================================
"""

from crp.mining.durable.merging import merge

from .more_patches import add_patches, supply_patches
from .objects import ObjectLabel, ObjectSamples, detected_objects
from .pipeline import mine
from .targets import AttributionTarget

Question = AttributionTarget

__all__ = [
    "AttributionTarget",
    "ObjectLabel",
    "ObjectSamples",
    "Question",
    "add_patches",
    "detected_objects",
    "merge",
    "mine",
    "supply_patches",
]
