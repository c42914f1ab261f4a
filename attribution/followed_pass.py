"""A forward pass of a copy of a model, followed once to learn which module calls come before some layers."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial, wraps
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

from crp.attribution.copies import replicate
from crp.attribution.final_activation import FinalActivation
from crp.attribution.forward_pass import checked_input
from crp.attribution.isolation import callers_default, isolated_pass
from crp.attribution.named_layers import check_layer, on_layer
from crp.attribution.nested_tensors import tensors_in
from crp.attribution.outputs import described_output
from crp.attribution.repeatability import check_same_output, random_states
from crp.errors import ModelError

# Called with a module's name and the call itself, in place of the call.
Step = Callable[[str, partial[Any]], Any]


class _Output:
    """A tensor that a module call returned before some layers (`before`), which does not keep it alive."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor, self.gone = weakref.ref(tensor), torch.empty(0, dtype=tensor.dtype, device=tensor.device)
        self.before: set[str] = set()

    def is_of(self, tensor: Tensor) -> bool:
        """Whether this is the output `tensor`; another one may have its id once it is gone."""
        return self._tensor() is tensor


@dataclass
class Call:
    """A call that begins before a layer's. It is stored if it returns before, and still runs if not."""

    module: str
    output: Any = None
    stored: bool = False


@dataclass
class Path:
    """What comes before a layer in a forward pass.

    Attributes
    ----------
    layer
        Its name.
    calls
        The calls that begin before the layer's; of those that return before, only the outermost ones.
    activation
        The layer's output, `[N, *layer]`; None before it is reached.
    problem
        Why the layer cannot be replaced, as a sentence; empty if it can.
    cloned
        Whether copies of all outputs are stored, which nothing can overwrite. If not, an output that no function reads
        when the layer is replaced is an empty tensor.
    read
        The outputs that functions read then.
    """

    layer: str
    calls: list[Call] = field(default_factory=list)
    activation: Tensor | None = None
    problem: str = ""
    cloned: bool = False
    read: dict[_Output, Tensor] = field(default_factory=dict)

    @property
    def ahead(self) -> bool:
        """Whether the layer has not been called yet."""
        return self.activation is None and not self.problem

    def reach(self, output: object, calls: list[Call]) -> None:
        """Take the layer's output, and the calls before it."""
        self.calls = calls
        if not self.ahead:
            self.problem = (
                f"Layer '{self.layer}' is called more than once in one forward pass, so its output is ambiguous; name "
                "the layers around it."
            )
        elif isinstance(output, Tensor):
            self.activation = output.detach().clone()  # cloned, because the model may overwrite it
        else:
            self.problem = f"Layer '{self.layer}' gives a {type(output).__name__}, not a tensor."


class FollowedModel:
    """A copy of a model whose module calls can be followed, or replaced.

    Parameters
    ----------
    model
        The caller's model. It is copied, and run in evaluation mode; it is not changed.
    data
        Model input, `[N, c, *S]`.
    layers
        Names of layers.
    end
        Name of a layer at which every pass ends: its output takes the place of the model's.

    Attributes
    ----------
    model
        The copy, which shares the caller's weights.
    data
        The input, detached.
    prediction
        The model's output for it, `[N, ...]`, before a final softmax, log-softmax or sigmoid; or that of `end`.
    needs_graph
        Whether passes need autograd's graph, because the model ends in an activation.

    Raises
    ------
    InputError
        If the model has no such layer.
    """

    def __init__(self, model: nn.Module, data: Tensor, layers: Collection[str], end: str | None = None) -> None:
        self.model = replicate(model)
        modules = dict(self.model.named_modules())
        for layer in (*layers, end) if end else layers:
            check_layer(modules, layer)
            if layer not in modules:  # the input of a module becomes the output of one more module
                modules[layer] = nn.Identity()
                on_layer(modules, layer, modules[layer])
        self.data = checked_input(self.model, data).detach()
        for name, module in modules.items():
            # not around the caller's hooks: they keep what is stored, or replaced, for others to read
            module.__dict__["forward"] = self._followed(name, module.forward)
        self.needs_graph, self._end = False, end

    @isolated_pass()
    def follow(self, layers: Collection[str], *, clone: bool) -> dict[str, Path]:
        """Run the whole model, and store what returns before each layer is called; with `clone`, a copy of it.

        Raises
        ------
        ModelError
            If the model draws random numbers that its output depends on.
        """
        paths = {layer: Path(layer, cloned=clone) for layer in layers}
        drawn = random_states(self.data.device)
        data = self.data.clone().requires_grad_(self.needs_graph)
        with _Follower(paths, clone) as follower:
            prediction, activated = self.run(data, follower.call)
        if activated and not self.needs_graph:
            self.needs_graph = True
            return self.follow(layers, clone=clone)
        if random_states(self.data.device) != drawn:
            check_same_output(prediction, self.run(self.data.clone(), lambda _, call: call())[0])
        for path in paths.values():
            if path.ahead:
                end = f" below '{self._end}'" if self._end else ""
                path.problem = f"The model never calls '{path.layer}'{end}."
            for call in path.calls:
                call.output = tree_map_only(_Output, lambda one, read=path.read: read.get(one, one.gone), call.output)
        self.prediction = prediction.detach()
        return paths

    def run(self, data: Tensor, step: Step) -> tuple[Tensor, bool]:
        """Run the model, with `step` in place of its calls: its output, and whether it ended in an activation."""
        self._step = step
        with torch.set_grad_enabled(self.needs_graph), callers_default(self.data.device):
            with FinalActivation(self.model) as final:
                try:
                    output = self.model(data)
                except _Ended as ended:
                    output = ended.output
            ended = self._end is None and final.ends(output)
            if self._end is None:
                output = final.removed(output).output
        if not isinstance(output, Tensor):
            raise ModelError(f"The model's output is {described_output(output)}, not a tensor: crp.select_output.")
        # [N] of a regression: one output per sample, as in a flow
        return output if output.ndim > 1 else output[:, None], ended

    def _followed(self, name: str, forward: Callable) -> Callable:
        @wraps(forward)
        def call(*args: Any, **kwargs: Any) -> Any:
            output = self._step(name, partial(forward, *args, **kwargs))
            if name == self._end:
                raise _Ended(output)
            return output

        return call


class _Ended(Exception):  # noqa: N818 (nothing went wrong)
    """Ends a forward pass at the layer that was asked for."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output


class _Follower(TorchFunctionMode):
    """Follows the calls of one pass, and adds them to the paths of the layers that are still ahead.

    What a call returns before a layer is needed again if a function reads it after the layer, or before it in a call
    that encloses the layer. All else may be freed as when the model runs by itself.
    """

    def __init__(self, paths: Mapping[str, Path], clone: bool) -> None:
        super().__init__()
        self._paths, self._clone = paths, clone
        self._outputs: dict[int, _Output] = {}
        # what was read in each of the calls that have not returned, not counting those that have
        self._open: list[dict[_Output, Tensor]] = [{}]

    def __torch_function__(
        self, function: Callable, types: Collection[type], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run a function, and record what it reads."""
        kwargs = kwargs or {}
        for tensor in tensors_in((*args, *kwargs.values())):
            output = self._outputs.get(id(tensor))
            if output is not None and output.is_of(tensor):
                found = self._open[-1][output] = tensor.detach()
                for path in self._paths.values():
                    if not path.ahead and path.layer in output.before:
                        path.read[output] = found
        return function(*args, **kwargs)

    def call(self, name: str, run: partial[Any]) -> Any:
        """Run a call of a module."""
        own = self._paths.get(name)
        before = list(own.calls) if own else []
        ahead = [(path, len(path.calls)) for path in self._paths.values() if path.ahead]
        for path, _ in ahead:
            path.calls.append(Call(name))
        self._open.append({})
        output = run()
        self._open.pop()
        if own:
            own.reach(output, before)
            for read in self._open:
                own.read |= read
        kept = None
        for path, place in ahead:
            if path.ahead:
                if kept is None:
                    kept = tree_map_only(Tensor, self._stored, output)
                tree_map_only(_Output, lambda one, layer=path.layer: one.before.add(layer), kept)
                # the calls inside this one will not be made again
                path.calls[place:] = [Call(name, kept, stored=True)]
        return output

    def _stored(self, tensor: Tensor) -> Tensor | _Output:
        if self._clone:
            return tensor.detach().clone()
        found = self._outputs.get(id(tensor))
        if found is None or not found.is_of(tensor):
            found = self._outputs[id(tensor)] = _Output(tensor)
        return found
