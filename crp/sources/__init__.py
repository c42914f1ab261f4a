"""Models and data sets named by a string, as on the command line.

================  =================================================================================================
`load_model`      "torchvision:NAME", "demo[:NAME]", "package.module:function" or "file.py:function", and weights
`load_data`       a folder of pictures, an .npz file, "demo", "package.module:function" or "file.py:function"
`plan`            model, data and settings for `crp.mine`, checked together
`fitting`         whether a model and a sample fit; devices; names and patterns of layers
`names`           class names from a file
`python`          the object that "module:name" or "file.py:name" stands for
`weights`         state dicts, read without running code
`provenance`      where a library's model and data come from, and loading them again
================  =================================================================================================
"""

from crp.sources.data import load_data
from crp.sources.named_models import load_model
from crp.sources.names import read_class_names

__all__ = ["load_data", "load_model", "read_class_names"]
