"""LRP rules for operations as they run, whatever the code of a model looks like.

A rule of zennit is put on a module. A sum, a gate or an attention is often a function call, which no module stands for,
and its derivative is no rule: autograd copies the relevance of a sum to both summands. `FunctionRules` sees every
function call of a forward pass on tensors that depend on the data. `table.RULES` says which rule each function
has. A function without a rule runs by its gradient and is named by `reached_without_rule`. So is what no call shows:
an `autograd.Function` of the model, an operation inside `torch.vmap`. It is found in autograd's graph.

Relevance is what autograd carries as the gradient. Each rule is linear in it, given the activations, and is made of
differentiable operations, so that autograd derives the transpose (`RelevanceFlow.up`) and `torch.vmap` carries several
conditions at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from crp.attribution.backward_graph import Node
from crp.attribution.functions.cut_values import leaves_torch, reads_cut, without_graph
from crp.attribution.functions.foreign_tensors import ForeignTensors
from crp.attribution.functions.gates import Gate, as_gate, gate_of, read_as_signal
from crp.attribution.functions.input_values import as_input, is_input
from crp.attribution.functions.named_calls import NamedCall, is_rule, modules_by_name, shown_below
from crp.attribution.functions.operation import Down, Operation, OperationFunction
from crp.attribution.in_place import StaleTensors
from crp.attribution.ledger import Recorder
from crp.attribution.nested_tensors import tensors_in
from crp.attribution.norm_squares import NormSquares
from crp.attribution.observation import RunningModules, reads_values
from crp.attribution.purposes import Purpose
from crp.attribution.ruled_module import RuledModule

# Nodes of views, which torch also makes anew when it reads a view whose base has changed.
_VIEWS = {f"{name}Backward0" for name in ("View", "Unsqueeze", "ReshapeAlias", "UnsafeView", "Slice", "Alias", "Clone")}

# What is called only where the output of a layer is kept.
_READING = {"requires_grad_", "view_as", "clone", "detach", "_base"}


@dataclass
class Call:
    """One call of a function on data.

    Attributes
    ----------
    rules
        The mode that saw the call.
    function
        The function, out of place.
    name
        Its name without module: `"add"`.
    args, kwargs
        Its arguments.
    """

    rules: FunctionRules
    function: Callable
    name: str
    args: tuple
    kwargs: dict[str, Any]

    def run(self) -> Any:
        """Run the function without a graph."""
        with torch.no_grad():
            return self.function(*self.args, **self.kwargs)

    def by_autograd(self) -> Any:
        """Run the function in the graph, so that relevance passes as the gradient does."""
        return self.function(*self.args, **self.kwargs)

    @property
    def data(self) -> list[Tensor]:
        """The arguments that depend on the data."""
        return list(data_in((*self.args, *self.kwargs.values())))

    def argument(self, place: int, name: str, default: Any = None) -> Any:
        """Return an argument that may be given by place or by name."""
        return self.args[place] if len(self.args) > place else self.kwargs.get(name, default)

    def ranked_apart(self) -> bool:
        """Whether relevance that ranks concepts can have another rule than relevance for maps."""
        return Purpose.RANKING in self.rules.purpose.available

    def by_purpose(self, **factories: Callable[[], Down]) -> dict[Purpose, Down]:
        """Make the rule for each purpose (`maps=`, `ranking=`) that the pass needs."""
        made = {Purpose(purpose): factory for purpose, factory in factories.items()}
        return {purpose: factory() for purpose, factory in made.items() if purpose in self.rules.purpose.available}

    def ruled(
        self,
        output: Tensor,
        data: Sequence[Tensor],
        down: Down | Mapping[Purpose, Down],
        *,
        scaling: bool = False,
        ranked_only: Sequence[Tensor] = (),
        by_input: bool = False,
    ) -> Tensor:
        """Put an output into the graph, with a rule in place of the derivative towards `data`.

        Parameters
        ----------
        output
            The function's output.
        data
            What relevance goes to.
        down
            The rule, or one for each purpose. A purpose without one lets nothing pass.
        scaling
            Whether the function only scales, which leaves a gate a gate.
        ranked_only
            Those of the data that only relevance for ranking reaches.
        by_input
            Whether the rule shares relevance in proportion to the data, so that a value of zero gets none.
        """
        shown = [not any(value is other for other in ranked_only) for value in data]
        for value, is_shown in zip(data, shown, strict=True):
            if is_shown and not scaling:
                read_as_signal(value)
        inputs = [(value.detach(), value._version) for value in data]
        rules = down if isinstance(down, Mapping) else dict.fromkeys(Purpose, down)
        module, recorder, purpose = self.rules.running.innermost, self.rules.recorder, self.rules.purpose
        operation = Operation(self.name, module, rules, inputs, shown, recorder, purpose, by_input)
        self.rules.operations.append(operation)
        # not an argument: a model may change the output in place, which autograd forbids for views of arguments
        operation.output = output.data
        return OperationFunction.apply(operation, *data)


class FunctionRules(TorchFunctionMode):
    """Puts rules on the functions that a replica calls.

    Parameters
    ----------
    table
        The rule of each function, by its name.
    other
        The rule of a function that is not in the table.
    complex_table
        The same as the table for calls on complex data; other functions run by their gradient.
    running
        Follows which module runs.
    linear_rule
        Called as `linear_rule(module, name)` with a module that computes a linear or convolutional function, and the
        name of the module that called the function. Returns the module under its rules.
    recorder
        Records the balance of each operation while a ledger is made.
    squares
        Takes the norms, and says which rules a backward pass uses.
    stale
        Takes tensors whose in-place change runs out of place.
    clone
        Whether in-place operations change their tensor. Otherwise they run out of place, which saves memory, and a
        tensor that is read afterwards raises `StaleTensorError`.

    Attributes
    ----------
    gates
        Outputs of functions that have a rule as gates only.
    operations
        The operations that have a rule, in the order of calls.
    converted
        Which modules convert data, by the dtype that they convert to.
    leaving
        Which modules make numbers of Python or numpy of data, by the function that does it.
    purpose
        Which rules a backward pass uses, and which it may use.
    """

    def __init__(
        self,
        table: Mapping[str, Callable[[Call], Any]],
        other: Callable[[Call], Any],
        complex_table: Mapping[str, Callable[[Call], Any]],
        running: RunningModules,
        linear_rule: Callable[[nn.Module, str], RuledModule],
        recorder: Recorder,
        squares: NormSquares,
        stale: StaleTensors,
        clone: bool = False,
    ) -> None:
        super().__init__()
        self.table, self.other, self.complex_table = table, other, complex_table
        self.running = running
        self._linear_rule = linear_rule
        self.clone = clone
        self.recorder = recorder
        self.squares, self.purpose = squares, squares.purpose
        self.gates: list[Gate] = []
        self._without_rule: list[NamedCall] = []
        self._reading_cut: list[NamedCall] = []
        self._seen: set[Node] = set()
        self._foreign = ForeignTensors(self._seen)
        self.operations: list[Operation] = []
        self.converted: dict[torch.dtype, set[str]] = defaultdict(set)
        self.leaving: dict[str, set[str]] = defaultdict(set)
        self.stale = stale
        self._depth = 0

    def __torch_function__(
        self, function: Callable, types: Collection[type], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run a function with its rule."""
        kwargs = kwargs or {}
        if not self._depth and leaves_torch(function, args):
            self.leaving[function_name(function)].add(self.running.innermost or "the model itself")
        if not torch.is_grad_enabled():
            return without_graph(function, args, kwargs)
        self._depth += 1
        try:
            result = self._run(function, args, kwargs)
        finally:
            self._depth -= 1
        # of a function that is opened, the name of the whole: below the layers of a pass it is not opened
        if not self._depth and reads_values(function, result):
            name = function_name(function)
            if name not in _READING:
                self.running.path.append(f"{name}()")
        return result

    def _run(self, function: Callable, args: tuple, kwargs: dict[str, Any]) -> Any:
        if self._foreign.among((*args, *kwargs.values())):
            args = self._foreign.detached(args)
            kwargs = {name: self._foreign.detached(value) for name, value in kwargs.items()}
        data = list(data_in((*args, *kwargs.values())))
        if not data:
            return without_graph(function, args, kwargs)
        bases = [value._base for value in data if value._base is not None]
        before = {value.grad_fn for value in (*data, *bases)}
        self._seen.update(value.grad_fn for value in data if value._base is not None)
        named = len(self._without_rule)
        result = self._with_rule(function, args, kwargs)
        nodes = self._new_nodes(data_in([result, *args[:1]]), before)
        for call in self._without_rule[named:]:
            call.nodes = call.nodes or nodes
        if self._depth == 1 and reads_cut(function_name(function), (*args, *kwargs.values())):
            self._reading_cut.append(NamedCall(function_name(function), self.running.innermost, nodes))
        return result

    def _new_nodes(self, outputs: Iterable[Tensor], before: Collection[Node]) -> set[Node]:
        """Take the nodes between what a call read and what it returned as seen."""
        found, waiting = set(), [output.grad_fn for output in outputs]
        while waiting:
            node = waiting.pop()
            if node is None or node in before or node in self._seen:
                continue
            self._seen.add(node)
            found.add(node)
            waiting += [below for below, _ in node.next_functions]
        return found

    def _with_rule(self, function: Callable, args: tuple, kwargs: dict[str, Any]) -> Any:
        # also what a module under a rule reads: reading `requires_grad` is a call, too
        self.stale.check(data_in((*args, *kwargs.values())))
        name = function_name(function)
        if kwargs.get("inplace") is True:
            return self._in_place(Call(self, function, name, args, {**kwargs, "inplace": False}))
        complex_data = any(map(_is_complex, (*args, *kwargs.values())))
        rule = (self.complex_table if complex_data else self.table).get(name)
        if rule is not None:
            return rule(Call(self, function, name, args, kwargs))
        in_place = _out_of_place(function, name)
        if in_place is not None and name.rstrip("_") in self.table and not complex_data:
            return self._in_place(Call(self, in_place, name.rstrip("_"), args, kwargs))
        return self.other(Call(self, function, name, args, kwargs))

    def without_rule(self, name: str) -> None:
        """Note that the function which is called runs by its gradient."""
        self._without_rule.append(NamedCall(name, self.running.innermost))

    def reached_without_rule(self, output: Tensor, reached: set[Node]) -> dict[str, list[str]]:
        """List what runs by its gradient, of the nodes that relevance reaches from the model's output.

        Returns
        -------
        dict of str to list of str
            The names, each with the modules that called it. No module is known of what only the graph shows.
        """
        read_as_signal(output)
        signals = [gate for gate in self.gates if gate.is_signal]
        shown = shown_below(output) if signals else ()
        gates = [NamedCall(gate.name, gate.module, [gate.node]) for gate in signals if gate.node in shown]
        unseen = [node for node in reached - self._seen if not (is_rule(node) or node.name() in _VIEWS)]
        unnamed = [NamedCall(node.name().split("Backward")[0], None, [node]) for node in unseen]
        return modules_by_name((*self._without_rule, *gates, *unnamed), reached)

    def reached_reading_cut(self, reached: set[Node]) -> dict[str, list[str]]:
        """List the calls that read values without a gradient (`cut_values.py`), as `reached_without_rule` does."""
        return modules_by_name(self._reading_cut, reached)

    def ruled_module(self, module: nn.Module) -> RuledModule:
        """Put the rules of a linear function that the running module calls on a module that computes it."""
        return self._linear_rule(module, self.running.innermost)

    def _in_place(self, call: Call) -> Tensor:
        target = call.args[0]
        faithful = self.clone or not target.requires_grad
        if faithful:
            copy = target.clone()
            if is_input(target):
                as_input(copy)
            call.args = (copy, *(target.clone() if value is target else value for value in call.args[1:]))
        rule = self.table.get(call.name)
        if rule is None:
            self.without_rule(call.name)
            result = call.by_autograd()
        else:
            result = rule(call)
        if faithful:
            given = is_input(result)
            as_gate(target.copy_(result), gate_of(result))
            return as_input(target) if given else target
        self.stale.add(target)
        return result


def _is_complex(value: object) -> bool:
    """Whether an argument is, or holds, complex numbers; also a constant makes a result of real data complex."""
    return isinstance(value, complex) or any(tensor.is_complex() for tensor in tensors_in([value]))


def data_in(values: Sequence[Any]) -> Iterator[Tensor]:
    """Iterate over the tensors that depend on the data, also inside lists and tuples."""
    return (tensor for tensor in tensors_in(values) if tensor.requires_grad)


def function_name(function: Callable) -> str:
    """Return the last part of a torch function's name.

    >>> function_name(torch.nn.functional.relu), function_name(Tensor.__rsub__), function_name(Tensor.T.__get__)
    ('relu', 'rsub', 'T')
    """
    name = getattr(function, "__name__", "") or type(function).__name__
    if name == "__get__":
        return function.__self__.__name__
    if name.startswith("__") and name.endswith("__"):
        return name.strip("_")
    return name.removeprefix("special_")


def _out_of_place(function: Callable, name: str) -> Callable | None:
    """Return the function that computes the same as an in-place function."""
    if not name.endswith("_") or name.startswith("_"):
        return None
    found = (getattr(home, name[:-1], None) for home in (Tensor, torch, nn.functional))
    return next(filter(callable, found), None)


def summed_to(values: Tensor, shape: Sequence[int]) -> Tensor:
    """Sum over the axes along which a tensor of `shape` was repeated."""
    extra = values.ndim - len(shape)
    if extra:
        values = values.sum(tuple(range(extra)))
    repeated = [axis for axis, size in enumerate(shape) if values.shape[axis] != size]
    return values.sum(repeated, keepdim=True) if repeated else values
