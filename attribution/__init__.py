"""How relevance flows: conditional LRP on torch and zennit, without data sets, files or pictures.

==================  =================================================================================================
`RelevanceFlow`     one forward pass held open: relevance flows `down`, regions flow `up`
`prepare`           a private copy of a model with rules put on it, for many flows
`select_output`     the same model with one tensor of its output, where that is a dict or a tuple
`CondAttribution`   conditional heatmaps with zennit-crp's names and arguments
`composite_for`     the fitting composite and canonizers for a given model
`AttributionGraph`  zennit-crp's decomposition of a concept into lower ones
==================  =================================================================================================
"""

from crp.compat import import_zennit_safely, old_names, refuse_zennit_crp

refuse_zennit_crp()
import_zennit_safely()

from crp.attribution.composites import FittingComposite, composite_for  # noqa: E402  (zennit needs the cure first)
from crp.attribution.conditional import attrResult  # noqa: E402
from crp.attribution.flow import INPUT, OUTPUT, RelevanceFlow  # noqa: E402
from crp.attribution.outputs import select_output  # noqa: E402
from crp.attribution.replica import Replica, prepare  # noqa: E402

__all__ = [
    "INPUT",
    "OUTPUT",
    "AttributionGraph",
    "CondAttribution",
    "FittingComposite",
    "RelevanceFlow",
    "Replica",
    "attrGraphResult",
    "attrResult",
    "composite_for",
    "prepare",
    "select_output",
]

__getattr__ = old_names(__name__)
