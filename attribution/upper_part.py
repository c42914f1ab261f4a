"""The part of a model above one layer, run again from other outputs of that layer.

A forward pass of a copy is followed once. Of the module calls that return before the layer is called, the outermost are
stored with their outputs. Later passes run the same code, but those calls return what is stored, and the layer returns
what it is given: only what lies above it is computed. What bypasses the layer (a skip connection, a second branch) is
as it was, because its modules return what is stored or compute the same again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

from crp.attribution.final_activation import FinalActivation
from crp.attribution.forward_pass import checked_input
from crp.attribution.isolation import callers_default, isolated
from crp.attribution.named_layers import check_layer, on_layer
from crp.attribution.nested_tensors import tensors_in
from crp.attribution.outputs import described_output
from crp.attribution.repeatability import check_same_output, random_states
from crp.attribution.replica import replicate
from crp.errors import InputError, ModelError

# Outputs may differ by this part of the largest one when the same is computed in a batch of another size.
_ROUNDING = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 0.1}
# Conditions share a pass as long as all that enters the upper part fits into this many bytes.
_LARGEST_BATCH = 2**26


class UpperPart:
    """What a model computes above one layer, for any output of that layer.

    Parameters
    ----------
    model
        The caller's model. It is copied, and run in evaluation mode; it is not changed.
    data
        Model input, `[N, c, *S]`.
    layer
        Name of a layer that is called once.
    end
        Name of a layer above it: its output takes the place of the model's, and what lies above is not computed.

    Attributes
    ----------
    activation
        The layer's output for `data`, `[N, *layer]`.
    prediction
        The model's output for `data`, `[N, ...]`, before a final softmax, log-softmax or sigmoid; or that of `end`.

    Raises
    ------
    InputError
        If the model has no such layer.
    ModelError
        If the layer is called more than once or never, or does not give a tensor; if `end` does not lie above it; if
        the model draws random numbers that its output depends on; if the upper part cannot be run alone, because it
        overwrites in place what the lower part computes.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    >>> upper = UpperPart(model, torch.ones(1, 2), "1")
    >>> upper.outputs(torch.zeros(3, 1, 2)).shape       # three conditions: the layer's output is zero
    torch.Size([3, 1, 1])
    """

    @isolated()
    def __init__(self, model: nn.Module, data: Tensor, layer: str, end: str | None = None) -> None:
        self._model = replicate(model)
        modules = dict(self._model.named_modules())
        for name in (layer, end) if end else (layer,):
            check_layer(modules, name)
            if name not in modules:  # the input of a module becomes the output of one more module
                modules[name] = nn.Identity()
                on_layer(modules, name, modules[name])
        self._data, self._layer, self._end = checked_input(self._model, data).detach(), layer, end
        for name, module in modules.items():
            # torch's place for another `__call__`: around the caller's hooks, which run when the module does
            module.__dict__["_compiled_call_impl"] = partial(self._call, name, module._call_impl)
        self._needs_graph, self._in_batches = False, True
        for clone in (False, True):
            self._follow(clone)
            if self._runs_alone():
                return
        raise ModelError(
            f"The part of the model above '{layer}' cannot be run alone: it does not give the model's output for the "
            "layer's own output. It may overwrite in place what the part below computes."
        )

    @isolated()
    def outputs(self, replaced: Tensor) -> Tensor:
        """Compute the model's output for other outputs of the layer.

        Parameters
        ----------
        replaced
            `[K, N, *layer]`: for each of `K` conditions, what the layer gives for each of the `N` samples.

        Returns
        -------
        Tensor
            `[K, N, ...]`, the model's output before a final softmax, log-softmax or sigmoid.

        Raises
        ------
        InputError
            If `replaced` has another shape.
        """
        if replaced.shape[1:] != self.activation.shape:
            expected = ", ".join(map(str, self.activation.shape))
            raise InputError(f"Outputs of layer '{self._layer}' are [K, {expected}], given {list(replaced.shape)}.")
        replaced = replaced.to(self.activation)
        entering = sum(tensor.nbytes for tensor in (*self._read.values(), self.activation))
        size = max(1, _LARGEST_BATCH // entering - 1)
        parts: list[Tensor] = []
        for part in replaced.split(size):
            together = self._run_together(part) if self._in_batches and len(part) > 1 else None
            parts += [together] if together is not None else [self._run_upper(one[None]) for one in part]
        return torch.cat(parts).detach()

    @isolated()
    def gradients(self, replaced: Tensor, score: Callable[[Tensor], Tensor]) -> Tensor:
        """Compute the gradient of a score of the model's output with respect to the layer's output.

        Parameters
        ----------
        replaced
            `[N, *layer]`, the outputs of the layer at which the gradient is taken.
        score
            From the model's output `[N, ...]` to one number for each sample, `[N]`.

        Returns
        -------
        Tensor
            `[N, *layer]`.
        """
        leaf = replaced.to(self.activation).detach().requires_grad_()
        needed, self._needs_graph = self._needs_graph, True
        try:
            with torch.enable_grad():
                output = self._run_upper(leaf[None])[0]
                (gradient,) = torch.autograd.grad(score(output).sum(), leaf)
        finally:
            self._needs_graph = needed
        return gradient

    # -- the calls of modules ----------------------------------------------------------------------------------

    def _call(self, name: str, run: Callable, *args: Any, **kwargs: Any) -> Any:
        step = self._follow_call if self._following else self._repeat_call
        output = step(name, partial(run, *args, **kwargs))
        if name == self._end:
            raise _Ended(output)
        return output

    def _follow_call(self, name: str, run: Callable[[], Any]) -> Any:
        if name == self._layer:
            return self._reach(run)
        if self._reached:
            return run()
        place = len(self._calls)
        self._calls.append(_Call(name))
        output = run()
        if not self._reached:
            # the calls inside this one will not be made again
            kept = tree_map_only(Tensor, lambda one: one.detach().clone() if self._clone else one.detach(), output)
            self._calls[place:] = [_Call(name, kept, stored=True)]
        return output

    def _reach(self, run: Callable[[], Any]) -> Tensor:
        if self._reached:
            raise ModelError(
                f"Layer '{self._layer}' is called more than once in one forward pass, so its output is ambiguous; name "
                "the layers around it."
            )
        before = list(self._calls)
        output = run()
        if not isinstance(output, Tensor):
            raise ModelError(f"Layer '{self._layer}' gives a {type(output).__name__}, not a tensor.")
        self._calls, self._reached = before, True
        self.activation = output.detach().clone()  # cloned, because the model may overwrite it
        return output

    def _repeat_call(self, name: str, run: Callable[[], Any]) -> Any:
        place = self._position
        self._position += 1
        if place < len(self._calls):
            call = self._calls[place]
            self._same_path &= name == call.module
            return tree_map_only(Tensor, self._stored, call.output) if call.stored else run()
        if place == len(self._calls):
            self._same_path &= name == self._layer
            return self._replacement
        return run()

    # -- passes ------------------------------------------------------------------------------------------------

    def _follow(self, clone: bool) -> None:
        """Run the whole model, and store what returns before the layer is called; with `clone`, a copy of it."""
        self._calls: list[_Call] = []
        self._following, self._clone, self._reached = True, clone, False
        drawn = random_states(self._data.device)
        prediction, activated = self._run(self._data.clone().requires_grad_(self._needs_graph))
        if activated and not self._needs_graph:
            self._needs_graph = True
            return self._follow(clone)
        if not self._reached:
            end = f" below '{self._end}'" if self._end else ""
            raise ModelError(f"The model has, but never calls, '{self._layer}'{end}.")
        calls = self._calls
        if random_states(self._data.device) != drawn:
            self._calls, self._reached = [], False
            check_same_output(prediction, self._run(self._data.clone())[0])
        self._calls, self.prediction, self._following = calls, prediction.detach(), False
        return None

    def _runs_alone(self) -> bool:
        """Run the upper part with the layer's own output: whether the result is the model's output.

        Stored tensors that no function reads are only handed from one stored call to the next: they are freed.
        """
        with _Reads() as reads:
            self._stored = reads.watched
            (found,) = self._run_upper(self.activation[None])
        if not self._same(found):
            return False
        self._read = reads.found
        for call in self._calls:
            call.output = tree_map_only(
                Tensor, lambda one: one if id(one) in self._read else one.new_empty(0), call.output
            )
        self._stored = self._for_all
        return True

    def _run_upper(self, replaced: Tensor) -> Tensor:
        self._position, self._copies, self._same_path = 0, len(replaced), True
        if self._needs_graph and not replaced.requires_grad:
            replaced = replaced.detach().requires_grad_()
        self._replacement = replaced.flatten(0, 1).clone()  # cloned, because the model may overwrite it
        output, _ = self._run(self._stored(self._data))
        if not self._same_path:
            raise ModelError(
                f"The model calls other modules before layer '{self._layer}' when it is run again: its outputs for "
                "other outputs of the layer are not defined."
            )
        return output.unflatten(0, replaced.shape[:2])

    def _run_together(self, replaced: Tensor) -> Tensor | None:
        """Run conditions in one batch, with the unchanged output as one more; None if that has another result then.

        It does if samples influence one another, or if a tensor without samples is as long as there are samples.
        """
        try:
            found = self._run_upper(torch.cat([replaced, self.activation[None]]))
            self._in_batches = self._same(found[-1])
        except (RuntimeError, ValueError, IndexError):  # shapes that do not fit
            self._in_batches = False
        return found[:-1] if self._in_batches else None

    def _for_all(self, tensor: Tensor) -> Tensor:
        """Repeat a stored tensor for each condition, if a function reads it and its first axis is that of samples."""
        if id(tensor) not in self._read:
            return tensor
        samples = tensor.ndim > 0 and len(tensor) == len(self._data)
        return tensor.repeat(self._copies, *[1] * (tensor.ndim - 1)) if samples else tensor.clone()

    def _run(self, data: Tensor) -> tuple[Tensor, bool]:
        """Run the model: its output, and whether it ended in an activation, for which a graph is needed."""
        with torch.set_grad_enabled(self._needs_graph), callers_default(data.device):
            with FinalActivation(self._model) as final:
                try:
                    output = self._model(data)
                except _Ended as ended:
                    output = ended.output
            if self._end is None:
                output, _ = final.removed(output)
        if not isinstance(output, Tensor):
            raise ModelError(f"The model's output is {described_output(output)}, not a tensor: crp.select_output.")
        # [N] of a regression: one output per sample, as in a flow
        return output if output.ndim > 1 else output[:, None], final.recorded and self._end is None

    def _same(self, output: Tensor) -> bool:
        largest = float(self.prediction.abs().max())
        return float((output.detach() - self.prediction).abs().max()) <= _ROUNDING[output.dtype] * max(largest, 1e-6)


class _Ended(Exception):  # noqa: N818 (nothing went wrong)
    """Ends a forward pass at the layer that was asked for."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output


@dataclass
class _Call:
    """A call that begins before the layer's. It is stored if it returns before, and still runs if not."""

    module: str
    output: Any = None
    stored: bool = False


class _Reads(TorchFunctionMode):
    """Records which stored tensors are read by a function."""

    def __init__(self) -> None:
        super().__init__()
        self._copies: dict[int, tuple[Tensor, Tensor]] = {}
        self.found: dict[int, Tensor] = {}

    def watched(self, tensor: Tensor) -> Tensor:
        """Return a copy of a stored tensor, which may be overwritten, and watch who reads it."""
        copy = tensor.clone()
        self._copies[id(copy)] = tensor, copy
        return copy

    def __torch_function__(
        self, function: Callable, types: Collection[type], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run a function."""
        kwargs = kwargs or {}
        for read in tensors_in((*args, *kwargs.values())):
            if id(read) in self._copies:
                stored, _ = self._copies[id(read)]
                self.found[id(stored)] = stored
        return function(*args, **kwargs)
