r"""One forward pass held open, for relevance to flow down and regions to flow up.

Everything else in this package is a page on top of `RelevanceFlow`: it runs the model once, keeps what the rules need,
and from then on answers any number of questions about that pass:

- `down` carries relevance from the output, or a layer, to lower layers or the input, many conditions at a time;
- `up` is the transpose: a region of the input, carried to a layer, says what each unit there sends into the region,
  :math:`\langle \mathrm{down}(R), M\rangle = \langle R, \mathrm{up}(M)\rangle`;
- `regions` uses it to find the relevance of all concepts in all regions at the price of the regions alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from zennit.core import Composite

from crp.attribution.backward_graph import find_all, graph_below, use_once
from crp.attribution.memory import memory_kept
from crp.attribution.operators import look_at_signs
from crp.attribution.outputs import described_output
from crp.attribution.rearranging import Rearranging
from crp.attribution.replica import Replica, prepare
from crp.concepts import ChannelConcept
from crp.errors import CrpError, InputError, ModelError, listed, nearest

# No module can be called so by attribute, and layers called "y" or "input" exist.
OUTPUT = "(output)"
INPUT = "(input)"

# Conditions share a downward pass as long as none of its tensors gets larger than this, in bytes.
_LARGEST_CPU, _LARGEST_ACCELERATOR = 2**26, 2**28
_CHUNK = 64


@dataclass
class _Tap:
    """A layer's output in the graph: relevance arrives at `above`, and leaves from `below`."""

    above: Tensor
    below: Tensor


class RelevanceFlow:
    """One forward pass held open.

    Parameters
    ----------
    model
        The model, or a `Replica` made by `prepare` to be used for many flows. The caller's model is never changed;
        it is explained in evaluation mode, on its own device.
    composite
        zennit composite with the rules and canonizers; None for the plain gradient. Must be None with a `Replica`.
    data
        Model input, `[N, c, *S]` (or `[N, F]`), of the dtype of the model's weights. It is moved to their device.
    layers
        Names of the layers (`model.named_modules()`) at which relevance can be read, masked or started.
    chunk
        How many conditions share one downward pass; by default as many as keep its tensors at a good size, at most 64.
    to_input
        Whether relevance may flow to the input. If not, it ends at the lowest layers, and of what the model computes
        below them nothing is kept.

    Raises
    ------
    InputError
        If a layer is not one of the model's, or the data do not fit.
    ModelError
        If the model cannot run on the data, the output is not a finite tensor, or a layer is called more than once
        or never.

    Examples
    --------
    >>> from zennit.composites import EpsilonPlusFlat
    >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    >>> with RelevanceFlow(model, EpsilonPlusFlat(), torch.ones(1, 1, 4, 4), ["0"]) as flow:
    ...     arriving = flow.down(flow.output_relevance([1]), to="0")
    ...     heatmaps = flow.down(arriving, start="0")
    >>> arriving.shape, heatmaps.shape
    (torch.Size([1, 1, 4, 2, 2]), torch.Size([1, 1, 1, 4, 4]))
    """

    def __init__(
        self,
        model: nn.Module | Replica,
        composite: Composite | None,
        data: Tensor,
        layers: Iterable[str] = (),
        *,
        chunk: int | None = None,
        to_input: bool = True,
    ) -> None:
        if isinstance(model, Replica):
            if composite is not None:
                raise InputError("A Replica has its rules already: give None as its composite.")
            self.replica = model
        else:
            self.replica = prepare(model, composite)
        layers = list(dict.fromkeys(layers))
        names = dict(self.replica.model.named_modules())
        for layer in layers:
            if layer not in names or layer == "":
                raise InputError(f"The model has no layer '{layer}': {nearest(layer, [*names][1:])}")
        data = _fitting(self.replica.model, data)
        self.device = data.device
        self.linear = self.replica.linear
        self.notes = self.replica.notes
        self._blocked: set[str] = set()
        self._ups: dict[str, tuple[Tensor, Tensor]] = {}
        self._input = _laid_out(data.detach()).requires_grad_(to_input)
        if not self._run(layers, names):
            # The model overwrites what was kept, in place. From now on this replica copies first.
            self.replica.careful = True
            self._run(layers, names)
        largest = _LARGEST_CPU if data.device.type == "cpu" else _LARGEST_ACCELERATOR
        self.chunk = chunk or max(1, min(_CHUNK, largest // self._widest))
        missing = [layer for layer in layers if layer not in self._taps]
        if missing:
            raise ModelError(f"The model has, but never calls, {listed(missing)}.")

    # -- the forward pass --------------------------------------------------------------------------------------

    def _run(self, layers: Sequence[str], names: dict[str, nn.Module]) -> bool:
        """Run the model once; False if it overwrote in place what was to be kept."""
        careful = self.replica.careful
        self._taps: dict[str, _Tap] = {}
        self._versions: list[tuple[Tensor, int]] = []
        calls = []
        for rule in self.replica.rules:
            rule.calls, rule.careful = calls, careful
        handles = [names[layer].register_forward_hook(self._tap(layer)) for layer in layers]
        try:
            with torch.enable_grad(), Rearranging():
                # cloned, for a model may begin with an operation in place
                output = self.replica.model(self._input.clone())
        except CrpError:
            raise
        except (RuntimeError, ValueError) as error:
            if not careful and "in-place operation" in str(error):
                return False  # on a layer's output that the graph starts from, which autograd does not allow
            reason = str(error).strip().splitlines()[0]
            raise ModelError(f"The model cannot run on input of shape {list(self._input.shape)}: {reason}") from error
        finally:
            for handle in handles:
                handle.remove()
            for rule in self.replica.rules:
                rule.calls = []
        if not isinstance(output, Tensor):
            raise ModelError(
                f"The model's output is {described_output(output)}, not a tensor: say which part is explained with "
                "crp.select_output(model, name)."
            )
        if output.ndim == 1:
            output = output[:, None]  # a regression's [N]: one output of each sample
        if not output.requires_grad:
            start = "its input" if self._input.requires_grad else f"what it makes of {listed(layers)}"
            raise ModelError(f"The model's output does not depend on {start}.")
        if not bool(torch.isfinite(output.detach()).all()):
            raise ModelError("The model's output is not finite (NaN or infinite) for this input.")
        # the output is a tap like any other: relevance starts below it
        self._taps[OUTPUT] = _Tap(output, output)
        self.prediction = output.detach()
        self._widest = max(tensor.nbytes for tensor in (output, *(call.output for call in calls)))
        spoiled = any(call.overwritten() for call in calls) or any(
            kept._version != version for kept, version in self._versions
        )
        if spoiled and not careful:
            return False
        look_at_signs(calls)
        return True

    def _tap(self, layer: str) -> Callable[[nn.Module, tuple, object], Tensor]:
        # no reference to the flow itself: the graph holds these hooks, and the flow holds the graph
        careful, taps, versions, blocked = self.replica.careful, self._taps, self._versions, self._blocked
        to_input = self._input.requires_grad

        def tap(module: nn.Module, args: tuple, output: object) -> Tensor:
            if not isinstance(output, Tensor):
                raise ModelError(
                    f"Layer '{layer}' gives a {type(output).__name__}, not a tensor; its relevance cannot be read."
                )
            if layer in taps:
                raise ModelError(
                    f"Layer '{layer}' is called more than once in one forward pass, so its relevance has no single "
                    "place; name the layers around it."
                )
            if to_input and not output.requires_grad:
                raise ModelError(f"The output of layer '{layer}' does not depend on the model's input.")
            below = output
            # a node of its own, so that layers whose output is the same tensor can be told apart
            above = output.clone() if careful else output.view_as(output)
            if below.requires_grad:
                below.register_hook(lambda gradient: torch.zeros_like(gradient) if layer in blocked else None)
            else:
                above.requires_grad_()
            taps[layer] = _Tap(above, below)
            versions.append((above, above._version))
            return above.clone() if careful else above

        return tap

    def __enter__(self) -> RelevanceFlow:
        self._memory = memory_kept()
        self._memory.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
        self._memory.__exit__(None, None, None)

    def close(self) -> None:
        """Let go of the forward pass."""
        self._taps, self._ups = {}, {}

    # -- reading -----------------------------------------------------------------------------------------------

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers asked for, in the order in which the model completes them (input first)."""
        return tuple(layer for layer in self._taps if layer != OUTPUT)

    @property
    def input_shape(self) -> torch.Size:
        """Shape of the model input, `[N, c, *S]`."""
        return self._input.shape

    def activation(self, layer: str) -> Tensor:
        """Output of a layer in this forward pass, `[N, C, *S]`."""
        return self._at(layer).below.detach()

    def tensors(self, layer: str) -> tuple[Tensor, Tensor]:
        """A layer's output in the graph of this pass, for a backward pass of one's own.

        Parameters
        ----------
        layer
            A layer's name, `OUTPUT`, or `INPUT` (where both are the one leaf of the graph).

        Returns
        -------
        tuple of two Tensors
            `[N, C, *S]` each: where relevance arrives (gradients with respect to it are what arrives, and a hook on it
            changes what goes on), and where it leaves.
        """
        return self._end(layer), self._end(INPUT) if layer == INPUT else self._at(layer).below

    def output_relevance(self, targets: Sequence[int] | Tensor, init: Tensor | None = None) -> Tensor:
        """Relevance that starts at the model's output.

        Parameters
        ----------
        targets
            One class for each of the `N` samples.
        init
            What the relevance at the target is, `[N, classes]`; by default the model's output (the logit, with its
            sign).

        Returns
        -------
        Tensor
            `[1, N, classes]`, zero but at the targets.

        Raises
        ------
        InputError
            If a target is not one of the classes, or their number is not `N`.
        """
        prediction = self.prediction
        if prediction.ndim != 2:
            raise InputError(
                f"Targets name classes of an output [N, classes]; this model's output is {list(prediction.shape)}."
            )
        targets = torch.as_tensor(targets, device=prediction.device)
        if targets.shape != prediction.shape[:1]:
            raise InputError(f"{len(prediction)} samples need as many targets, given {list(targets.shape)}.")
        for target in targets.tolist():
            check_class(target, prediction.shape[1])
        start = prediction if init is None else init
        return (start * torch.nn.functional.one_hot(targets.long(), prediction.shape[1]).to(start))[None]

    def reaches(self, start: str, to: str, *, around: Collection[str] = ()) -> bool:
        """Whether relevance can flow from layer `start` down to layer `to`, around (not through) some layers."""
        source, end = self._at(start).below, self._end(to)
        closed = {self._at(layer).above.grad_fn for layer in around}
        return source is end or any(
            node is end.grad_fn or getattr(node, "variable", None) is end
            for node in graph_below(source, closed=closed)
        )

    # -- flowing -----------------------------------------------------------------------------------------------

    def down(
        self,
        relevance: Tensor,
        *,
        start: str = OUTPUT,
        to: str | Sequence[str] = INPUT,
        blocked: Collection[str] = (),
    ) -> Tensor | dict[str, Tensor]:
        """Carry relevance to lower layers.

        Parameters
        ----------
        relevance
            Relevance at the output of layer `start`, `[K, N, C, *S]` for `K` conditions.
        start
            Where it starts; `OUTPUT` is the model's output.
        to
            A layer or `INPUT`, or several.
        blocked
            Layers that let nothing through. Relevance arrives there, and ends.

        Returns
        -------
        Tensor or dict of str to Tensor
            Relevance that arrives, `[K, N, ...]`; with several `to` a dict. Zero where nothing arrives.
        """
        goals = [to] if isinstance(to, str) else list(to)
        source, ends = self._at(start).below, [self._end(goal) for goal in goals]
        if relevance.shape[1:] != source.shape:
            raise InputError(
                f"Relevance at '{start}' is [K, {', '.join(map(str, source.shape))}], given {list(relevance.shape)}."
            )
        parts: list[list[Tensor]] = [[] for _ in goals]
        chunks = self._chunks(relevance)
        if len(chunks[0]) > 1:
            self._find_all(source)
        with self._blocking(blocked):
            for chunk in chunks:
                for found, part, end in zip(parts, self._gradient(source, ends, chunk), ends, strict=True):
                    found.append(end.new_zeros(len(chunk), *end.shape) if part is None else part)
        arriving = {
            goal: found[0] if len(found) == 1 else torch.cat(found) for goal, found in zip(goals, parts, strict=True)
        }
        return arriving[to] if isinstance(to, str) else arriving

    def sweep(
        self, relevance: Tensor, layers: Sequence[str], visit: Callable[[str, Tensor], None], *, last: bool = False
    ) -> None:
        """Carry relevance from the output down, and show it at each layer as it arrives.

        Nothing is kept after a visit, and the pass goes no lower than the lowest of the layers.

        Parameters
        ----------
        relevance
            `[1, N, classes]`.
        layers
            Names of layers.
        visit
            Called as `visit(layer, arriving)` with `arriving` `[N, C, *S]`, in the order in which it arrives.
        last
            Whether nothing more is asked of this flow: what relevance has passed is let go at once, and the flow is
            closed.
        """
        lowest = [low for low in layers if not any(low != other and self.reaches(low, other) for other in layers)]
        handles = [
            self._at(layer).above.register_hook(lambda gradient, layer=layer: visit(layer, gradient.detach()))
            for layer in layers
        ]
        output = self._at(OUTPUT).below
        if last:
            use_once(output)
        try:
            torch.autograd.grad(output, [self._at(low).above for low in lowest], relevance[0], retain_graph=not last)
        finally:
            for handle in handles:
                handle.remove()
        if last:
            self.close()

    def up(self, regions: Tensor, layer: str) -> Tensor:
        """Carry regions of the input up to a layer: the transpose of `down` from there.

        Parameters
        ----------
        regions
            Weights at the input, `[R, *S]` (the same for each sample and input channel) or `[R, N, c, *S]`.
        layer
            A layer's name.

        Returns
        -------
        Tensor
            `[R, N, C, *S]`: the part of a unit's relevance that it sends into the region.

        Raises
        ------
        ModelError
            If a rule is not linear.
        """
        if not self.linear:
            raise ModelError(f"Regions flow up through linear rules only. {' '.join(self.notes)}")
        if regions.shape[1:] == self._input.shape[2:]:
            regions = regions[:, None, None].expand(-1, *self._input.shape)
        if regions.shape[1:] != self._input.shape:
            raise InputError(
                f"Regions of this input are [R, {', '.join(map(str, self._input.shape[2:]))}] or "
                f"[R, {', '.join(map(str, self._input.shape))}], given {list(regions.shape)}."
            )
        if layer not in self._ups:
            source = self._at(layer).below
            self._find_all(source)
            relevance = torch.zeros_like(source, requires_grad=True)
            (heatmap,) = torch.autograd.grad(
                source, self._end(INPUT), relevance, create_graph=True, retain_graph=True
            )
            self._ups[layer] = (heatmap, relevance)
        heatmap, relevance = self._ups[layer]
        parts = [self._gradient(heatmap, [relevance], chunk)[0] for chunk in self._chunks(regions.to(heatmap))]
        return torch.cat(parts)

    def regions(
        self, layer: str, cells: Tensor, relevance: Tensor, *, total: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        """Relevance of every concept in every cell of the input.

        Parameters
        ----------
        layer
            A layer's name.
        cells
            `[R, *S]`, 1 inside the cell and 0 outside (or any weights).
        relevance
            Relevance that arrives at the layer, `[N, C, *S]`.
        total
            What a concept's part adds up to, `[R, C, *S]` -> `[R, C]`; by default the sum over space
            (`crp.concepts.ConceptKind.total`).

        Returns
        -------
        Tensor
            `[R, N, C]`: the sum over a cell of the conditional heatmap of each channel. `R` upward passes instead of
            `C` downward ones.
        """
        total = total or ChannelConcept().total
        tables = []
        for chunk in cells.split(self.chunk):
            share = self.up(chunk, layer) * relevance
            tables.append(total(share.flatten(0, 1)).unflatten(0, share.shape[:2]))
        return torch.cat(tables)

    # -- inside ------------------------------------------------------------------------------------------------

    def _at(self, layer: str) -> _Tap:
        if layer not in self._taps:
            if not self._taps:
                raise InputError("This flow is closed.")
            raise InputError(f"This flow does not hold layer '{layer}': {nearest(layer, [*self._taps])}")
        return self._taps[layer]

    def _end(self, layer: str) -> Tensor:
        if layer != INPUT:
            return self._at(layer).above
        if not self._input.requires_grad:
            raise InputError("This flow was opened without its input (to_input=False).")
        return self._input

    def _find_all(self, source: Tensor) -> None:
        find_all(source, [tap.below for tap in self._taps.values()])

    @contextmanager
    def _blocking(self, layers: Collection[str]) -> Iterator[None]:
        self._blocked.update(layers)
        try:
            yield
        finally:
            self._blocked.clear()

    def _chunks(self, stacked: Tensor) -> Sequence[Tensor]:
        return stacked.split(self.chunk if self.replica.batched else 1)

    def _gradient(self, output: Tensor, inputs: Sequence[Tensor], relevance: Tensor) -> list[Tensor | None]:
        """Transposed Jacobian (with rules in place of derivatives) on relevance `[K, ...]`."""
        # As the pass is laid out. A gradient that is not would be laid out anew at each module it meets.
        relevance = _laid_out(relevance, 2)

        def gradient(single: Tensor) -> list[Tensor | None]:
            return torch.autograd.grad(output, inputs, single, retain_graph=True, allow_unused=True)

        if len(relevance) == 1:
            return [None if part is None else part[None] for part in gradient(relevance[0])]
        reached: list[bool] = []

        def found(single: Tensor) -> list[Tensor]:
            parts = gradient(single)
            reached[:] = [part is not None for part in parts]
            return [part for part in parts if part is not None]

        # Not `is_grads_batched`: it computes convolutions one condition after the other.
        parts = iter(torch.vmap(found)(relevance))
        return [next(parts) if reaches else None for reaches in reached]


def check_class(target: int, count: int) -> None:
    """Refuse a class that the output does not have.

    Raises
    ------
    InputError
        With the class and the allowed range.
    """
    if not 0 <= target < count:
        raise InputError(f"There is no class {target}: the model's output has the classes 0 to {count - 1}.")


def _laid_out(values: Tensor, axis: int = 1) -> Tensor:
    """Lay bfloat16 pictures and volumes out channels last, where their convolutions are fastest.

    In float32 that layout would be faster, too, but oneDNN then sums in an order that loses a digit.
    """
    if 0 in values.stride():
        return values  # repeated; the first operation on it lays its result out
    if values.ndim - axis < 3 or values.dtype != torch.bfloat16:
        return values.contiguous()
    return values.movedim(axis, -1).contiguous().movedim(-1, axis)


def _fitting(model: nn.Module, data: Tensor) -> Tensor:
    """Move data to the model's device, after a look at its dtype."""
    weight = next((parameter for parameter in model.parameters() if parameter.is_floating_point()), None)
    if not isinstance(data, Tensor) or not data.is_floating_point():
        kind = data.dtype if isinstance(data, Tensor) else type(data).__name__
        raise InputError(f"Model input must be a tensor of floating point numbers, given {kind}.")
    if not data.numel():
        raise InputError(f"Model input is empty: {list(data.shape)}.")
    if weight is None:
        return data
    if weight.dtype == torch.float16:
        raise ModelError("LRP divides by numbers near 1e-6, which float16 cannot hold: call model.float() first.")
    if weight.dtype != data.dtype:
        raise InputError(f"Model input is {data.dtype}, the model's weights are {weight.dtype}: convert one of them.")
    return data.to(weight.device, non_blocking=True)
