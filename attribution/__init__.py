"""How relevance flows: conditional LRP on torch and zennit, without data sets, files or pictures.

==================  =================================================================================================
`RelevanceFlow`     one forward pass held open: relevance flows `down`, regions flow `up`
`prepare`           a private copy of a model with rules put on it, for many flows
`CondAttribution`   conditional heatmaps with zennit-crp's names and arguments
`composite_for`     the fitting composite and canonizers for a given model
==================  =================================================================================================
"""

from crp.compat import import_zennit_safely, refuse_zennit_crp

refuse_zennit_crp()
import_zennit_safely()

from crp.attribution.composites import FittingComposite, composite_for  # noqa: E402  (zennit needs the cure first)
from crp.attribution.conditional import CondAttribution, attrResult  # noqa: E402
from crp.attribution.flow import INPUT, OUTPUT, RelevanceFlow  # noqa: E402
from crp.attribution.replica import Replica, prepare  # noqa: E402

__all__ = [
    "INPUT",
    "OUTPUT",
    "CondAttribution",
    "FittingComposite",
    "RelevanceFlow",
    "Replica",
    "attrResult",
    "composite_for",
    "prepare",
]
