"""The part of a model above one layer, run again from other outputs of that layer.

A forward pass of a copy is followed once (`followed_pass.py`). Of the module calls that return before the layer is
called, the outermost are stored with their outputs. Later passes run the same code, but those calls return what is
stored, and the layer returns what it is given: only what lies above it is computed. What bypasses the layer (a skip
connection, a second branch) is as it was, because its modules return what is stored or compute the same again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

from crp.attribution.followed_pass import FollowedModel, Path
from crp.attribution.isolation import isolated_pass
from crp.attribution.linear_sums import LinearSums, is_linear
from crp.attribution.nested_tensors import tensors_in
from crp.attribution.observation import DECIDING
from crp.errors import InputError, ModelError

# Outputs may differ by this part of the largest one when the same is computed in a batch of another size.
_ROUNDING = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 0.1}
# Conditions share a pass as long as all that enters the upper part fits into this many bytes.
_LARGEST_BATCH = 2**24


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

    @isolated_pass()
    def __init__(self, model: nn.Module, data: Tensor, layer: str, end: str | None = None) -> None:
        followed = FollowedModel(model, data, [layer], end)
        self._take(followed, followed.follow([layer], clone=False)[layer])

    @classmethod
    @isolated_pass()
    def of_layers(
        cls, model: nn.Module, data: Tensor, layers: Collection[str]
    ) -> tuple[dict[str, UpperPart], dict[str, ModelError]]:
        """Follow one forward pass for several layers.

        Parameters
        ----------
        model, data
            As in the class.
        layers
            Names of layers.

        Returns
        -------
        tuple of (dict of str to UpperPart, dict of str to ModelError)
            The upper parts, and why other layers have none.
        """
        followed = FollowedModel(model, data, layers)
        found, refused = {}, {}
        for layer, path in followed.follow(layers, clone=False).items():
            upper = cls.__new__(cls)
            try:
                upper._take(followed, path)
            except ModelError as error:
                refused[layer] = error
            else:
                found[layer] = upper
        return found, refused

    def _take(self, followed: FollowedModel, path: Path) -> None:
        self._followed, self._layer, self._sums = followed, path.layer, None
        if self._runs_alone(path) or self._runs_alone(followed.follow([path.layer], clone=True)[path.layer]):
            return
        raise ModelError(
            f"The part of the model above '{path.layer}' cannot be run alone: it does not give the model's output for "
            "the layer's own output. It may overwrite in place what the part below computes, or keep state between "
            "calls."
        )

    @isolated_pass()
    def outputs(self, replaced: Tensor, sums: Sequence[tuple[int, int] | None] = ()) -> Tensor:
        """Compute the model's output for other outputs of the layer.

        Parameters
        ----------
        replaced
            `[K, N, *layer]`: for each of `K` conditions, what the layer gives for each of the `N` samples.
        sums
            For each condition, two earlier ones whose changes it adds up (`LinearSums`), or None. Linear modules that
            read the layer's output do not run for them.

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
        replaced = replaced.detach().to(self.activation)
        entering = sum(tensor.nbytes for tensor in (*self._read.values(), self.activation))
        size = max(1, _LARGEST_BATCH // entering - 1)
        linear = LinearSums(replaced, self.activation, sums) if any(sums) else None
        parts: list[Tensor] = []
        for first, part in zip(range(0, len(replaced), size), replaced.split(size), strict=True):
            self._sums = linear and partial(linear.run, conditions=range(first, first + len(part)))
            together = self._run_together(part) if len(part) > 1 else None
            self._sums = None
            parts += [together] if together is not None else [self._run_upper(one[None].clone()) for one in part]
        return torch.cat(parts).detach()

    @isolated_pass()
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
        (gradient,) = torch.autograd.grad(score(self._with_graph(leaf[None])[0]).sum(), leaf)
        return gradient

    @property
    def model(self) -> nn.Module:
        """The copy that is run. Its weights may be changed; they are the caller's, in the same memory."""
        return self._followed.model

    @isolated_pass()
    def trainable(self, replaced: Tensor) -> Tensor:
        """Compute outputs with the graph of autograd, in which those weights of `model` are that require gradients.

        Parameters
        ----------
        replaced
            `[K, N, *layer]`, as for `outputs`.

        Returns
        -------
        Tensor
            `[K, N, ...]`.
        """
        return self._with_graph(replaced.to(self.activation))

    def _with_graph(self, replaced: Tensor) -> Tensor:
        needed, self._followed.needs_graph = self._followed.needs_graph, True
        try:
            return self._run_upper(replaced.clone())
        finally:
            self._followed.needs_graph = needed

    # -- passes ------------------------------------------------------------------------------------------------

    def _repeat_call(self, name: str, run: partial[Any]) -> Any:
        place = self._position
        self._position += 1
        if place < len(self._calls):
            call = self._calls[place]
            self._same_path &= name == call.module
            return tree_map_only(Tensor, self._stored, call.output) if call.stored else run()
        if place == len(self._calls):
            self._same_path &= name == self._layer
            return self._replacement
        if self._sums and is_linear(run) and self._is_replacement(run.args[0]):
            return self._sums(name, run)
        return run()

    def _is_replacement(self, tensor: Tensor) -> bool:
        """Whether a tensor is what took the place of the layer's output, and was not overwritten."""
        return tensor is self._replacement and tensor._version == self._version

    def _runs_alone(self, path: Path) -> bool:
        """Run the upper part with the layer's own output: whether the result is the model's output.

        Stored tensors that no function reads are only handed from one stored call to the next: they are freed.
        """
        if path.problem:
            raise ModelError(path.problem)
        self.activation, self.prediction, self._calls = path.activation, self._followed.prediction, path.calls
        # convolutions of many pictures take two thirds of the time with the channels last
        last = [torch.channels_last] if self.activation.ndim == 4 else []
        self._formats = [*last, torch.contiguous_format]
        with _Reads() as reads:
            self._stored = reads.watched
            try:
                (found,) = self._run_upper(self.activation[None].clone())
            except (RuntimeError, ValueError, IndexError, TypeError):  # what is read without a function was not kept
                if path.cloned:
                    raise
                return False
        if not self._same(found):
            return False
        self._read = reads.found
        if reads.decide:
            self._formats = []  # in one batch, one condition would decide for all
        for call in self._calls:
            call.output = tree_map_only(
                Tensor, lambda one: one if id(one) in self._read else one.new_empty(0), call.output
            )
        self._stored = self._for_all
        return True

    def _run_upper(self, replaced: Tensor) -> Tensor:
        """Run the upper part, which may overwrite `replaced`."""
        self._position, self._copies, self._same_path = 0, len(replaced), True
        if self._followed.needs_graph and not replaced.requires_grad:
            replaced = replaced.detach().requires_grad_().clone()  # no leaf, which must not be overwritten
        self._replacement = replaced.flatten(0, 1)
        self._version = self._replacement._version
        output, _ = self._followed.run(self._stored(self._followed.data), self._repeat_call)
        if not self._same_path:
            raise ModelError(
                f"The model calls other modules before layer '{self._layer}' when it is run again: its outputs for "
                "other outputs of the layer are not defined."
            )
        return output.unflatten(0, replaced.shape[:2])

    def _run_together(self, replaced: Tensor) -> Tensor | None:
        """Run conditions in one batch, with the unchanged output as one more; None if that has another result then.

        It does if samples influence one another, or if a tensor without samples is as long as there are samples. Some
        models change the shape of tensors in a way that channels last do not allow.
        """
        rows = [replaced.flatten(0, 1), self.activation]
        while self._formats:
            shape = sum(map(len, rows)), *self.activation.shape[1:]
            joined = torch.empty(shape, dtype=replaced.dtype, device=replaced.device, memory_format=self._formats[0])
            torch.cat(rows, out=joined)
            try:
                found = self._run_upper(joined.unflatten(0, (-1, len(self.activation))))
                if self._same(found[-1]):
                    return found[:-1]
            except (RuntimeError, ValueError, IndexError):  # shapes that do not fit
                pass
            del self._formats[0]
        return None

    def _for_all(self, tensor: Tensor) -> Tensor:
        """Repeat a stored tensor for each condition, if a function reads it and its first axis is that of samples."""
        if id(tensor) not in self._read:
            return tensor
        samples = tensor.ndim > 0 and len(tensor) == len(self._followed.data)
        return tensor.repeat(self._copies, *[1] * (tensor.ndim - 1)) if samples else tensor.clone()

    def _same(self, output: Tensor) -> bool:
        largest = float(self.prediction.abs().max())
        return float((output.detach() - self.prediction).abs().max()) <= _ROUNDING[output.dtype] * max(largest, 1e-6)


class _Reads(TorchFunctionMode):
    """Records which stored tensors are read by a function, and whether control flow may depend on values."""

    def __init__(self) -> None:
        super().__init__()
        self._copies: dict[int, tuple[Tensor, Tensor]] = {}
        self.found: dict[int, Tensor] = {}
        self.decide = False

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
        self.decide |= function in DECIDING
        for read in tensors_in((*args, *kwargs.values())):
            if id(read) in self._copies:
                stored, _ = self._copies[id(read)]
                self.found[id(stored)] = stored
        return function(*args, **kwargs)
