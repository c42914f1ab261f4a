"""What a model's layers are called, what they give, and what part of the input they see."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from crp.attribution.flow import RelevanceFlow
from crp.attribution.replica import replicate
from crp.errors import InputError, ModelError, nearest

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def layer_names(model: nn.Module, types: Sequence[type[nn.Module]] = (*_CONVOLUTIONS, nn.Linear)) -> list[str]:
    """Names of the modules of some types, in the model's own order.

    Examples
    --------
    >>> layer_names(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)))
    ['0', '3']
    """
    return [name for name, module in model.named_modules() if isinstance(module, tuple(types))]


def output_shapes(model: nn.Module, data: Tensor, layers: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Shape `(C, *S)` of the output of each layer for model input `data` `[N, c, *S]`."""
    with RelevanceFlow(model, None, data[:1], layers) as flow:
        return {layer: tuple(flow.activation(layer).shape[1:]) for layer in layers}


@dataclass(eq=False)
class ModuleCall:
    """One call of a module in a forward pass.

    Attributes
    ----------
    layer
        The module's name.
    feeders
        The calls whose outputs this one's output is made from, with no other call's between: for a module without
        modules inside those that feed its input, for a block the last ones inside it.
    """

    layer: str
    feeders: list[ModuleCall] = field(default_factory=list)


def module_calls(model: nn.Module, data: Tensor) -> list[ModuleCall]:
    """Every call of a named module in one forward pass, and which calls feed which.

    The connections are those along which relevance flows: they are read from autograd's graph of the pass. The model is
    run once, in evaluation mode, and not changed.

    Parameters
    ----------
    model
        Any model that runs on `data`.
    data
        Model input, `[N, ...]`; one sample is enough.

    Returns
    -------
    list of ModuleCall
        In the order in which the calls ended. A module that is called twice has two entries.

    Examples
    --------
    >>> calls = module_calls(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)), torch.ones(1, 2))
    >>> [(call.layer, [feeder.layer for feeder in call.feeders]) for call in calls]
    [('0', []), ('1', ['0']), ('2', ['1'])]
    """
    copy = replicate(model)
    copy.requires_grad_(True)  # so that integer input, which embeddings take, has a graph, too
    calls: list[ModuleCall] = []
    ends: dict[object, ModuleCall] = {}

    def note(layer: str) -> Callable[[nn.Module, tuple, object], object]:
        def hook(module: nn.Module, args: tuple, output: object) -> object:
            call = ModuleCall(layer)
            calls.append(call)
            below = [tensor.grad_fn for tensor in _tensors([output]) if tensor.grad_fn is not None]
            call.feeders = _nearest_calls(below, ends)
            if isinstance(output, Tensor) and output.grad_fn is not None:
                # a node of its own, for an identity or a block gives the very tensor of the module before it
                output = output.view_as(output)
                below = [output.grad_fn]
            ends.update(dict.fromkeys(below, call))
            return output

        return hook

    for name, module in copy.named_modules():
        if name:
            module.register_forward_hook(note(name))
    with torch.enable_grad():
        copy(data.detach().requires_grad_() if data.is_floating_point() else data)
    return calls


def _nearest_calls(below: Sequence[object], ends: dict[object, ModuleCall]) -> list[ModuleCall]:
    """Calls whose outputs are met first on the way down autograd's graph, in the order of the operands."""
    found: dict[ModuleCall, None] = {}
    seen, waiting = set(), list(below)[::-1]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node in ends:
            found[ends[node]] = None
        else:
            waiting += [lower for lower, _ in node.next_functions][::-1]
    return list(found)


def receptive_boxes(model: nn.Module, shape: Sequence[int], layer: str) -> Tensor:
    """Geometric receptive field of every position of a layer.

    What a position can see at all, from kernel sizes, strides and paddings; where channels of a layer see different
    parts (as after a concatenation), the box holds all of them. Found by following intervals through one forward pass:
    exact for convolution, pooling, padding, slicing and whatever keeps positions in place (activations, normalisation,
    sums, concatenation of channels). After any other operation a position is taken to see the whole input.

    Parameters
    ----------
    model
        Any model; its weights do not matter.
    shape
        Shape of one input, `(c, *S)`.
    layer
        A layer's name.

    Returns
    -------
    Tensor
        int64 `[positions, 2 * d]` for `d` spatial axes, positions counted along the layer's flattened space: the first
        pixel seen along each axis, then the first no longer seen. For images top, left, bottom, right. One row with
        the whole input for a layer without space.

    Examples
    --------
    >>> receptive_boxes(nn.Sequential(nn.Conv2d(1, 1, 3, stride=2)), (1, 5, 7), "0")[:2]
    tensor([[0, 0, 3, 3],
            [0, 2, 3, 5]])
    """
    copy = replicate(model)
    names = dict(copy.named_modules())
    if layer not in names or not layer:
        raise InputError(f"The model has no layer '{layer}': {nearest(layer, [*names][1:])}")
    weight = next(copy.parameters(), torch.empty(0))
    data = torch.zeros(1, *shape, dtype=weight.dtype, device=weight.device)
    reached: list[list[_Interval]] = []

    def stop(module: nn.Module, args: tuple, output: Tensor) -> None:
        reached.append(follower.intervals(output))
        raise _Reached

    handle = names[layer].register_forward_hook(stop)
    try:
        with torch.no_grad(), _Follower(data) as follower:
            copy(data)
    except _Reached:
        pass
    finally:
        handle.remove()
    if not reached:
        raise ModelError(f"The model has, but never calls, '{layer}'.")
    (intervals,) = reached
    if not intervals:
        return torch.tensor([[0] * len(shape[1:]) + list(shape[1:])])
    places = torch.cartesian_prod(*[torch.arange(len(first)) for first, _ in intervals]).view(-1, len(intervals))
    ends = [interval[side][places[:, axis]] for side in (0, 1) for axis, interval in enumerate(intervals)]
    return torch.stack(ends, 1)


# For each position along an axis: the first input pixel it sees, and the one after the last (0, 0 for none).
_Interval = tuple[Tensor, Tensor]


class _Reached(Exception):  # noqa: N818  (it is no error)
    """The forward pass has come to the layer that was asked for."""


class _Follower(TorchFunctionMode):
    """Watch a forward pass, and note for each tensor what part of the input its positions see, axis by axis."""

    def __init__(self, data: Tensor) -> None:
        super().__init__()
        self.sizes = data.shape[2:]
        # tensors are kept, for a freed one might leave its id to another
        self.seen: dict[int, tuple[Tensor, list[_Interval]]] = {}
        self._note(data, [(torch.arange(size), torch.arange(size) + 1) for size in self.sizes])

    def intervals(self, tensor: Tensor) -> list[_Interval]:
        """What the positions of a tensor `[N, C, *S]` see; nothing for one without space."""
        return self.seen[id(tensor)][1] if id(tensor) in self.seen else self._everything(tensor)

    def __torch_function__(self, function: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None):
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        sources = [tensor for tensor in _tensors([*args, *kwargs.values()]) if id(tensor) in self.seen]
        if sources:
            for output in _tensors([result]):
                self._note(output, self._follow(function, sources, output, args, kwargs))
        return result

    def _note(self, tensor: Tensor, intervals: list[_Interval]) -> None:
        self.seen[id(tensor)] = (tensor, intervals)

    def _everything(self, tensor: Tensor) -> list[_Interval]:
        if tensor.ndim - 2 != len(self.sizes):
            return []
        lengths = zip(tensor.shape[2:], self.sizes, strict=True)
        return [(torch.zeros(length, dtype=torch.int64), torch.full((length,), size)) for length, size in lengths]

    def _follow(
        self, function: Callable, sources: list[Tensor], output: Tensor, args: tuple, kwargs: dict
    ) -> list[_Interval]:
        first = self.intervals(sources[0])
        if not first or output.ndim != sources[0].ndim:
            return self._everything(output)
        if function in _WINDOWS:
            windows = _windows(_WINDOWS[function], args, kwargs, output.ndim - 2)
            return [
                _union(interval, _taps(length, len(interval[0]), *window))
                for interval, length, window in zip(first, output.shape[2:], windows, strict=True)
            ]
        if function is functional.pad:
            amounts = kwargs.get("pad", args[1] if len(args) > 1 else ())
            # given for the last axis first
            before = [amounts[2 * axis] if 2 * axis < len(amounts) else 0 for axis in range(output.ndim)][::-1][2:]
            return [
                _union(interval, torch.arange(length)[:, None] - left)
                for interval, length, left in zip(first, output.shape[2:], before, strict=True)
            ]
        if function is Tensor.__getitem__ and isinstance(args[1], tuple) and len(args[1]) == output.ndim:
            return [(low[index], high[index]) for (low, high), index in zip(first, args[1][2:], strict=True)]
        same = [tensor for tensor in sources if tensor.shape[2:] == output.shape[2:]]
        if len(same) != len(sources):
            return self._everything(output)
        several = [self.intervals(tensor) for tensor in same]
        return [
            (torch.stack([low for low, _ in axis]).amin(0), torch.stack([high for _, high in axis]).amax(0))
            for axis in zip(*several, strict=True)
        ]


_WINDOWS = {
    torch.conv1d: functional.conv1d,
    torch.conv2d: functional.conv2d,
    torch.conv3d: functional.conv3d,
} | {
    function: function
    for dimension in (1, 2, 3)
    for kind in ("max_pool", "avg_pool")
    for function in (getattr(functional, f"{kind}{dimension}d"),)
}


def _windows(function: Callable, args: tuple, kwargs: dict, axes: int) -> Iterator[tuple[int, int, int, int]]:
    """Kernel size, stride, padding and dilation of a convolution or pooling along each axis."""
    names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    if "pool" in function.__name__:
        names = ("input", "kernel_size", "stride", "padding", "dilation" if "max" in function.__name__ else "ceil_mode")
    given = dict(zip(names, args, strict=False)) | kwargs

    def along(value: object) -> Sequence[int]:
        return [value] * axes if isinstance(value, int) else list(value) * (axes if len(value) == 1 else 1)

    kernels = along(given["kernel_size"]) if "kernel_size" in given else given["weight"].shape[2:]
    strides = along(given.get("stride") or (kernels if "pool" in function.__name__ else 1))
    dilations = along(given.get("dilation", 1))
    padding = given.get("padding", 0)
    if padding == "same":
        padding = [dilation * (kernel - 1) // 2 for kernel, dilation in zip(kernels, dilations, strict=True)]
    paddings = along(0 if padding == "valid" else padding)
    return zip(kernels, strides, paddings, dilations, strict=True)


def _taps(outputs: int, inputs: int, kernel: int, stride: int, padding: int, dilation: int) -> Tensor:
    """Indices `[outputs, kernel]` of what a sliding window reads; those outside `0 .. inputs - 1` are padding."""
    return torch.arange(outputs)[:, None] * stride - padding + torch.arange(kernel)[None] * dilation


def _union(interval: _Interval, taps: Tensor) -> _Interval:
    """What positions see that read several others."""
    low, high = interval
    real = (taps >= 0) & (taps < len(low))
    taps = taps.clamp(0, len(low) - 1)
    real &= high[taps] > low[taps]
    lowest = torch.where(real, low[taps], torch.iinfo(torch.int64).max).amin(1)
    return torch.where(real.any(1), lowest, 0), torch.where(real, high[taps], 0).amax(1)


def _tensors(values: Iterable[object]) -> Iterator[Tensor]:
    """Tensors among arguments or results, also inside lists and tuples."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)
