"""Patches: crops of reference samples around the position where a concept scored, with its heatmap there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, zip_longest

import numpy as np
import torch
from torch import Tensor

from crp.attribution import INPUT, RelevanceFlow, Replica
from crp.concepts import ChannelConcept, ConceptKind, Layout
from crp.library.patches import StoredPatch

from .block_stream import SampleReader, label_table
from .crops import cropped, patch_box
from .input_boxes import Positions
from .patch_requests import Explained, Origin, Request, by_explained, passes_of
from .patch_starts import Starts, starts_of
from .targets import TargetRule, attribution_targets, logits

# Samples of a forward pass, and conditions of a backward pass on an accelerator. The last bits of a heatmap depend on
# these numbers alone, and not on what else is in the pass: a patch is the same whatever is made with it.
TOGETHER = 8
_CONDITIONS = 4


@dataclass(frozen=True)
class PatchMaker:
    """Makes patches, one group of samples at a time. A patch is the same bytes whatever is made with it.

    A patch's heatmap is the relevance that the concept sends to the input from its *scoring position*. It starts from
    the concept's relevance at that position for the explained target (modes `"relevance"` and `"negative"`) or from its
    part of the activation there (`"activation"`). In mode `"negative"` the relevance is negative, and so is the heatmap
    in the crop. Heatmaps are stored relative to their largest absolute value.

    Attributes
    ----------
    replica
        The prepared model.
    targets
        The rule that starts relevance; None if relevance starts at the logit.
    concept
        The kind of concept.
    reader
        The data set.
    layouts
        What the axes of each layer's output mean.
    positions
        Where each layer's positions lie in the input.
    to_picture
        Turns a sample `[c, H, W]` into uint8 `[H, W, 3]`; returns a signal `[c, T]` unchanged.
    patch_size
        Longest side of a stored patch, in pixels; longest window of a signal, in values.
    samples
        Samples of every forward pass.
    """

    replica: Replica
    targets: TargetRule | None
    concept: ConceptKind
    reader: SampleReader
    layouts: Mapping[str, Layout]
    positions: Mapping[str, Positions]
    to_picture: Callable[[Tensor], np.ndarray]
    patch_size: int
    samples: int

    def groups(self, wanted: Sequence[Request]) -> list[list[Request]]:
        """Group the requests of samples that need the same number of backward passes, for one forward pass each."""
        explained = by_explained(wanted)
        layers = sorted({request.layer for request in wanted})
        passes = {key: [len(self._passes(own, layer)) for layer in layers] for key, own in explained.items()}
        order = sorted(explained, key=lambda key: (passes[key], key))
        return [
            [request for key in order[first : first + self.samples] for request in explained[key]]
            for first in range(0, len(order), self.samples)
        ]

    def of_group(self, group: Sequence[Request]) -> Iterator[tuple[Request, StoredPatch]]:
        """Make the patches of a group, in any order."""
        explained = by_explained(group)
        read = [self.reader[sample] for sample, _ in explained]
        pictures = [self.to_picture(data) for data, _ in read]
        layers = sorted({request.layer for request in group})
        # a smaller group is filled up with copies of its first sample
        rows = [*range(len(read)), *[0] * (self.samples - len(read))]
        data = torch.stack([read[row][0] for row in rows])
        with RelevanceFlow(self.replica, None, data, layers, layouts=self.layouts) as flow:
            labels = label_table([read[row][1] for row in rows])
            keys = list(explained)
            started = partial(self._started, flow, [keys[row] for row in rows], labels)
            starts = starts_of(flow, self.concept, explained, started)
            for layer in layers:
                for place, request, heatmap in self._in_layer(flow, explained, layer, starts):
                    yield request, self._stored(request, pictures[place], heatmap)

    def _in_layer(
        self, flow: RelevanceFlow, explained: Explained, layer: str, starts: Starts
    ) -> Iterator[tuple[int, Request, np.ndarray]]:
        """Yield sample number in the flow, request and heatmap float32 `[*S]` of all requests in a layer."""
        passes = [self._passes(own, layer) for own in explained.values()]
        conditions = 1 if flow.device.type == "cpu" else _CONDITIONS
        for first in range(0, max(map(len, passes)), conditions):
            some = [own[first : first + conditions] for own in passes]
            heatmaps = self._heatmaps(flow, layer, some, starts, conditions)
            for place, own in enumerate(some):
                for k, origins in enumerate(own):
                    for request in chain(*origins):
                        yield place, request, starts.factor(request) * heatmaps[k, place]

    def _passes(self, wanted: Iterable[Request], layer: str) -> list[list[Origin]]:
        unit = isinstance(self.concept, ChannelConcept)
        return passes_of(wanted, layer, self.positions[layer].fields, linear=self.replica.linear, unit=unit)

    def _started(self, flow: RelevanceFlow, explained: Sequence[tuple[int, int]], labels: Tensor) -> Tensor:
        """Return the relevance that starts at the output, `[1, N, ...]`; zero for samples with target -1."""
        samples, targets = map(np.array, zip(*explained, strict=True))
        if self.targets is None:
            return logits(flow.prediction, targets)[None]
        started = torch.zeros_like(flow.prediction)
        found = attribution_targets(self.targets, flow.prediction, labels, torch.from_numpy(samples), 1 << 62)
        for target in found:
            these = torch.from_numpy((target.targets == targets) & (targets >= 0))
            started[these] = target.relevance[these].to(started)
        return started[None]

    def _heatmaps(
        self,
        flow: RelevanceFlow,
        layer: str,
        passes: Sequence[Sequence[Sequence[Origin]]],
        starts: Starts,
        conditions: int,
    ) -> np.ndarray:
        """Compute heatmaps float32 `[K, N, *S]` of the passes of each sample; all origins of a pass are summed."""
        # nothing starts where a sample has fewer passes than there are conditions
        slots = {(k, place): origins for place, own in enumerate(passes) for k, origins in enumerate(own)}
        shape = flow.activation(layer).shape
        arriving = torch.zeros(
            conditions * shape[0], *shape[1:], dtype=flow.prediction.dtype, device=flow.device
        )
        # the first origin of every pass, then the second ones, and so on
        for row in zip_longest(*slots.values()):
            filled = [(slot, origin[0]) for slot, origin in zip(slots, row, strict=True) if origin]
            kept = starts.at(layer, [first for _, first in filled], [place for (_, place), _ in filled])
            places = [k * shape[0] + place for (k, place), _ in filled]
            arriving.index_add_(0, torch.tensor(places, device=flow.device), kept)
        heatmaps = flow.down(arriving.unflatten(0, (conditions, shape[0])), start=layer, to=INPUT)
        return heatmaps.sum(2).float().cpu().numpy()

    def _stored(self, request: Request, picture: np.ndarray, heatmap: np.ndarray) -> StoredPatch:
        """Crop a sample's picture and the heatmap of a request."""
        window = self.positions[request.layer].windows[request.position]
        box = patch_box(-heatmap if request.mode == "negative" else heatmap, window)
        encoded, relative = cropped(picture, heatmap, box, self.patch_size)
        return StoredPatch(request.sample, request.score, request.target, request.position, box, encoded, relative)
