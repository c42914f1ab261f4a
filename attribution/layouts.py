"""Which axes of the layers' outputs are channels, and where their positions lie, as one pass of the model shows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import zip_longest
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from crp.attribution.kept_places import keeps_order
from crp.attribution.moved_places import Places, SeenCall, joined, moves
from crp.attribution.named_layers import on_layer
from crp.attribution.nested_tensors import tensors_in
from crp.attribution.probed_places import axis_of, axis_without_places, channels_of, places_of_origins
from crp.attribution.product_places import PRODUCTS, Product, read_product
from crp.concepts import Layout

# Functions whose result has its channels on the second axis, and on the last one.
_WITH_SPACE = {"conv", "conv_transpose", "max_pool", "avg_pool", "adaptive_avg_pool", "adaptive_max_pool"}
_FIRST = {f"{kind}{axes}d" for kind in _WITH_SPACE for axes in (1, 2, 3)} | {
    "batch_norm", "group_norm", "instance_norm", "interpolate", "lp_pool1d", "lp_pool2d", "lp_pool3d",
    "max_pool1d_with_indices", "max_pool2d_with_indices", "max_pool3d_with_indices", "fractional_max_pool2d",
    "fractional_max_pool3d", "local_response_norm", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle",
}  # fmt: skip
_LAST = {
    "linear", "layer_norm", "rms_norm", "embedding", "scaled_dot_product_attention", "multi_head_attention_forward",
    "lstm", "gru", "rnn_tanh", "rnn_relu",
}  # fmt: skip
# Those that leave the channels where they are, if that is known.
_NORMS = {"batch_norm", "group_norm", "instance_norm", "layer_norm", "rms_norm"}
# Those that change the axes of a tensor in place.
_MOVING_AXES = {
    "transpose_", "swapaxes_", "swapdims_", "t_", "squeeze_", "unsqueeze_", "resize_", "resize_as_", "as_strided_",
    "set_",
}  # fmt: skip
_JOINING = {"cat", "concat", "concatenate", "stack"}


@contextmanager
def layouts_followed(
    model: nn.Module, data: Tensor, layers: Iterable[str]
) -> Iterator[dict[str, Layout | UnknownLayout]]:
    """Say what the axes of the layers' outputs mean, from the pass of a model inside the context.

    Convolutions have their channels on the second axis, linear and recurrent layers on the last one; norms, activations
    and sums leave them where they were. What moves values does the same to the numbers of their channels, and to their
    coordinates on the feature map that they come from. A function of which none of this is known is run again with NaN,
    which shows what its results are computed of (`probed_places.py`). Tokens lie on the grid of the map that they come
    from; those that the grid lacks are in front. Positions in another order, as of tokens that were sorted by windows,
    and those that are computed of several, lie on no grid.

    Parameters
    ----------
    model
        A copy that may be given hooks, made by `replicate`.
    data
        Its input, `[N, c, *S]`.
    layers
        Names of layers.

    Yields
    ------
    dict
        Filled during the pass: the layout of each layer that is called and returns a tensor, or why it is not known.
    """
    names, found, axes = dict(model.named_modules()), {}, _Axes(data)

    def read(layer: str, output: Any) -> None:
        if isinstance(output, Tensor) and layer not in found:
            with torch._C.DisableTorchFunction():  # these calls are not the model's
                found[layer] = axes.layout(layer, output)

    handles = [on_layer(names, layer, partial(read, layer)) for layer in layers]
    try:
        with axes if handles else nullcontext():
            yield found
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True)
class UnknownLayout:
    """A layer whose channels are not known, or lie where no `Layout` has them.

    Attributes
    ----------
    layer
        Its name.
    reason
        Why, as a part of a sentence.
    """

    layer: str
    reason: str

    def __str__(self) -> str:
        return f"It is not known which axis of '{self.layer}' is channels: {self.reason}."


@dataclass(frozen=True, eq=False)
class _Followed:
    """What is known of a tensor of the pass: its axis of channels, and where its values lie."""

    tensor: Tensor  # held, so that no two have the same id
    axis: int | None = None
    places: Places | None = None
    lost: str = ""  # the function that lost the axis

    @property
    def is_known(self) -> bool:
        """Whether anything is."""
        return self.axis is not None or self.places is not None or bool(self.lost)

    @property
    def channels(self) -> Places | None:
        """The channel of each value."""
        return None if self.axis is None else channels_of(self.tensor, self.axis)

    def is_but_for_channels(self, other: _Followed) -> bool:
        """Return whether this and the other have the same shape, but for the length of their axis of channels."""
        same = self.axis is not None and self.axis == other.axis and self.tensor.ndim == other.tensor.ndim
        return same and self._others == other._others

    @property
    def _others(self) -> list[int]:
        return [size for place, size in enumerate(self.tensor.shape) if place != self.axis]


class _Axes(TorchFunctionMode):
    """Follows the axis of channels, and the places of values, through the functions of a pass."""

    def __init__(self, data: Tensor) -> None:
        super().__init__()
        self._space = tuple(data.shape[2:])
        self._known: dict[int, _Followed] = {}
        if len(self._space) > 1:  # [N, T, D] may be steps of features
            self._keep(_Followed(data, None, Places.of_map(data)))

    def layout(self, layer: str, output: Tensor) -> Layout | UnknownLayout:
        """Return the layout of a layer's output."""
        shape = tuple(output.shape[1:])
        if len(shape) < 2:
            return Layout(shape)
        spatial = self._has_space(output)
        followed = self._of(output)
        axis = followed.axis
        if axis is None and followed.lost:
            said = f"say it with layouts={{'{layer}': Layout(...)}}"
            return UnknownLayout(layer, f"what '{followed.lost}' does to its axes cannot be followed; {said}")
        if axis is None:  # as in a convolution, or tokens
            axis = 1 if spatial else len(shape)
        last = axis == len(shape)
        if not (last or axis == 1):
            return UnknownLayout(layer, f"they are on axis {axis} of [N, {', '.join(map(str, shape))}], a middle one")
        space = shape[:-1] if last else shape[1:]
        grid = followed.places and followed.places.grid(axis)
        if spatial or len(space) > 1:
            return Layout(shape, last, None if grid in (None, space) else ())
        return Layout(shape, last, grid or (), space[0] - prod(grid) if grid else 0)

    def __torch_function__(
        self, function: Callable, types: Collection[type], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run a function, and find the axis of channels and the places of what it returns."""
        call = SeenCall(function, args, kwargs or {})
        result = call.run()
        given = [self._of(tensor) for tensor in tensors_in((*args, *call.kwargs.values()))]
        if call.in_place and not keeps_order(function):
            if any(one.is_known for one in given):
                self._overwritten(call, given)
            return result
        outputs = list(tensors_in([result]))  # none of a call that reads a shape
        for one, other in zip_longest(self._found(call, given, outputs) if outputs else [], outputs):
            self._keep(one or _Followed(other))
        return result

    def _of(self, tensor: Tensor) -> _Followed:
        return self._known.get(id(tensor)) or _Followed(tensor)

    def _keep(self, one: _Followed) -> None:
        if one.is_known:
            self._known[id(one.tensor)] = one

    def _has_space(self, tensor: Tensor) -> bool:
        return tensor.ndim - 2 == len(self._space) > 0

    def _found(self, call: SeenCall, given: Sequence[_Followed], outputs: Sequence[Tensor]) -> list[_Followed]:
        """Return what is known of the results of a call."""
        known = [one for one in given if one.is_known]
        if not all(output.ndim and output.numel() for output in outputs):  # one number, or none
            return [*map(self._of, outputs)]
        if call.name in PRODUCTS and (known or call.name in _LAST):
            product = read_product(call, outputs[0])
            if product is not None:
                return [self._multiplied(call, product, outputs[0])]
        if call.name in _FIRST | _LAST or keeps_order(call.function) or not known:
            return [self._kept(call, given, self._of(output)) for output in outputs]
        if call.kwargs.get("out") is None:  # what is given must not get coordinates
            if call.name in _JOINING:
                return self._moved(call, given, outputs, lambda known: joined(call, known))
            if isinstance(call.args[0], Tensor) and moves(call):
                return self._moved(call, given, outputs, lambda known: known[0].after(call) if known[0] else [])
        return self._probed(call, known, outputs)

    def _kept(self, call: SeenCall, given: Sequence[_Followed], before: _Followed) -> _Followed:
        """Follow a function that is known to keep positions in order, or to make a feature map."""
        axis = self._kept_axis(call, given, before.tensor)
        lost = next((one.lost for one in given if one.lost), "") if axis is None else ""
        result = before if axis is None else replace(before, axis=axis)
        result = replace(result, lost=lost)
        maps = call.name in _FIRST and axis == 1 and self._has_space(before.tensor)
        places = _carried([one for one in given if one.places is not None], result, maps)
        return result if places is None else replace(result, places=places)

    @staticmethod
    def _kept_axis(call: SeenCall, given: Sequence[_Followed], output: Tensor) -> int | None:
        if output.ndim < 2:
            return None
        sources = [one for one in given if one.axis is not None]
        if call.name == "scaled_dot_product_attention":
            value = call.argument(2, "value")
            sources = [one for one in sources if one.tensor is value]
        elif call.name == "conv1d" and _mixes_tokens(call, sources):
            return 2
        elif call.name not in _NORMS and call.name in _FIRST | _LAST:
            return 1 if call.name in _FIRST else output.ndim - 1
        for source in sources:
            axis = output.ndim + source.axis - source.tensor.ndim  # tensors are repeated along axes in front
            if axis > 0 and source.tensor.shape[source.axis] in (1, output.shape[axis]):
                return axis
        found = _but_for_channels(sources, output)
        if found is None and call.name in _NORMS:
            return 1 if call.name in _FIRST else output.ndim - 1
        return found

    @staticmethod
    def _moved(
        call: SeenCall,
        given: Sequence[_Followed],
        outputs: Sequence[Tensor],
        follow: Callable[[Sequence[Places | None]], list[Places]],
    ) -> list[_Followed]:
        """Follow a function that moves, joins or averages values, by what it does to their channels and coordinates."""
        channels, places = (follow([getattr(one, name) for one in given]) for name in ("channels", "places"))
        if call.name == "pad" and given[0].places and not given[0].places.moved:  # a map with a border is a map
            places = [Places.of_map(outputs[0])]
        lost = next((one.lost for one in given if one.lost), "")
        found = []
        for output, numbers, one in zip_longest(outputs, channels, places):
            axis = None if numbers is None else axis_of(numbers)
            if axis is None:
                axis = _but_for_channels(given, output)
            found.append(_Followed(output, axis, one, lost if axis is None else ""))
        return found

    def _multiplied(self, call: SeenCall, product: Product, output: Tensor) -> _Followed:
        """Follow a product, by the axes that its operands have in common."""
        operands = [self._of(tensor) for tensor, _ in product.operands]
        axis = product.axis([one.axis for one in operands])
        if axis is None and call.name in _LAST:
            axis = output.ndim - 1
        places = product.places([one.places for one in operands], output.shape)
        lost = next((one.lost or call.name for one in operands if one.lost or one.axis is not None), "")
        return _Followed(output, axis, places, lost if axis is None else "")

    @staticmethod
    def _probed(call: SeenCall, known: Sequence[_Followed], outputs: Sequence[Tensor]) -> list[_Followed]:
        """Find out what an unknown function does to channels and coordinates."""
        if call.kwargs.get("out") is not None:  # what is given must not be written again
            known = []
        known = [one for one in known if one.tensor.is_floating_point() or one.tensor.is_complex()]

        def found(each: Callable[[_Followed], Places | None]) -> list[list[Places]]:
            """Return what the sources say, for each result."""
            said = [places_of_origins(call, one.tensor, each(one)) for one in known if each(one)]
            return [
                [one[number] for one in said if one[number:] and one[number].along[0].shape == output.shape]
                for number, output in enumerate(outputs)
            ]

        lost = next((one.lost or call.name for one in known if one.lost or one.axis is not None), "")
        like = next((one.places for one in known if one.places), None)
        results = []
        for output, places, channels in zip(
            outputs, found(lambda one: one.places), found(lambda one: one.channels), strict=True
        ):
            own = next((one for one in places if not one.nowhere), like and Places.lost(output.shape, like))
            axis = next((axis for axis in map(axis_of, channels) if axis is not None), None)
            if axis is None and lost:
                axis = axis_without_places(own) if places else _but_for_channels(known, output)
            results.append(_Followed(output, axis, own, lost if axis is None else ""))
        return results

    def _overwritten(self, call: SeenCall, given: Sequence[_Followed]) -> None:
        """Follow what is written into a tensor."""
        target, value = given[0], given[-1] if isinstance(call.args[-1], Tensor) else None
        tensor, index = target.tensor, call.args[1] if call.name == "setitem" else ...

        def written(into: Places | None, of: Places | None) -> Places | None:
            into = into or (of and Places.lost(tensor.shape, of))
            return into and into.overwritten(index, of)

        if call.name not in ("setitem", "copy_"):
            self._lose(call, target, given)
        else:
            channels = written(target.channels, value and value.channels)
            axis = channels and axis_of(channels)
            self._known[id(tensor)] = _Followed(tensor, axis, written(target.places, value and value.places))
        if tensor._base is not None:  # a view
            self._lose(call, self._of(tensor._base), given)

    def _lose(self, call: SeenCall, one: _Followed, given: Sequence[_Followed]) -> None:
        like = next((each.places for each in (one, *given) if each.places), None)
        places = like and Places.lost(one.tensor.shape, like)
        axis = None if call.name in _MOVING_AXES else one.axis
        self._known[id(one.tensor)] = _Followed(one.tensor, axis, places, "" if axis else call.name)


def _but_for_channels(sources: Iterable[_Followed], output: Tensor) -> int | None:
    """Return the axis of channels of a tensor that has the shape of a source, but for their number."""
    found = (one.axis for one in sources if one.is_but_for_channels(_Followed(output, one.axis)))
    return next(found, None)


def _mixes_tokens(call: SeenCall, sources: Sequence[_Followed]) -> bool:
    """Return whether a convolution `[N, T, C]` -> `[N, U, C]` combines tokens, and leaves channels where they are."""
    values, weight = call.argument(0, "input"), call.argument(1, "weight")
    return weight.shape[2] == 1 and any(one.tensor is values and one.axis == 2 for one in sources)


def _carried(sources: Sequence[_Followed], output: _Followed, maps: bool) -> Places | None:
    """Return the places of a result whose values lie where those of a source lie: the first with several places."""
    several = len(sources) > 1
    for source in sorted(sources, key=lambda one: several and one.places.indistinct):
        places, shape = source.places, output.tensor.shape
        if maps and not (places.moved and places.grid(1) != source.tensor.shape[2:]):
            break
        if source.tensor.shape == shape:
            return places
        if source.is_but_for_channels(output):
            return places.with_channels(source.axis, shape)
        if maps:
            return places.among_neighbours(output.tensor)
    return Places.of_map(output.tensor) if maps else None
