"""A library: the reference samples, patches and class statistics of every concept, on disk.

=====================  =================================================================================
`open_library`         opens a folder as a `Library`, read-only
`Library`              references, statistics and patches by layer and concept
`References`           the k best samples of every concept of a layer
`ClassStatistics`      how much each class uses each concept
`LibraryConcept`       one concept: its patches, the classes that use it, similar concepts
`usage`                class statistics as rows: the concepts of a class, the classes of a concept
`profiles`             class profiles of concepts, and which concepts are similar
`GivenName`            what a person says about a concept; `read_names` and `write_names` are files of them
`library_names`        the part of `Library` about names, those of people and those of the kind of concept
`concept_fingerprint`  which concept a name was given to, in this library and in others
`vectors`              every concept on every sample, memory-mapped
`manifest`             manifest.json: what the library holds and where it comes from
`references`           the tables of references and statistics, and checks of their numbers
`patches`              pictures and heatmaps of one layer as arrays
`library_patches`      the part of `Library` about patches
`patch_files`          which patches of a layer have been made, and where they are
`patch_segments`       files of some patches of a layer, until it has all of them
`tables`, `rows`       safetensors files: written at once, or row by row in any order
`checksums`            SHA-256 of every file
`building`             writes a folder completely or not at all
`locks`                locks on files, so that one process works at a time
`fingerprints`         identifies weights, data sets and settings
`known_outputs`        outputs of the mined model for a test pattern
`summary`              a library as text
=====================  =================================================================================

The format is described in docs/library-format.md. Only `fingerprints` imports torch, and only when it is given a
tensor.
"""

from .given_names import GivenName
from .library_concept import LibraryConcept
from .names_file import read_names, write_names
from .references import ClassStatistics, References
from .store import Library, check_library, open_library

__all__ = [
    "ClassStatistics",
    "GivenName",
    "Library",
    "LibraryConcept",
    "References",
    "check_library",
    "open_library",
    "read_names",
    "write_names",
]
