"""Gates: tensors that scale a signal, and get no relevance from the product."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass
class Gate:
    """What is known of the output of a function with bounds. All tensors that only scale or reshape it share it.

    Attributes
    ----------
    name
        Name of the function if it has no rule other than as a gate; else empty.
    module
        Name of the module that called it.
    node
        The function's node in the graph.
    is_signal
        Whether something else than a product reads it, so that relevance reaches the function.
    signed
        Whether it has values of both signs (tanh). Multiplied by a gate that has not, it is the signal.
    is_factor
        Whether it scales a signal in a product or quotient.
    bounded
        Whether it has a lower and an upper bound; otherwise it is a signal in products, as any other tensor.
    """

    name: str = ""
    module: str = ""
    node: object = None
    is_signal: bool = False
    signed: bool = False
    is_factor: bool = False
    bounded: bool = True

    @property
    def only_scales(self) -> bool:
        """Whether products and quotients alone read it."""
        return self.is_factor and not self.is_signal


def gate_of(tensor: Tensor) -> Gate | None:
    """Return the gate that a tensor is, or None; it is none once it, or a tensor that shares its memory, changed."""
    gate, version = getattr(tensor, "gate", (None, 0))
    return gate if version == tensor._version else None


def bounded_gate_of(tensor: Tensor) -> Gate | None:
    """Return the gate that a tensor is, if it has both bounds, or None."""
    gate = gate_of(tensor)
    return gate if gate is not None and gate.bounded else None


def gates_in(values: Sequence[Tensor]) -> list[bool]:
    """Return which factors of a product are gates.

    In `tanh(a) * sigmoid(b)` the tanh is the signal (Arras et al., "Explaining Recurrent Neural Network Predictions in
    Sentiment Analysis", 2017).
    """
    gates = [bounded_gate_of(value) for value in values]
    if None not in gates and len({gate.signed for gate in gates}) == 2:
        return [not gate.signed for gate in gates]
    return [gate is not None for gate in gates]


def linear_gate_of(tensor: Tensor) -> Gate | None:
    """Return the gate that a linear map of a tensor is, or None.

    Relevance cannot flow through a softmax other than as a gate, so its linear maps are gates, too: attention weights
    that are mixed over heads (Shazeer et al., "Talking-Heads Attention", 2020), kernels chosen by the data.
    """
    gate = gate_of(tensor)
    return gate if gate is not None and gate.name else None


def as_gate(tensor: Tensor, gate: Gate | None) -> Tensor:
    """Mark a tensor as a gate, or as none."""
    tensor.gate = gate, tensor._version
    return tensor


def read_as_signal(tensor: Tensor) -> None:
    """Note that relevance will reach a tensor that may be a gate."""
    if (gate := gate_of(tensor)) is not None:
        gate.is_signal = True


def read_as_factor(tensor: Tensor) -> None:
    """Note that a tensor that may be a gate scales a signal."""
    if (gate := gate_of(tensor)) is not None:
        gate.is_factor = True
