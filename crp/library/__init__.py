"""What mining leaves on disk: for every concept its reference samples, patches and class statistics.

=====================  =================================================================================
`open_library`         opens a folder, read-only and lazily, as a `Library`
`Library`              references, statistics and patches by layer and concept
`References`           the k best samples of every concept of a layer
`ClassStatistics`      what each explained class makes of every concept
`usage`                the same as rows: the concepts of a class, the classes of a concept
`vectors`              every concept on every sample, mapped from disk
`LibraryConcept`       one concept: its patches, the classes that use it, the concepts that are like it
`profiles`             who uses the concepts of a layer, and which are alike
`manifest`             manifest.json: what the library holds and where it comes from
`tables`               safetensors files, read and written as a whole or not at all
`rows`                 safetensors files with a row for each sample, written in any order
`patches`              pictures and heatmaps of one layer as arrays
`building`             a folder that appears complete or not at all
`fingerprints`         which weights and which samples a library belongs to
=====================  =================================================================================

The format is described in docs/library-format.md. Nothing here loads torch, except to fingerprint what torch holds.
"""

from .library_concept import LibraryConcept
from .references import ClassStatistics, References
from .store import Library, open_library

__all__ = ["ClassStatistics", "Library", "LibraryConcept", "References", "open_library"]
