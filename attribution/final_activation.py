"""A softmax, log-softmax or sigmoid at the end of a model, found while the model runs.

Relevance that starts at probabilities is not relevance for the class: the derivative of softmax subtracts the relevance
of all other classes, and log-softmax flips signs, because its values are negative. So relevance starts at the logits,
the input of that last operation.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Set
from dataclasses import dataclass
from typing import Any, NamedTuple
from weakref import ReferenceType, ref

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from crp.attribution.backward_graph import Node, graph_below
from crp.attribution.nested_tensors import tensors_in
from crp.errors import ModelError

# Name -> functions and modules. A softmax counts if it is over the classes, axis 1.
_SOFTMAX = {
    "softmax": (torch.softmax, functional.softmax, Tensor.softmax, torch.special.softmax, nn.Softmax, nn.Softmax2d),
    "log_softmax": (
        torch.log_softmax, functional.log_softmax, Tensor.log_softmax, torch.special.log_softmax, nn.LogSoftmax,
    ),
}
_SIGMOID = {
    "sigmoid": (torch.sigmoid, functional.sigmoid, Tensor.sigmoid, torch.special.expit, nn.Sigmoid),
    "logsigmoid": (functional.logsigmoid, nn.LogSigmoid),
}
_IN_PLACE = {torch.sigmoid_: "sigmoid", Tensor.sigmoid_: "sigmoid"}
_NAMES = {kind: name for table in (_SOFTMAX, _SIGMOID) for name, kinds in table.items() for kind in kinds}
_PLAIN = {
    "softmax": lambda logits: logits.softmax(1),
    "log_softmax": lambda logits: logits.log_softmax(1),
    "sigmoid": torch.sigmoid,
    "logsigmoid": functional.logsigmoid,
}
# What may follow a sigmoid, as in `torch.sigmoid(logits)[:, 0]`: the same is done with the logits.
_MOVING = (
    torch.squeeze, Tensor.squeeze, torch.unsqueeze, Tensor.unsqueeze, torch.flatten, Tensor.flatten, torch.reshape,
    Tensor.reshape, Tensor.view, Tensor.__getitem__, torch.select, Tensor.select, torch.permute, Tensor.permute,
    torch.transpose, Tensor.transpose, torch.movedim, Tensor.movedim,
)  # fmt: skip
# Several heads in one output, as in `torch.cat([torch.sigmoid(first), torch.sigmoid(second)], 1)`.
_JOINING = (
    torch.cat, torch.concat, torch.concatenate, torch.stack, torch.hstack, torch.vstack, torch.dstack,
    torch.column_stack,
)  # fmt: skip
# What one of these is computed from is not at the end.
LINEAR_OPERATIONS = (
    functional.linear, functional.conv1d, functional.conv2d, functional.conv3d, functional.conv_transpose1d,
    functional.conv_transpose2d, functional.conv_transpose3d, torch.matmul, Tensor.matmul, Tensor.__matmul__,
    torch.bmm, Tensor.bmm, torch.mm, Tensor.mm, torch.einsum,
)  # fmt: skip
# All others run as they are: one look-up for each function that a model calls, and each attribute that it reads.
_WATCHED = frozenset((*_IN_PLACE, *_NAMES, *LINEAR_OPERATIONS, *_JOINING, *_MOVING))


class Removed(NamedTuple):
    """A model's output without its final activation.

    `note` is a sentence about that, empty if there is nothing to say. `independent` is True if the activation was a
    sigmoid: each class has a probability of its own, and they do not add up to 1. It is False if it was a softmax, and
    None if there was none: what the logits mean is not known then.
    """

    output: object
    note: str = ""
    independent: bool | None = None


def class_probabilities(logits: Tensor, independent: bool) -> Tensor:
    """Compute probabilities of classes from logits, `[..., classes]`: sigmoid if they are independent, else softmax."""
    return logits.sigmoid() if independent else logits.softmax(-1)


def is_final_activation(module: nn.Module) -> bool:
    """Return whether a module is a softmax, log-softmax or sigmoid."""
    return type(module) in _NAMES


@dataclass
class _Activation:
    """One call of a softmax or sigmoid."""

    name: str
    output: Tensor
    logits: Tensor
    node: Node | None
    versions: tuple[int, int]

    def unchanged(self) -> bool:
        """Whether neither its input nor its output was overwritten in place since."""
        return self.versions == (self.output._version, self.logits._version)


class _Joined(NamedTuple):
    """The results of recorded activations in one tensor: their names, and whether other tensors are part of it, too."""

    names: list[str]
    mixed: bool = False


class FinalActivation(TorchFunctionMode):
    """Records the softmaxes and sigmoids from which no linear operation is computed, while a model runs.

    Parameters
    ----------
    model
        The model. Its modules of these kinds are recorded by hooks, because a rule may replace their `forward`.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._recorded: list[_Activation] = []
        self._joined: dict[Node, _Joined] = {}
        # results that were forgotten without a graph to see what is computed from them, and what was made of them
        self._unseen: list[ReferenceType[Tensor]] = []
        self._handles = [
            module.register_forward_hook(self._ran) for module in model.modules() if is_final_activation(module)
        ]

    def __exit__(self, *exception: object) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()
        super().__exit__(*exception)

    def __torch_function__(
        self, function: Callable, types: Collection[type], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run a function, and record it if it is one of these."""
        kwargs = kwargs or {}
        if function not in _WATCHED:
            return function(*args, **kwargs)
        if function in _IN_PLACE:
            logits = args[0].clone()
            result = function(*args, **kwargs)
            self._record(_IN_PLACE[function], result, logits)
            return result
        result = function(*args, **kwargs)
        if function in _NAMES:
            data = args[0] if args else kwargs["input"]
            self._record(_NAMES[function], result, data, args[1] if len(args) > 1 else kwargs.get("dim"))
        elif function in LINEAR_OPERATIONS:
            self._forget_inputs(tensors_in((*args, *kwargs.values())))
        elif function in _JOINING and self._recorded:
            self._record_joined(function, result, args, kwargs)
        elif function in _JOINING + _MOVING and any(map(self._is_unseen, tensors_in((*args, *kwargs.values())))):
            self._unseen.append(ref(result))
        elif function in _MOVING and self._recorded and args and args[0] is self._recorded[-1].output:
            last = self._recorded[-1]
            if last.name in _SIGMOID and last.unchanged():
                self._record(last.name, result, function(last.logits, *args[1:], **kwargs))
        return result

    def _forget_inputs(self, tensors: Iterable[Tensor]) -> None:
        """Forget what a linear operation is computed from; the heads beside it stay."""
        self._unseen += [ref(activation.output) for activation in self._recorded if activation.node is None]
        left = {activation.node for activation in self._recorded}.union(self._joined) - {None}
        # the nearest first: what a linear operation reads is mostly the last activation
        waiting, seen = deque(tensor.grad_fn for tensor in tensors), {None}
        while waiting and left:
            if (node := waiting.popleft()) not in seen:
                seen.add(node)
                left.discard(node)
                waiting += (below for below, _ in node.next_functions)
        self._recorded = [activation for activation in self._recorded if activation.node in left]
        self._joined = {node: joined for node, joined in self._joined.items() if node in left}

    def ends(self, output: object) -> bool:
        """Whether the model may end in an activation, which `removed` undoes only if there is a graph."""
        return bool(self._recorded) or self._is_unseen(output)

    def _is_unseen(self, tensor: object) -> bool:
        return any(unseen() is tensor for unseen in self._unseen)

    def _ran(self, module: nn.Module, args: tuple, output: Tensor) -> None:
        self._record(_NAMES[type(module)], output, args[0], getattr(module, "dim", None))

    def _record(self, name: str, output: Tensor, logits: Tensor, axis: int | None = None) -> None:
        if axis is None:
            axis = 0 if logits.ndim in (0, 1, 3) else 1  # what torch takes
        if name in _SIGMOID or axis % max(logits.ndim, 1) == 1:
            versions = output._version, logits._version
            self._recorded.append(_Activation(name, output, logits, output.grad_fn, versions))

    def _record_joined(self, function: Callable, result: Tensor, args: tuple, kwargs: dict[str, Any]) -> None:
        """Record tensors that are joined: sigmoids as a sigmoid of the joined logits, others by their names."""
        tensors, *more = args or (kwargs["tensors"],)
        kwargs = {name: value for name, value in kwargs.items() if name != "tensors"}
        made = {id(activation.output): activation for activation in self._recorded}
        parts = [made.get(id(tensor)) for tensor in tensors]
        names = [part.name for part in parts if part is not None]
        if None not in parts and {*names} <= {names[0]} & _SIGMOID.keys() and all(part.unchanged() for part in parts):
            self._record(names[0], result, function([part.logits for part in parts], *more, **kwargs))
        elif names:
            self._joined[result.grad_fn] = _Joined(names, None in parts)

    def removed(self, output: object) -> Removed:
        """Undo the final activation of a model's output.

        Parameters
        ----------
        output
            The model's output.

        Returns
        -------
        Removed
            The logits if `output` is the result of the recorded activation; else `output`.

        Raises
        ------
        ModelError
            If `output` is computed from a softmax in another way.
        """
        if not self._recorded or not isinstance(output, Tensor):
            return Removed(output)
        last = self._recorded[-1]
        note, independent = f"Relevance starts at the logits, before the final {last.name}.", last.name in _SIGMOID
        if output is last.output and last.unchanged():
            return Removed(self._before(last.logits), note, independent)
        if (
            last.logits._version == last.versions[1]
            and _passes_only(output, {last.node})
            and _same_values(output, last)
        ):
            return Removed(self._before(last.logits).reshape(output.shape), note, independent)
        sources = self._sources(output)
        names = [name for source in sources for name in source.names]
        softmaxes = [name for name in names if name in _SOFTMAX]
        mixed = any(source.mixed for source in sources)
        if softmaxes and not mixed:
            several = len(softmaxes) > 1
            source = f"{len(softmaxes)} softmaxes" if several else f"a {softmaxes[0]} of its logits"
            raise ModelError(
                f"The model's output is computed from {source}, and relevance for its values is not relevance for the "
                f"class: return the logits, or the probabilities {'of one of them' if several else 'themselves'}."
            )
        if not names:
            return Removed(output)
        which = "a part of which" if mixed else "which"
        note = f"Relevance starts at the output, {which} is computed from a {names[0]}, not at the logits."
        return Removed(output, note)

    def _sources(self, output: Tensor) -> list[_Joined]:
        """List the recorded activations that `output` is computed from; none if a part of it bypasses them all."""
        sources = {activation.node: _Joined([activation.name]) for activation in self._recorded} | self._joined
        if not _passes_only(output, sources.keys()):
            return []
        above = graph_below(output, closed=sources.keys())
        reached = {output.grad_fn}.union(below for node in above for below, _ in node.next_functions)
        return [source for node, source in sources.items() if node in reached]

    def _before(self, logits: Tensor) -> Tensor:
        """Undo earlier activations, as in a softmax of a softmax."""
        for earlier in reversed(self._recorded):
            if logits is earlier.output and earlier.unchanged():
                logits = earlier.logits
        return logits


def _passes_only(output: Tensor, nodes: Set[Node | None]) -> bool:
    """Whether all that `output` depends on is computed through `nodes`."""
    if output.grad_fn is None or nodes.isdisjoint(graph_below(output)):
        return False
    return not any(hasattr(other, "variable") for other in graph_below(output, closed=nodes))


def _same_values(output: Tensor, activation: _Activation) -> bool:
    """Whether `output` holds the activation's values in their order, perhaps in another shape."""
    with torch.no_grad():
        expected = _PLAIN[activation.name](activation.logits)
    return output.numel() == expected.numel() and torch.equal(output.detach().flatten(), expected.flatten())
