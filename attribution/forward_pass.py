"""One forward pass of a replica, with access to the outputs of some layers in autograd's graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from zennit.core import Hook
from zennit.types import Linear

from crp.attribution.final_activation import FinalActivation
from crp.attribution.functions.complex_numbers import COMPLEX_RULES
from crp.attribution.functions.elementary import other_function
from crp.attribution.functions.foreign_tensors import as_start
from crp.attribution.functions.function_calls import FunctionRules, Operation
from crp.attribution.functions.input_values import as_input
from crp.attribution.functions.pass_notes import notes_of
from crp.attribution.functions.table import RULES
from crp.attribution.guards import NOT_FOLLOWED, check_graph, check_output, observed
from crp.attribution.in_place import StaleReads, StaleTensorError, StaleTensors, follow_changes
from crp.attribution.isolation import callers_default, outside_inference
from crp.attribution.ledger import Recorder
from crp.attribution.named_layers import on_layer
from crp.attribution.nested_tensors import tensors_in
from crp.attribution.norm_merging import MergedReads
from crp.attribution.norm_squares import NormSquares
from crp.attribution.observation import REFUSALS, RunningModules, cannot_run
from crp.attribution.outputs import described_output
from crp.attribution.purposes import CurrentPurpose, Purpose
from crp.attribution.repeatability import check_same_output, random_states
from crp.attribution.replica import Replica, state_of
from crp.attribution.rule_operator import mark_nonnegative_inputs
from crp.attribution.ruled_module import ForwardState, ModuleCall, RuledModule
from crp.attribution.tensor_joins import FastJoins
from crp.errors import CrpError, InputError, ModelError, listed

# What hides the way from the input.
_CUT = ", or only through what has no gradient (torch.no_grad, detach, whole numbers)"
# What autograd says of an in-place operation that it does not allow.
_IN_PLACE = ("in-place operation", "is being modified inplace")

# No module can have these names, whereas layers called "y" or "input" exist.
OUTPUT = "(output)"
INPUT = "(input)"


@dataclass
class Tap:
    """A layer's output in the graph: relevance arrives at `above`, and leaves from `below`."""

    above: Tensor
    below: Tensor


@dataclass
class ForwardPass:
    """What one forward pass leaves behind.

    Attributes
    ----------
    taps
        The layers in the order in which the model completes them, then `OUTPUT`.
    blocked
        Layers that let no relevance through; may be changed between backward passes.
    largest
        Size of the largest output of a rule's module, in bytes.
    notes
        Sentences about a final activation, and about which functions ran by their gradient.
    output
        The model's own output, with its final activation.
    independent
        Whether what ended the model and was left out is a sigmoid (True) or a softmax (False); None if neither.
    operations
        Functions that ran under a rule.
    squares
        The norms that ran under a rule; None of them with a composite of the caller.
    path
        Differs for passes that call other modules or functions (control flow that depends on the data).
    modules
        Names of the modules that ran, in that order; none with a composite of the caller.
    purpose
        Which rules a backward pass uses.
    recorder
        Records the balance of each operation while a ledger is made.
    hooks
        zennit's own hooks, which a backward pass needs.
    """

    purpose: CurrentPurpose
    taps: dict[str, Tap] = field(default_factory=dict)
    blocked: set[str] = field(default_factory=set)
    largest: int = 0
    notes: list[str] = field(default_factory=list)
    output: Any = None
    independent: bool | None = None
    operations: Sequence[Operation] = ()
    path: int = 0
    modules: tuple[str, ...] = ()
    recorder: Recorder = field(default_factory=Recorder)
    hooks: list[Hook] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.squares = NormSquares(self.purpose)

    @property
    def first_order(self) -> bool:
        """Whether relevance for ranking is a first-order effect, which does not add up to the output."""
        ranked = Purpose.RANKING in self.purpose.available
        return ranked and any(operation.by_derivative for operation in self.operations)

    @property
    def prediction(self) -> Tensor:
        """The model's output, detached; with a final activation left out, its input."""
        return self.taps[OUTPUT].below.detach()


class _Reached(BaseException):
    """Ends a forward pass when all layers are reached."""


def run_forward(
    replica: Replica,
    data: Tensor,
    layers: Sequence[str],
    *,
    before_activation: bool = True,
    whole: bool = True,
) -> ForwardPass:
    """Run the replica once.

    If the model overwrites in place a tensor that is needed later, it is run a second time with clones, and so is every
    later forward pass of this replica.

    Parameters
    ----------
    replica
        The model with its rules.
    data
        A leaf of the graph. If it does not require a gradient, the graph starts at the lowest layers.
    layers
        Names of layers to keep.
    before_activation
        Whether a final softmax, log-softmax or sigmoid is left out.
    whole
        Whether what lies above all of the layers is computed, too. If not, the output of the last one stands for the
        model's. The first pass of a replica, in which its rules are decided, is always whole.

    Raises
    ------
    ModelError
        If the model cannot run on the data, the output is not a finite tensor or does not depend on the data, a layer
        is called more than once or never, or the model draws random numbers, or keeps a state, that its output depends
        on.
    """
    whole = whole or not replica.checked
    observation = observed(replica, data, layers) if replica.changed and not replica.observed else None
    drawn, state = random_states(data.device), None if replica.checked else state_of(replica.model)
    found = _attempt(replica, data, layers, before_activation, whole)
    if found is None:
        replica.clone_tensors = True
        found = _attempt(replica, data, layers, before_activation, whole)
    missing = [layer for layer in layers if layer not in found.taps]
    if missing:
        raise ModelError(f"The model never calls {listed(missing)}{NOT_FOLLOWED}")
    if not whole:
        return found
    if random_states(data.device) != drawn or (state is not None and state_of(replica.model) != state):
        again = _attempt(replica, data, layers, before_activation)
        check_same_output(found.prediction, again.prediction)
    kind = (*data.shape[1:], data.dtype, found.path)
    if kind not in replica.checked:
        check_graph(found.taps[OUTPUT].below)
        if replica.changed or replica.edited:
            check_output(replica, data, observation or observed(replica, data, layers), found.output, found.modules)
        replica.checked.add(kind)
    return found


def _attempt(
    replica: Replica, data: Tensor, layers: Sequence[str], before_activation: bool, whole: bool = True
) -> ForwardPass | None:
    """Run the replica; None if the model overwrote in place a tensor that is needed later."""
    clone = replica.clone_tensors
    result = ForwardPass(CurrentPurpose(replica.purposes(to_input=data.requires_grad)))
    versions: list[tuple[Tensor, int]] = []
    calls: list[ModuleCall] = []
    state = ForwardState(result.purpose, calls, result.recorder, clone, result.hooks)
    for module in replica.rules:
        module.state = state
    names = dict(replica.model.named_modules())
    stale, merged = StaleTensors(), list[MergedReads]()
    last = None if whole else len(layers)
    # before a layer is read
    handles = follow_changes(replica.in_place, stale, clone)
    handles += [
        on_layer(names, layer, _tap_hook(layer, result, state, versions, merged, data.requires_grad, last))
        for layer in layers
    ]
    functions: FunctionRules | None = None
    try:
        with callers_default(data.device), ExitStack() as modes:
            if replica.operations is None and replica.in_place:
                # below the other modes, which would see each attribute that it reads of a tensor
                modes.enter_context(StaleReads(stale))
            modes.enter_context(FastJoins())
            if replica.operations is not None:
                linear = partial(_ruled_function, replica, state)
                running = modes.enter_context(RunningModules(replica.model).followed())
                functions = modes.enter_context(
                    FunctionRules(
                        RULES, other_function, COMPLEX_RULES,
                        running, linear, result.recorder, result.squares, stale, clone,
                    )
                )
            if replica.merges:
                merged.append(modes.enter_context(MergedReads(replica.model, replica.merges, running, clone)))
            final = modes.enter_context(FinalActivation(replica.model))
            # cloned, because a model may start with an in-place operation
            try:
                output = replica.model(as_input(as_start(data).clone()))
            except _Reached:
                output = [*result.taps.values()][-1].above
            stale.check(tensors_in([output]))
            for reads in merged if whole else ():
                reads.finish(output)
    except CrpError:
        raise
    except REFUSALS as error:
        if not clone and (isinstance(error, StaleTensorError) or any(words in str(error) for words in _IN_PLACE)):
            return None  # on a layer's output at which the graph starts, which autograd does not allow
        raise cannot_run(data, error) from error
    finally:
        for handle in handles:
            handle.remove()
        # a call in the graph must not keep all others alive
        for module in (*replica.rules, *(call.module for call in calls)):
            module.state = None
    result.output = output
    if before_activation and whole:
        output, note, result.independent = final.removed(output)
        result.notes += [note] if note else []
    start = "its input" if data.requires_grad else f"what it makes of {listed(layers)}"
    output = _checked_output(output, len(data), start)
    # the output is a tap like any other: relevance starts below it
    result.taps[OUTPUT] = Tap(output, output)
    result.largest = max(tensor.nbytes for tensor in (output, *(call.output for call in calls)))
    if functions is not None:
        result.operations, result.modules = functions.operations, running.modules
        result.path = hash(tuple(running.path))
        result.notes += notes_of(functions, output, data.dtype)
    overwritten = any(call.overwritten() for call in (*calls, *result.operations)) or any(
        kept._version != version for kept, version in versions
    )
    if overwritten and not clone:
        return None
    mark_nonnegative_inputs([rule for call in calls for rule in call.by_purpose.values()])
    return result


def _ruled_function(replica: Replica, state: ForwardState, module: nn.Module, name: str) -> RuledModule:
    """Put the rules of a linear function on the module that computes it."""
    first = not any(isinstance(call.module.module, Linear) for call in state.calls)
    ruled = replica.ruled_function(module, name, first)
    ruled.state = state
    return ruled


def _checked_output(output: object, samples: int, start: str) -> Tensor:
    """Return the model's output as `[N, ...]` with at least two axes, or raise an error if it cannot be explained."""
    if not isinstance(output, Tensor):
        raise ModelError(
            f"The model's output is {described_output(output)}, not a tensor: select the part to explain with "
            "crp.select_output(model, name)."
        )
    if output.is_complex():
        raise ModelError("The model's output is complex: relevance starts at real numbers.")
    if output.ndim == 0 or len(output) != samples:
        raise ModelError(
            f"The model's output is {list(output.shape)} for {samples} samples; its first axis must be that of samples."
        )
    if output.ndim == 1:
        output = output[:, None]  # [N] of a regression: one output per sample
    if not output.requires_grad:
        raise ModelError(f"The model's output does not depend on {start}{_CUT}.")
    if not bool(torch.isfinite(output.detach()).all()):
        raise ModelError("The model's output is not finite (NaN or infinite) for this input.")
    return output


def _tap_hook(
    layer: str,
    result: ForwardPass,
    state: ForwardState,
    versions: list[tuple[Tensor, int]],
    merged: Sequence[MergedReads],
    to_input: bool,
    last: int | None,
) -> Callable[[object], Tensor]:
    """Make the function that adds a layer to the taps; it ends the pass if there are `last` of them."""
    # The graph holds this hook: a reference to an object that holds the graph would keep both alive.
    taps, blocked, clone = result.taps, result.blocked, state.clone_inputs

    def tap(output: object) -> Tensor:
        state.reached = True
        if not isinstance(output, Tensor):
            raise ModelError(
                f"Layer '{layer}' gives a {type(output).__name__}, not a tensor; its relevance cannot be read."
            )
        if output.is_complex():
            raise ModelError(f"Layer '{layer}' gives complex numbers; concepts are made of real ones.")
        if layer in taps:
            raise ModelError(
                f"Layer '{layer}' is called more than once in one forward pass, so its relevance is ambiguous; name "
                "the layers around it."
            )
        if to_input and not output.requires_grad:
            raise ModelError(f"The output of layer '{layer}' does not depend on the model's input{_CUT}.")
        return merged[0].followed(output, lambda: read(output)) if merged else read(output)

    def read(output: Tensor) -> Tensor:
        below = output
        # a graph node of its own, to tell apart layers whose output is the same tensor
        above = output.clone() if clone else output.view_as(output)
        if below.requires_grad:
            with torch._C.DisableTorchFunction():  # a hook of the model would be left out
                below.register_hook(
                    lambda gradient: torch.zeros_like(gradient) if gradient is not None and layer in blocked else None
                )
        else:
            as_start(above.requires_grad_())
        taps[layer] = Tap(above, below)
        versions.append((above, above._version))
        if len(taps) == last:
            raise _Reached
        return above.clone() if clone else above

    return tap


def check_tensor(data: object) -> None:
    """Refuse model input that is not a tensor of floating point numbers.

    Raises
    ------
    InputError
    """
    if not isinstance(data, Tensor) or not data.is_floating_point():
        kind = data.dtype if isinstance(data, Tensor) else type(data).__name__
        raise InputError(f"Model input must be a tensor of floating point numbers, given {kind}.")


def checked_input(model: nn.Module, data: Tensor) -> Tensor:
    """Check the dtype of model input, and move it to the model's device.

    Raises
    ------
    InputError
        If the input is empty, not a floating point tensor, or of another dtype than the weights.
    ModelError
        If the weights are float16.
    """
    if isinstance(data, Tensor):
        data = outside_inference(data)
    weight = next((parameter for parameter in model.parameters() if parameter.is_floating_point()), None)
    check_tensor(data)
    if not data.numel():
        raise InputError(f"Model input is empty: {list(data.shape)}.")
    if weight is None:
        return data
    if weight.dtype == torch.float16:
        raise ModelError("LRP divides by numbers near 1e-6, too small for float16: call model.float() first.")
    if weight.dtype != data.dtype:
        raise InputError(
            f"Model input is {data.dtype}, the model's weights are {weight.dtype}: call data.to({weight.dtype}), also "
            "for a model that converts its input itself, or convert the model."
        )
    return data.to(weight.device, non_blocking=True)


def fast_layout(values: Tensor, axis: int = 1) -> Tensor:
    """Convert to the memory layout in which convolutions are fast without loss of precision.

    That is channels last (with the channels at `axis`) for images and volumes in bfloat16, and contiguous otherwise.
    Channels last would be faster in float32, too, but there oneDNN sums in an order that loses a digit.
    """
    if 0 in values.stride():
        return values  # expanded; the first operation on it produces a proper layout
    if values.ndim - axis < 3 or values.dtype != torch.bfloat16:
        return values.contiguous()
    return values.movedim(axis, -1).contiguous().movedim(-1, axis)
