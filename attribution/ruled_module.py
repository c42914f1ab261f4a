"""Modules of the replica whose backward pass is a rule: one operator for each purpose, or `Pass`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from zennit.core import Hook
from zennit.rules import Norm

from crp.attribution.functions.gates import as_gate, linear_gate_of, read_as_signal
from crp.attribution.ledger import Recorder
from crp.attribution.purposes import CurrentPurpose, Purpose
from crp.attribution.rule_operator import RuleCall, RuleOperator
from crp.attribution.signs import known_nonnegative
from crp.errors import ModelError


@dataclass
class ForwardState:
    """What the modules need to know of a forward pass while it runs.

    Attributes
    ----------
    purpose
        Which rules a backward pass uses.
    calls
        The calls of modules under rules, in their order.
    recorder
        Records the balance of each operation while a ledger is made.
    clone_inputs
        Whether inputs are copied, because the model overwrites them.
    hooks
        zennit's own hooks of calls, to which the graph has weak references only.
    reached
        Whether the pass has reached a layer. Before, relevance for ranking has nowhere to end.
    """

    purpose: CurrentPurpose
    calls: list[ModuleCall]
    recorder: Recorder
    clone_inputs: bool
    hooks: list[Hook]
    reached: bool = False

    @property
    def purposes(self) -> Iterator[Purpose]:
        """The purposes for which relevance can come to a module that is called now."""
        return (each for each in self.purpose.available if self.reached or each is not Purpose.RANKING)


class RuledModule:
    """A module under one rule for each purpose.

    Parameters
    ----------
    module
        The module of the replica.
    rules
        Its rule for each purpose, as an operator.
    name
        The module's name, for a ledger.

    Attributes
    ----------
    state
        That of the forward pass that runs.
    """

    def __init__(self, module: nn.Module, rules: Mapping[Purpose, RuleOperator], name: str = "") -> None:
        self.module = module
        self.rules = rules
        self.name = name
        self.original = module.forward
        self.state: ForwardState | None = None

    def forward(self, data: Tensor, *args: object, **kwargs: object) -> Tensor:
        """Replace the module's forward."""
        if not data.requires_grad:
            return _below_layers(self.original, data, args, kwargs)
        if torch.is_autocast_enabled(data.device.type):
            raise ModelError(
                "The model switches autocast on in its forward pass, and the rules need one precision: switch it off "
                "there to explain the model."
            )
        weight = self.module._parameters.get("weight")
        if weight is not None and data.ndim < weight.ndim:  # one sample, without an axis of samples
            return self.forward(data[None], *args, **kwargs)[0]
        output = _RuleFunction.apply(data, self, args, kwargs)
        gate = linear_gate_of(data)
        if gate is not None:
            return as_gate(output, gate)
        read_as_signal(data)
        return output


def _below_layers(run: Callable, data: Tensor, args: tuple, kwargs: Mapping[str, object]) -> Tensor:
    """Run a module below the layers of a pass, without a graph as above them; the path of the pass is then the same."""
    if args or kwargs:  # one of which may have a graph
        return run(data, *args, **kwargs)
    with torch.no_grad():
        return run(data)


@dataclass
class ModuleCall:
    """One call of a module under rules in one forward pass.

    Attributes
    ----------
    module
        The module.
    by_purpose
        The call under the rule for each purpose for which relevance can come here.
    data, output
        Input and output, detached; if no rule reads the output, a tensor of its shape that holds one value.
    version
        The version of the input at the time of the call.
    purpose
        Which rules a backward pass uses.
    recorder
        Records the balance of the call while a ledger is made.
    free_after_use
        Whether the call may be freed once relevance has passed it.
    """

    module: RuledModule
    by_purpose: dict[Purpose, RuleCall]
    data: Tensor
    output: Tensor
    version: int
    purpose: CurrentPurpose
    recorder: Recorder
    free_after_use: bool = False

    @property
    def current(self) -> RuleCall | None:
        """The call under the rule that the backward pass uses; None if it ends here."""
        if self.purpose.value is not Purpose.SQUARES:
            rule = self.by_purpose.get(self.purpose.value)
            return rule.at_positive_outputs if rule in self.purpose.shorter else rule
        return self.by_purpose.get(Purpose.RANKING) if self.passes_squares else None

    @property
    def passes_squares(self) -> bool:
        """Whether what values add to the squares in norms flows on: through averages."""
        ranking = self.by_purpose.get(Purpose.RANKING)
        return ranking is not None and type(ranking.operator.hook) is Norm

    def overwritten(self) -> bool:
        """Return whether the model changed the module's input in place after the call."""
        return self.data._version != self.version


class _RuleFunction(torch.autograd.Function):
    """The module in the forward pass, its rule in the backward pass."""

    @staticmethod
    def forward(ctx, data: Tensor, module: RuledModule, args: tuple, kwargs: dict) -> Tensor:
        state = module.state
        ctx.set_materialize_grads(False)
        # a linear layer may return a view, which the model could not change in place
        output = module.original(data, *args, **kwargs).data
        nonnegative = known_nonnegative(data)
        # detached, because node and tensor would otherwise refer to each other
        data, kept = data.detach(), output.detach()
        if state.clone_inputs:
            data = data.clone()
        rules = {purpose: module.rules[purpose] for purpose in state.purposes}
        if not any(rule.reads_output for rule in rules.values()):
            kept = kept.new_empty(()).expand(kept.shape)  # of a volume, the first output is most of all memory
        calls = {
            purpose: RuleCall(rule, data, kept, args, kwargs, kept._version, nonnegative)
            for purpose, rule in rules.items()
        }
        ctx.call = ModuleCall(module, calls, data, kept, data._version, state.purpose, state.recorder)
        state.calls.append(ctx.call)
        return output

    @staticmethod
    def backward(ctx, relevance: Tensor | None) -> tuple[Tensor | None, None, None, None]:
        call = ctx.call
        if call.free_after_use:
            del ctx.call
        rule = call.current
        if relevance is None or rule is None:
            return None, None, None, None
        arriving = rule.down(relevance)
        module = call.module
        call.recorder.record(module.name, module.module._get_name(), relevance, [arriving])
        return arriving, None, None, None


class PassRule:
    """zennit's `Pass`: relevance passes an element-wise module unchanged."""

    def __init__(self, module: nn.Module) -> None:
        self.original = module.forward
        self.nonnegative = type(module) is nn.ReLU
        self.identity = type(module) is nn.Identity

    def forward(self, data: Tensor, *args: object, **kwargs: object) -> Tensor:
        """Replace the module's forward."""
        if not data.requires_grad:
            return _below_layers(self.original, data, args, kwargs)
        read_as_signal(data)
        return _PassFunction.apply(data, self, args, kwargs)


def passed_unchanged(data: Tensor) -> Tensor:
    """Return the same values as another tensor, through which relevance passes unchanged."""
    return _PassFunction.apply(data, PassRule(nn.Identity()), (), {})


class _PassFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, data: Tensor, rule: PassRule, args: tuple, kwargs: dict) -> Tensor:
        ctx.unchanged, ctx.nonnegative, ctx.identity = True, rule.nonnegative, rule.identity
        ctx.set_materialize_grads(False)
        output = rule.original(data, *args, **kwargs)
        if output.shape != data.shape:
            raise ModelError(
                f"The rule Pass is put on a module that changes the shape of its input from {tuple(data.shape)} to "
                f"{tuple(output.shape)}; Pass needs equal shapes."
            )
        # a module that returns its input (dropout in evaluation mode) must still return a new tensor
        return output.view_as(output) if output is data else output

    @staticmethod
    def backward(ctx, relevance: Tensor | None) -> tuple[Tensor | None, None, None, None]:
        return relevance, None, None, None
