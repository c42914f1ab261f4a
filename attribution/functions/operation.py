"""A function call in the graph: its output in the forward pass, the rule for a purpose in a backward pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from crp.attribution.ledger import Recorder
from crp.attribution.purposes import CurrentPurpose, Purpose

Down = Callable[[Tensor], Sequence[Tensor | None]]


@dataclass
class Operation:
    """A call in the graph, and the linear maps of its rules.

    Attributes
    ----------
    name, module
        Names of the function and of the module that called it.
    rules
        For each purpose, the map from relevance of the output to the relevance of each input; None where none goes.
    inputs
        The inputs and their versions at the time of the call.
    shown
        Which inputs relevance for maps reaches.
    recorder
        Records its balance while a ledger is made.
    purpose
        Which rule a backward pass uses.
    by_input
        Whether an input of zero gets no relevance, because relevance is shared in proportion to the inputs.
    output
        The output, until it is in the graph.
    free_after_use
        Whether the operation may be freed once relevance has passed it.
    """

    name: str
    module: str
    rules: Mapping[Purpose, Down]
    inputs: list[tuple[Tensor, int]]
    shown: Sequence[bool]
    recorder: Recorder
    purpose: CurrentPurpose
    by_input: bool = False
    output: Tensor | None = None
    free_after_use: bool = False

    def down(self, relevance: Tensor | None) -> Sequence[Tensor | None]:
        """Map relevance of the output to the relevance of each input."""
        rule = self.rules.get(self.purpose.value)
        return [None] * len(self.inputs) if rule is None or relevance is None else rule(relevance)

    @property
    def passes_squares(self) -> bool:
        """Whether what values add to the squares in norms flows on."""
        return Purpose.SQUARES in self.rules

    @property
    def by_derivative(self) -> bool:
        """Whether relevance for ranking has a rule of its own: the derivative of what is no linear function."""
        ranking = self.rules.get(Purpose.RANKING)
        return ranking not in (None, self.rules.get(Purpose.MAPS)) and not self.passes_squares

    def overwritten(self) -> bool:
        """Return whether the model changed an input in place after the call."""
        return any(tensor._version != version for tensor, version in self.inputs)


class OperationFunction(torch.autograd.Function):
    """The output of an operation in the forward pass, its rule in the backward pass."""

    @staticmethod
    def forward(ctx, operation: Operation, *data: Tensor) -> Tensor:
        """Return the output that was computed."""
        ctx.call = operation
        ctx.set_materialize_grads(False)
        output, operation.output = operation.output, None
        return output

    @staticmethod
    def backward(ctx, relevance: Tensor | None) -> tuple[Tensor | None, ...]:
        """Apply the rule."""
        operation = ctx.call
        if operation.free_after_use:
            del ctx.call
        parts = operation.down(relevance)
        if relevance is not None:
            operation.recorder.record(operation.module, operation.name, relevance, parts)
        return None, *parts
