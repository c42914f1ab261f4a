"""Models and data sets named by a string, as on the command line.

================  =================================================================================================
`load_model`      "torchvision:NAME", "demo", "package.module:function" or "file.py:function", and a weights file
`load_data`       a folder of pictures, an .npz, "demo", "package.module:function" or "file.py:function"
`python`          the object that "module:name" or "file.py:name" stands for
`weights`         a state dict read without running code, and put into a model with differences explained
`names`           class names from a file
`fitting`         whether model and data go together, which device, which layers
`origin`          what mining was told, as a value that a library keeps, and the model found again from it
================  =================================================================================================
"""

from crp.sources.data import load_data
from crp.sources.named_models import load_model
from crp.sources.names import read_class_names

__all__ = ["load_data", "load_model", "read_class_names"]
