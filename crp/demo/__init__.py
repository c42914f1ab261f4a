"""Built-in scenes in which the truth is known, and a small network trained on them.

================  ===================================================================================================
`Scenes`          map-style data set of drawn scenes, with a mask for each attribute and the box of the tag
`demo_model`      the trained network
`paste_tag`       put the tag on any picture
`CLASSES`         the rules that make the classes; `TAGGED_CLASS` is the one that carries the tag in training
================  ===================================================================================================

A `Scene` (what is drawn) becomes a `Drawing` (the picture and its masks) by `draw`; `Scenes` does both by index.
`python -m crp.demo.training` trains the network again. Names are loaded on first use, so that drawing needs no torch.
"""

from importlib import import_module

_HOMES = {
    "Scenes": "scenes",
    "demo_model": "model",
    "paste_tag": "drawing",
    "CLASSES": "drawing",
    "TAGGED_CLASS": "drawing",
    "Scene": "drawing",
    "Drawing": "drawing",
    "draw": "drawing",
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'crp.demo' has no attribute {name!r}")
    return getattr(import_module(f"crp.demo.{_HOMES[name]}"), name)
