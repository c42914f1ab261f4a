"""How relevance flows: conditional LRP on torch and zennit, without datasets, files or figures.

Public names
------------
========================  =========================================================================================
`RelevanceFlow`           one forward pass held open: relevance flows `down`, regions flow `up`
`prepare`                 a private copy of a model with its rules, for many flows
`select_output`           the same model with one tensor of its output, where that is a dict or a tuple
`ConditionalAttribution`  conditional heatmaps
`composite_for`           the composite that fits a model
========================  =========================================================================================

zennit-crp's names are here, too: `CondAttribution`, `AttributionGraph` and all else that its module had (`crp.compat`).

Modules
-------
======================================  =============================================================================
`flow`, `flow_arguments`                `RelevanceFlow`; what it is given, checked
`purposes`                              what relevance is propagated for: ranking concepts, or maps of the input
`replica`                               the copy of the model that rules are put on
`observation`, `norm_merging`           what one pass of a plain copy shows; batch norms merged where that is exact
`guards`, `wrappers`                    the copy's output compared with the model's; models that are refused
`forward_pass`, `tensor_joins`          one run of the copy, with access to the outputs of layers; faster `stack`, `cat`
`in_place`                              in-place operations, which run out of place
`rule_operator`, `modified_module`      a rule at a module as a linear operator: its factors, its weights
`ruled_module`, `hooked_module`         a module under one rule for each purpose, or under zennit's own hook
`rules`                                 rules that zennit does not have
`functions`                             rules of function calls as they run
`pooling`, `signs`, `linear_function`   max pooling; nonnegative inputs; an operator and its adjoint in autograd
`probing`                               the form of a zennit rule, found by running it
`stabilizing`                           the stabilised denominators of rules
`norm_squares`                          how removing values changes the variances of norms, to second order
`backward_graph`, `ledger`              autograd's graph of a forward pass; where relevance went in a backward pass
`backward_pass`, `positive_outputs`     one backward pass; which rules have a shorter form in it
`upward_graph`, `cells`                 the transpose of a backward pass; cells of a grid carried up with it
`composites`, `operation_composite`     `composite_for`; rules for modules and functions
`conditions`, `conditional`             zennit-crp's conditions, checked; conditional attribution with them
`layers`, `receptive_fields`            names, shapes and connections of layers; what part of the input they see
`outputs`                               `select_output`
`starts`, `place_starts`                the relevance with which an explanation starts: at classes; at masks and tokens
`embedding_starts`, `named_starts`      starts at embeddings and values; what a caller names as the target
`detectors`                             the boxes of torchvision's detectors as an output that can be explained
`followed_pass`, `upper_part`           the part of a model above a layer, run alone
`removal`, `interventions`              concepts removed from a layer: `flow.without`, `flow.only`
`memory`                                freed memory kept for the next tensor
======================================  =============================================================================
"""

from crp.compat import OLD_NAMES, accept_old_zennit_calls, import_zennit_safely, old_names, refuse_zennit_crp

refuse_zennit_crp()
import_zennit_safely()
accept_old_zennit_calls()

from crp.attribution.composites import FittingComposite, composite_for  # noqa: E402  (zennit needs the workaround)
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
