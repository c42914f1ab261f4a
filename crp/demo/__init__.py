"""Built-in scenes with known ground truth, and small networks trained on them.

================  ===================================================================================================
`Scenes`          map-style data set of drawn scenes, with a mask for each attribute and the box of the tag
`ObjectScenes`    the same with several objects in each, with a mask and a box for each object
`Calls`           sounds like those of whales, as spectrograms, with a planted harmonic; `Waveforms`, as samples
`Heartbeats`      signals of three leads with a planted spike or flutter
`Scans`           volumes with a planted lesion
`demo_model`      a trained network: "cnn" or "vit" for scenes, "segmenter" or "detector" for scenes with several
                  objects, "spectrogram", "waveform", "heartbeat" or "scan"
`paste_tag`       pastes the tag into a picture
`CLASSES`         the rules that define the classes; `TAGGED_CLASS` is the one that has the tag in training
================  ===================================================================================================

`draw` turns a `Scene` (a description) into a `Drawing` (a picture and its masks); `Scenes` does both by index.
`python -m crp.demo.training vit` trains a network. Names are imported on first use: drawing does not need torch.
"""

from crp.lazy_names import on_first_use

_HOMES = {
    "Scenes": ".scenes",
    "ObjectScenes": ".object_scenes",
    "demo_model": ".model",
    "paste_tag": ".drawing",
    "CLASSES": ".drawing",
    "TAGGED_CLASS": ".drawing",
    "Scene": ".drawing",
    "Drawing": ".drawing",
    "draw": ".drawing",
    "Calls": ".calls",
    "Waveforms": ".calls",
    "Heartbeats": ".heartbeats",
    "Scans": ".scans",
}

__all__ = [*_HOMES]
__getattr__ = on_first_use(__name__, _HOMES)
