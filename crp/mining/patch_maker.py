"""Patches: crops of reference samples around the position where a concept scored, with its heatmap there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, groupby, zip_longest

import numpy as np
import torch
from torch import Tensor

from crp.attribution import INPUT, RelevanceFlow, Replica
from crp.concepts import ChannelConcept, Kinds, Layout, kind_at
from crp.library.patches import StoredPatch

from .block_stream import SampleReader, label_table
from .crop_maker import CropMaker
from .crops import cropped, patch_box
from .input_boxes import Positions
from .labels import Label
from .patch_requests import Explained, Origin, Request, by_explained, known_sign, passes_of
from .patch_starts import Starts, StartsByLayer
from .targets import TargetRule, attribution_targets, logits
from .windows import windows_of

# Samples of a forward pass, and conditions of a backward pass on an accelerator. The last bits of a heatmap depend on
# these numbers alone, and not on what else is in the pass: a patch is the same whatever is made with it.
TOGETHER = 8
_CONDITIONS = 4
# Samples that are kept after they were read.
_RECENT = 64


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
        Samples of every forward pass of whole samples.
    """

    replica: Replica
    targets: TargetRule | None
    concept: Kinds
    reader: SampleReader
    layouts: Mapping[str, Layout]
    positions: Mapping[str, Positions]
    to_picture: Callable[[Tensor], np.ndarray]
    patch_size: int
    samples: int
    _crops: dict[str, CropMaker | None] = field(default_factory=dict)
    _recent: dict[int, tuple[Tensor, Label, np.ndarray]] = field(default_factory=dict)

    @property
    def windows(self) -> int:
        """Windows of every forward pass of crops, two for a sample: one is at most half of it (`windows_of`)."""
        return 2 * self.samples

    def groups(self, wanted: Sequence[Request]) -> list[list[Request]]:
        """Group the requests that share a forward pass: of crops, or of samples that need as many backward passes."""
        from_crops = [request for request in wanted if self._crop(request)]
        from_crops.sort(key=lambda request: (request.layer, request.sample))
        explained = by_explained([request for request in wanted if not self._crop(request)])
        layers = sorted({request.layer for own in explained.values() for request in own})
        passes = {key: [len(self._passes(own, layer)) for layer in layers] for key, own in explained.items()}
        order = sorted(explained, key=lambda key: (passes[key], key))
        groups = [list(own) for _, own in groupby(from_crops, key=lambda request: request.layer)]
        of_crops = [part for own in groups for part in _parts(own, self.windows)]
        of_samples = [[request for key in keys for request in explained[key]] for keys in _parts(order, self.samples)]
        # by sample, so that few samples are read more than once
        return sorted(of_crops + of_samples, key=lambda group: group[0].sample)

    def of_group(self, group: Sequence[Request]) -> Iterator[tuple[Request, StoredPatch]]:
        """Make the patches of a group, in any order."""
        if not group:
            return
        crop = self._crop(group[0])
        yield from self._of_samples(group) if crop is None else self._of_crops(crop, group)

    def _of_crops(self, crop: CropMaker, group: Sequence[Request]) -> Iterator[tuple[Request, StoredPatch]]:
        read = {sample: self._read(sample) for sample in {request.sample for request in group}}
        # a smaller group is filled up with copies of its first request
        rows = [*group, *[group[0]] * (self.windows - len(group))]
        values, heatmaps = crop.heatmaps(
            [read[row.sample][0] for row in rows], [row.concept for row in rows], [row.position for row in rows]
        )
        for request, value, heatmap in zip(group, values, heatmaps, strict=False):
            sign = known_sign(request) or float(np.sign(value))
            yield request, self._stored(request, read[request.sample][2], sign * heatmap)

    def _read(self, sample: int) -> tuple[Tensor, Label, np.ndarray]:
        """Read a sample, its label and its picture, unless it is one of the last that were read."""
        if sample not in self._recent:
            data, label = self.reader[sample]
            if len(self._recent) == _RECENT:
                del self._recent[next(iter(self._recent))]
            self._recent[sample] = data, label, self.to_picture(data)
        return self._recent[sample]

    def _crop(self, request: Request) -> CropMaker | None:
        """Return what makes a patch from a crop; None if its sign depends on the whole sample, or crops do not pay."""
        if self._starts_at_output(request):
            return None
        layer = request.layer
        if layer not in self._crops:
            layout, space = self.layouts[layer], tuple(self.reader.like.shape[1:])
            unit = self._is_unit(layer) and layout.plain and not layout.last
            windows = windows_of(self.positions[layer].fields, layout.space, space) if unit else None
            made = None if windows is None or not self.replica.linear else CropMaker(self.replica, layer, windows)
            self._crops[layer] = made if made is not None and made.exact(self.reader.like) else None
        return self._crops[layer]

    def _is_unit(self, layer: str) -> bool:
        return isinstance(kind_at(layer, self.concept), ChannelConcept)

    def _starts_at_output(self, request: Request) -> bool:
        """Whether a heatmap depends on the relevance that starts at the output; a unit's only on its sign."""
        known = self._is_unit(request.layer) and known_sign(request) is not None
        return request.mode != "activation" and not known

    def _of_samples(self, group: Sequence[Request]) -> Iterator[tuple[Request, StoredPatch]]:
        explained = by_explained(group)
        read = [self._read(sample) for sample, _ in explained]
        layers = sorted({request.layer for request in group})
        # a smaller group is filled up with copies of its first sample
        rows = [*range(len(read)), *[0] * (self.samples - len(read))]
        data = torch.stack([read[row][0] for row in rows])
        whole = any(map(self._starts_at_output, group))
        with RelevanceFlow(self.replica, None, data, layers, layouts=self.layouts, whole=whole) as flow:
            labels = label_table([read[row][1] for row in rows])
            keys = list(explained)
            started = partial(self._started, flow, [keys[row] for row in rows], labels)
            starts = StartsByLayer(flow, self.concept, explained, started)
            for layer in layers:
                for place, request, heatmap in self._in_layer(flow, explained, layer, starts):
                    yield request, self._stored(request, read[place][2], heatmap)

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
        fields, unit = self.positions[layer].fields, self._is_unit(layer)
        return passes_of(wanted, layer, fields, linear=self.replica.linear, unit=unit)

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


def _parts(all_of_them: Sequence, size: int) -> Iterator[Sequence]:
    for first in range(0, len(all_of_them), size):
        yield all_of_them[first : first + size]
