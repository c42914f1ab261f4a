"""What a concept is: an addressable part of a layer's output.

================  =========================================================================================
`ConceptKind`     the interface that mining, explanation and attribution need of a kind of concept
`ChannelConcept`  the default: one channel of a convolution, or one unit of a linear layer
================  =========================================================================================

Another kind of concept (a token, a direction, a head) is a class with the methods of `ConceptKind`, in a file of its
own in this folder.
"""

from crp.compat import OLD_NAMES, old_names

from .channel import ChannelConcept
from .protocol import ConceptKind, trough

__all__ = ["ChannelConcept", "ConceptKind", "trough", *OLD_NAMES[__name__]]

__getattr__ = old_names(__name__)
