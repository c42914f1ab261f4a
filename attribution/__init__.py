"""How relevance flows: conditional LRP on torch and zennit, without data sets, files or pictures.

========================  =========================================================================================
`RelevanceFlow`           one forward pass held open: relevance flows `down`, regions flow `up`
`prepare`                 a private copy of a model with its rules, for many flows
`select_output`           the same model with one tensor of its output, where that is a dict or a tuple
`ConditionalAttribution`  conditional heatmaps
`composite_for`           the composite and canonizers that fit a model
========================  =========================================================================================

zennit-crp's names are here, too: `CondAttribution`, `AttributionGraph` and what else its module had (`crp.compat`).
"""

from crp.compat import OLD_NAMES, accept_old_zennit_calls, import_zennit_safely, old_names, refuse_zennit_crp

refuse_zennit_crp()
import_zennit_safely()
accept_old_zennit_calls()

from crp.attribution.composites import FittingComposite, composite_for  # noqa: E402  (zennit needs the cure first)
from crp.attribution.conditional import ConditionalAttribution, attrResult  # noqa: E402
from crp.attribution.flow import INPUT, OUTPUT, RelevanceFlow  # noqa: E402
from crp.attribution.outputs import select_output  # noqa: E402
from crp.attribution.replica import Replica, prepare  # noqa: E402

__all__ = [
    "INPUT",
    "OUTPUT",
    "ConditionalAttribution",
    "FittingComposite",
    "RelevanceFlow",
    "Replica",
    "attrResult",
    "composite_for",
    "prepare",
    "select_output",
    *OLD_NAMES[__name__],
]

__getattr__ = old_names(__name__)
