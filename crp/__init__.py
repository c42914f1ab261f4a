"""Concept relevance propagation: which concepts a model used for a prediction, where, and what each concept is.

========================  ===========================================================================================
`mine`                    stream a data set once; keep, for every concept, the samples that show it: a library on disk
`merge`                   make the library from several runs, each of which mined a shard of the data set
`add_patches`             make the patches that a library does not have yet
`supply_patches`          let a library make patches when they are needed
`open_library`            open a library that `mine` wrote, read-only and in milliseconds
`prepared`                prepare a model once, to explain it many times
`verify`                  check that a library is complete, unchanged and reproducible
`evaluate`                whether the concepts that count are those that the model uses, measured by removing them
`explain`                 one prediction as numbers: concepts, shares, heatmaps, patches, concept map
`atlas`                   the same as a page or figure: `.save("atlas.html")`, `.png`, `.pdf`, `.svg`, `.json`
`make_site`               many predictions and the concepts of a library as pages that link to one another
`compose`                 how lower concepts compose a class or a concept: the attribution graph of one sample or many
`concepts_in_cells`       the relevance of all concepts of a layer in all cells of a grid over the input
`composite_for`           the LRP rules and canonizers that fit a model
`select_output`           wrap a model that returns a dict or a tuple, to explain one tensor of it
`Preprocessing`           picture file -> model input -> picture
`ConditionalAttribution`  conditional heatmaps, with the arguments of zennit-crp
`RelevanceFlow`           one forward pass held open: relevance flows down, regions flow up
`ChannelConcept`          a channel (or one position of it) as a concept
`CrpError`                base of all errors: `InputError`, `ModelError`, `SampleError`, `LibraryError`
========================  ===========================================================================================

Names are loaded on first use (PEP 562): this file runs before any `import crp.attribution`, so it imports nothing.
To add a name, add its row here and in `_HOMES`.
"""

# zennit-crp's modules (crp.image, crp.helper, ...) are in a folder of their own, and are imported by their old names.
__path__ = [*__path__, *(f"{folder}/legacy/old_paths" for folder in __path__)]

_HOMES = {
    "mine": "crp.mining",
    "merge": "crp.mining",
    "add_patches": "crp.mining",
    "supply_patches": "crp.mining",
    "open_library": "crp.library",
    "prepared": "crp.models",
    "verify": "crp.verification",
    "evaluate": "crp.evaluation",
    "explain": "crp.explanations.computation",
    "atlas": "crp.visualization.atlases",
    "make_site": "crp.visualization.site.site_maker",
    "compose": "crp.graphs.composition",
    "concepts_in_cells": "crp.explanations.map_computation",
    "composite_for": "crp.attribution.composites",
    "select_output": "crp.attribution",
    "Preprocessing": "crp.preprocessing",
    "ConditionalAttribution": "crp.attribution",
    "RelevanceFlow": "crp.attribution",
    "ChannelConcept": "crp.concepts",
    "CrpError": "crp.errors",
    "InputError": "crp.errors",
    "ModelError": "crp.errors",
    "SampleError": "crp.errors",
    "LibraryError": "crp.errors",
}

# still importable under its former name
_FORMER = {"CondAttribution": "crp.attribution"}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        value = version("crp-atlas")
    elif name in _HOMES or name in _FORMER:
        from importlib import import_module

        from crp.compat import refuse_zennit_crp

        refuse_zennit_crp()
        value = getattr(import_module({**_HOMES, **_FORMER}[name]), name)
    else:
        raise AttributeError(f"module 'crp' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
