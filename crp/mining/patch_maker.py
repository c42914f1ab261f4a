"""Patches: crops of reference samples around the position where a concept scored, with its heatmap there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, zip_longest

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from crp.attribution import INPUT, RelevanceFlow, Replica
from crp.attribution.memory import memory_kept
from crp.concepts import ChannelConcept, Kinds, Layout, kind_at
from crp.library.patches import LayerPatches, StoredPatch

from .block_stream import SampleReader, label_table
from .crops import cropped, patch_box
from .input_boxes import Positions
from .patch_requests import Explained, Origin, Request, by_explained, passes_of, ranked
from .patch_starts import Starts, StartsByLayer
from .targets import TargetRule, attribution_targets, logits

# A group with this many requests takes no more samples: larger groups are not faster per patch, and an interruption
# loses the whole group.
_GROUP = 64


@dataclass(frozen=True)
class PatchMaker:
    """Makes patches, one group of samples at a time.

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
    block_size
        Largest number of samples in a forward pass.
    """

    replica: Replica
    targets: TargetRule | None
    concept: Kinds
    reader: SampleReader
    layouts: Mapping[str, Layout]
    positions: Mapping[str, Positions]
    to_picture: Callable[[Tensor], np.ndarray]
    patch_size: int
    block_size: int

    def make(
        self, wanted: Sequence[Request], concepts: Mapping[str, Iterable[int]], *, progress: bool
    ) -> dict[str, LayerPatches]:
        """Make all patches, with one forward pass for each pair of sample and explained target.

        Parameters
        ----------
        wanted
            The patches to make.
        concepts
            By layer, the concepts to list in the result, including those without patches.
        progress
            Whether to show a progress bar.

        Returns
        -------
        dict
            By layer, the argument of `crp.library.patches.write_patches`.
        """
        made: list[tuple[Request, StoredPatch]] = []
        with memory_kept(), tqdm(total=len(wanted), desc="patches", unit="patch", disable=not progress) as bar:
            for group in self.groups(wanted):
                done = list(self.of_group(group))
                made += done
                bar.update(len(done))
        by_layer = {layer: [pair for pair in made if pair[0].layer == layer] for layer in concepts}
        return {layer: ranked(by_layer[layer], ids) for layer, ids in concepts.items()}

    def groups(self, wanted: Sequence[Request]) -> list[list[Request]]:
        """Group the requests of samples that need the same number of backward passes.

        Groups depend on the requests alone, so a resumed run makes the same patches.
        """
        explained = by_explained(wanted)
        layers = sorted({request.layer for request in wanted})
        passes = {key: [len(self._passes(own, layer)) for layer in layers] for key, own in explained.items()}
        groups: list[list[Request]] = []
        samples = 0
        for key in sorted(explained, key=lambda key: (passes[key], key)):
            if not groups or samples == self.block_size or len(groups[-1]) >= _GROUP:
                groups.append([])
                samples = 0
            groups[-1] += explained[key]
            samples += 1
        return groups

    def of_group(self, group: Sequence[Request]) -> Iterator[tuple[Request, StoredPatch]]:
        """Make the patches of a group, in any order."""
        explained = by_explained(group)
        read = [self.reader[sample] for sample, _ in explained]
        pictures = [self.to_picture(data) for data, _ in read]
        layers = sorted({request.layer for request in group})
        data = torch.stack([data for data, _ in read])
        with RelevanceFlow(self.replica, None, data, layers, layouts=self.layouts) as flow:
            labels = label_table([label for _, label in read])
            started = partial(self._started, flow, list(explained), labels)
            starts = StartsByLayer(flow, self.concept, explained, started)
            for layer in layers:
                for place, request, heatmap in self._in_layer(flow, explained, layer, starts):
                    yield request, self._stored(request, pictures[place], heatmap)

    def _in_layer(
        self, flow: RelevanceFlow, explained: Explained, layer: str, starts: Starts
    ) -> Iterator[tuple[int, Request, np.ndarray]]:
        """Yield sample number in the flow, request and heatmap float32 `[*S]` of all requests in a layer."""
        passes = [self._passes(own, layer) for own in explained.values()]
        for first in range(0, max(map(len, passes)), flow.chunk):
            some = [own[first : first + flow.chunk] for own in passes]
            heatmaps = self._heatmaps(flow, layer, some, starts)
            for place, own in enumerate(some):
                for k, origins in enumerate(own):
                    for request in chain(*origins):
                        yield place, request, starts.factor(request) * heatmaps[k, place]

    def _passes(self, wanted: Iterable[Request], layer: str) -> list[list[Origin]]:
        unit = isinstance(kind_at(layer, self.concept), ChannelConcept)
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
        self, flow: RelevanceFlow, layer: str, passes: Sequence[Sequence[Sequence[Origin]]], starts: Starts
    ) -> np.ndarray:
        """Compute heatmaps float32 `[K, N, *S]` of the passes of each sample; all origins of a pass are summed."""
        # samples with fewer passes than others are padded with passes in which nothing starts
        slots = list(chain(*zip_longest(*passes, fillvalue=())))
        shape = flow.activation(layer).shape
        arriving = torch.zeros(len(slots), *shape[1:], dtype=flow.prediction.dtype, device=flow.device)
        # the first origin of every pass, then the second ones, and so on
        for row in zip_longest(*slots):
            places = [place for place, origin in enumerate(row) if origin]
            first = [row[place][0] for place in places]
            kept = starts.at(layer, first, [place % len(passes) for place in places])
            arriving.index_add_(0, torch.tensor(places, device=flow.device), kept)
        heatmaps = flow.down(arriving.unflatten(0, (-1, len(passes))), start=layer, to=INPUT)
        return heatmaps.sum(2).float().cpu().numpy()

    def _stored(self, request: Request, picture: np.ndarray, heatmap: np.ndarray) -> StoredPatch:
        """Crop a sample's picture and the heatmap of a request."""
        window = self.positions[request.layer].windows[request.position]
        box = patch_box(-heatmap if request.mode == "negative" else heatmap, window)
        encoded, relative = cropped(picture, heatmap, box, self.patch_size)
        return StoredPatch(request.sample, request.score, request.target, request.position, box, encoded, relative)
