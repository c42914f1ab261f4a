"""Kinds of concept. A concept is an addressable part of a layer's output.

================  =========================================================================================
`ConceptKind`     the interface that mining, explanation and attribution use
`ChannelConcept`  the default: one channel of a convolution, or one unit of a linear layer
`trough`          the smallest value of each concept, for any kind
================  =========================================================================================

To add a kind of concept (a token, a direction, a head), write a class with the methods of `ConceptKind` in a new file
in this folder.
"""

from crp.compat import OLD_NAMES, import_zennit_safely, old_names

from .channel import ChannelConcept
from .protocol import ConceptKind, trough

import_zennit_safely()  # code written for zennit-crp may import this module first, and then torchvision

__all__ = ["ChannelConcept", "ConceptKind", "trough", *OLD_NAMES[__name__]]

__getattr__ = old_names(__name__)
