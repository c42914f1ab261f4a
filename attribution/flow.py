r"""One forward pass held open, so that relevance can flow down and regions can flow up.

`RelevanceFlow` runs the model once and keeps what the rules need. `down` propagates relevance to lower layers or the
input, for many conditions at a time. `up` is its transpose, :math:`\langle \mathrm{down}(R), M\rangle = \langle R,
\mathrm{up}(M)\rangle`: how much relevance each unit sends into a region; `regions` uses it for all concepts in all.

Relevance that ends at layers says what counts, at the input where. Each has its rules (`purposes.py`, `_purpose`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from zennit.core import Composite

from crp.arguments import layer_names
from crp.attribution.backward_graph import calls_below, compute_factors, free_after_use, is_below
from crp.attribution.backward_pass import BackwardPass
from crp.attribution.flow_arguments import check_relevance, full_regions
from crp.attribution.forward_pass import INPUT, OUTPUT, Tap, checked_input, fast_layout, run_forward
from crp.attribution.interventions import Interventions
from crp.attribution.isolation import isolated, isolated_pass
from crp.attribution.ledger import Ledger, balance
from crp.attribution.memory import memory_kept
from crp.attribution.named_layers import check_layer
from crp.attribution.positive_outputs import shorter_calls
from crp.attribution.purposes import Purpose
from crp.attribution.replica import Replica, prepare
from crp.attribution.starts import Logits, Start
from crp.attribution.upward_graph import UpwardGraph
from crp.concepts import ChannelConcept, Kinds, Layout, Parts, kind_at, parts_of
from crp.errors import InputError, ModelError, nearest

# Conditions share a downward pass while none of its tensors exceeds this size in bytes.
_LARGEST_CPU, _LARGEST_ACCELERATOR = 2**26, 2**28
_LARGEST_CHUNK = 64
_CHANNELS = ChannelConcept()


class RelevanceFlow(Interventions):
    """One forward pass held open.

    Parameters
    ----------
    model
        The model, explained in evaluation mode and never changed; or a `Replica` made by `prepare` for many flows,
        which may be open at once, in several threads. A single flow is used by one thread at a time.
    composite
        A zennit composite with rules and canonizers; None for the plain gradient. Must be None with a `Replica`.
    data
        Model input, `[N, c, *S]` (or `[N, F]`), in the dtype of the model's weights. It is moved to their device.
    layers
        Names of layers (of `model.named_modules()`) where relevance is read, masked or started; or `"NAME..input"`.
    chunk
        How many conditions share one downward pass. The default depends on the size of the tensors, and is at most 64.
    to_input
        Whether relevance can flow to the input. If not, nothing below the layers is kept.
    before_activation
        Whether relevance starts at the logits before a softmax or sigmoid that ends the model, which `notes` says.
    layouts
        What the axes of some layers' outputs mean, where it is known; otherwise it is observed when it is needed.
    whole
        If not, nothing above the layers is computed, unless this is the first pass of a `Replica`.

    Raises
    ------
    InputError
        If the model has no such layer, or the data do not fit.
    ModelError
        If the model cannot run on the data, its output is not finite, or a layer is not called exactly once; if the
        weights were changed after a `Replica` was made.

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

    @isolated_pass()
    def __init__(
        self,
        model: nn.Module | Replica,
        composite: Composite | None,
        data: Tensor,
        layers: Iterable[str] = (),
        *,
        chunk: int | None = None,
        to_input: bool = True,
        before_activation: bool = True,
        layouts: Mapping[str, Layout] | None = None,
        whole: bool = True,
    ) -> None:
        if isinstance(model, Replica):
            if composite is not None:
                raise InputError("A Replica has its rules already: pass None as the composite.")
            model.check_weights()
            self.replica = model
        else:
            self.replica = prepare(model, composite)
        layers, names = layer_names(layers), dict(self.replica.model.named_modules())
        for layer in layers:
            check_layer(names, layer)
        data = checked_input(self.replica.model, data)
        self.device = data.device
        self._input = fast_layout(data.detach()).requires_grad_(to_input)
        with self.replica.running:
            forward = run_forward(self.replica, self._input, layers, before_activation=before_activation, whole=whole)
        self.linear = self.replica.linear
        self.pass_notes, self.first_order, self.path = forward.notes, forward.first_order, forward.path
        self.notes = (*self.replica.notes, *forward.notes)
        self.prediction, self.independent = forward.prediction, forward.independent
        self._taps, self._blocked = forward.taps, forward.blocked
        self._recorder, self._squares, self._hooks = forward.recorder, forward.squares, forward.hooks
        self._uppers, self._layouts = {}, dict(layouts or {})
        largest = _LARGEST_CPU if data.device.type == "cpu" else _LARGEST_ACCELERATOR
        self.chunk = chunk or max(1, min(_LARGEST_CHUNK, largest // forward.largest))
        self._largest = forward.largest // len(data)

    def __enter__(self) -> RelevanceFlow:
        self._memory = memory_kept(self._largest)
        self._memory.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
        self._memory.__exit__(None, None, None)

    def close(self) -> None:
        """Free the graph of the forward pass."""
        self._taps, self._uppers, self._squares.norms, self._hooks = {}, {}, [], []

    @property
    def layers(self) -> tuple[str, ...]:
        """The requested layers, in the order in which the model completes them (input first)."""
        return tuple(layer for layer in self._taps if layer != OUTPUT)

    @property
    def input_shape(self) -> torch.Size:
        """Shape of the model input, `[N, c, *S]`."""
        return self._input.shape

    def activation(self, layer: str) -> Tensor:
        """Return the output of a layer in this forward pass, `[N, C, *S]`."""
        return self._at(layer).below.detach()

    def layout(self, layer: str) -> Layout:
        """Return what the axes of a layer's output mean: as given, or as observed in a pass (`Replica.layout_of`)."""
        known = self._layouts.get(layer)
        found = known.at(self.activation(layer).shape[1:]) if known else None
        return found or self.replica.layout_of(self._input.detach()[:1], layer, self.layers)

    def parts(self, layer: str, concept: Kinds) -> Parts:
        """Return the parts of a layer's output for a kind of concept, or for that of the layer in a mapping."""
        return parts_of(kind_at(layer, concept), self.activation(layer), self.layout(layer), layer)

    def tensors(self, layer: str) -> tuple[Tensor, Tensor]:
        """Return a layer's output in the graph of this pass, `[N, C, *S]`, for a backward pass with the rules for maps.

        The gradient of the first tensor is the relevance that arrives, and a hook on it changes what flows on.
        Relevance leaves from the second. For `INPUT`, both are the leaf of the graph.
        """
        return self._end(layer), self._end(INPUT) if layer == INPUT else self._at(layer).below

    def output_relevance(self, targets: Sequence[int] | Tensor | Start) -> Tensor:
        """Compute the relevance that starts at the model's output.

        Parameters
        ----------
        targets
            One class for each of the `N` samples, or one for all, at which relevance starts as the logit with its
            sign; or any start of `crp.attribution.starts`.

        Returns
        -------
        Tensor
            `[1, N, ...]`; for classes, zero except at them.

        Raises
        ------
        InputError
            If the output has no such class, or the number of classes is not `N`.
        """
        start = targets if isinstance(targets, Start) else Logits(targets)
        return start.relevance(self.prediction)[None]

    def reaches(self, start: str, to: str, *, around: Collection[str] = ()) -> bool:
        """Return whether relevance can flow from layer `start` down to layer `to`, bypassing the layers `around`."""
        return is_below(self._end(to), self._at(start).below, [self._at(layer).above for layer in around])

    @isolated()
    def down(
        self,
        relevance: Tensor,
        *,
        start: str = OUTPUT,
        to: str | Sequence[str] = INPUT,
        blocked: Collection[str] = (),
    ) -> Tensor | dict[str, Tensor]:
        """Propagate relevance to lower layers.

        Parameters
        ----------
        relevance
            `[K, N, C, *S]` for `K` conditions, at the output of layer `start`.
        start
            The layer it starts at; `OUTPUT` is the model's output.
        to
            One or several layers, or `INPUT`.
        blocked
            Layers that let no relevance through: it arrives there and ends.

        Returns
        -------
        Tensor or dict of str to Tensor
            Relevance that arrives, `[K, N, ...]`, zero where none does; a dict if `to` is a sequence. By the rules for
            ranking at layers, by those for maps at the input, if the composite has both.
        """
        goals = [to] if isinstance(to, str) else list(to)
        source, ends = self._at(start).below, [self._end(goal) for goal in goals]
        check_relevance(relevance, source, start)
        parts: dict[str, list[Tensor]] = {goal: [] for goal in goals}
        chunks = relevance.split(self.chunk if self.replica.batched else 1)
        with self._blocking(blocked):
            for purpose in dict.fromkeys(map(self._purpose, goals)):
                sought = {goal: end for goal, end in zip(goals, ends, strict=True) if self._purpose(goal) is purpose}
                carried = self._pass(purpose, [source], [relevance], join=len(chunks[0]) > 1)
                for chunk in chunks:
                    found = carried.propagate(source, [*sought.values()], chunk)
                    for (goal, end), part in zip(sought.items(), found, strict=True):
                        parts[goal].append(end.new_zeros(len(chunk), *end.shape) if part is None else part)
        arriving = {goal: found[0] if len(found) == 1 else torch.cat(found) for goal, found in parts.items()}
        return arriving[to] if isinstance(to, str) else arriving

    @isolated()
    def sweep(
        self, relevance: Tensor, layers: Sequence[str], visit: Callable[[str, Tensor], None], *, last: bool = False
    ) -> None:
        """Propagate relevance from the output, and pass it to a callback at each layer.

        Parameters
        ----------
        relevance
            `[1, N, classes]`.
        layers
            Names of the layers.
        visit
            Called as `visit(layer, arriving)`, `arriving` being `[N, C, *S]`, in the order of arrival.
        last
            Whether this is the last use: the graph is freed during the backward pass, and the flow is closed.
        """
        if self._squares.norms:  # what they take arrives in a second pass
            found = self.down(relevance, to=[layer for layer in reversed(self.layers) if layer in layers])
            for layer, arriving in found.items():
                visit(layer, arriving[0])
            if last:
                self.close()
            return
        lowest = [low for low in layers if not any(low != other and self.reaches(low, other) for other in layers)]
        handles = [
            self._at(layer).above.register_hook(lambda gradient, layer=layer: visit(layer, gradient.detach()))
            for layer in layers
        ]
        output = self._at(OUTPUT).below
        if last:
            free_after_use(output)
        try:
            with self._pass(self._purpose(layers[0]), [output], [None], join=False).pursued():
                ends = [self._at(low).above for low in lowest]
                torch.autograd.grad(output, ends, relevance[0], retain_graph=not last)
        finally:
            for handle in handles:
                handle.remove()
        if last:
            self.close()

    def ledger(self, relevance: Tensor, *, start: str = OUTPUT) -> Ledger:
        """Say where relevance `[1, N, C, *S]` from layer `start` is absorbed that does not arrive at the input."""
        return self.down_with_ledger(relevance, start=start)[1]

    @isolated()
    def down_with_ledger(self, relevance: Tensor, *, start: str = OUTPUT) -> tuple[Tensor, Ledger]:
        """Propagate relevance `[1, N, C, *S]` from layer `start` to the input: what arrives there, and the ledger."""
        source, purpose = self._at(start).below, self._purpose(INPUT)
        for call in calls_below(source, purpose):
            call.forget()  # the factors of neighbours may be joined, which mixes their balances
        carried = self._pass(purpose, [source], [relevance], join=False)
        with self._recorder.recording() as entries:
            (arriving,) = carried.propagate(source, [self._end(INPUT)], relevance)
        arriving = self._input.new_zeros(1, *self._input.shape) if arriving is None else arriving
        return arriving, balance(relevance, [arriving], entries)

    @isolated()
    def up(self, regions: Tensor, layer: str) -> Tensor:
        """Propagate regions of the input up to a layer: the transpose of `down` from that layer.

        Parameters
        ----------
        regions
            Weights at the input, `[R, *S]` (the same for each sample and input channel) or `[R, N, c, *S]`.
        layer
            A layer's name.

        Returns
        -------
        Tensor
            `[R, N, C, *S]`: the fraction of its relevance that each unit sends into the region.

        Raises
        ------
        ModelError
            If a rule is not linear.
        """
        return self._up(regions, self.upward_graph([layer]), layer)

    def _up(self, regions: Tensor, graph: UpwardGraph, layer: str) -> Tensor:
        return graph.up(full_regions(regions, self._input.shape), [graph.layers[layer]])[0]

    @isolated()
    def upward_graph(self, layers: Sequence[str], arriving: Mapping[str, Tensor] | None = None) -> UpwardGraph:
        """Make a backward pass from some layers to the input whose transpose can run; `up` uses it.

        What flows up may be left out where the relevance that arrives at a layer, `[N, C, *S]`, is zero.
        """
        if not self.linear:
            raise ModelError(f"Regions flow up through linear rules only. {' '.join(self.notes)}")
        sources = {layer: self._at(layer).below for layer in layers}
        inner = {low for low in layers if any(low != other and self.reaches(other, low) for other in layers)}
        relevance = [None if arriving is None else arriving[layer] for layer in sources]
        carried = self._pass(self._purpose(INPUT), [*sources.values()], relevance, join=True)
        chunk = self.chunk if self.replica.batched else 1
        with carried.pursued():
            return UpwardGraph(sources, inner, self._end(INPUT), carried.propagate, chunk)

    @isolated()
    def regions(self, layer: str, cells: Tensor, relevance: Tensor, *, concept: Kinds = _CHANNELS) -> Tensor:
        """Compute the relevance of every concept in every cell of the input.

        Parameters
        ----------
        layer
            Its name.
        cells
            `[R, *S]`, 1 inside the cell and 0 outside; other weights are allowed.
        relevance
            Relevance that arrives at the layer, `[N, C, *S]`.
        concept
            The kind of concept.

        Returns
        -------
        Tensor
            `[R, N, n]`: the sum of each concept's conditional heatmap over each cell, from `R` upward passes.
        """
        parts, graph = self.parts(layer, concept), self.upward_graph([layer], {layer: relevance})
        return torch.cat([parts.total(self._up(some, graph, layer) * relevance) for some in cells.split(self.chunk)])

    def _at(self, layer: str) -> Tap:
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

    def _purpose(self, goal: str) -> Purpose:
        """Choose the rules of a backward pass by where it ends."""
        return Purpose.RANKING if self.replica.by_purpose and goal != INPUT else Purpose.MAPS

    def _pass(
        self, purpose: Purpose, sources: Sequence[Tensor], relevance: Sequence[Tensor | None], *, join: bool
    ) -> BackwardPass:
        """Begin a backward pass; with `join`, factors are computed, and those of neighbours joined."""
        shorter = shorter_calls(sources, relevance, purpose)
        if join:
            compute_factors(sources, [tap.below for tap in self._taps.values()], purpose, shorter)
        return BackwardPass(purpose, shorter, self._squares)

    @contextmanager
    def _blocking(self, layers: Collection[str]) -> Iterator[None]:
        self._blocked.update(layers)
        try:
            yield
        finally:
            self._blocked.clear()
