"""Crops of reference samples around the position where a concept scored, with the concept's heatmap in them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from crp.attribution import INPUT, RelevanceFlow, Replica
from crp.attribution.memory import memory_kept
from crp.concepts import ConceptKind
from crp.library.patches import MODES, LayerPatches, StoredPatch, encode_picture, encode_signal
from crp.library.references import References

from .blocks import SampleReader, label_table
from .targets import TargetRule, questions

# The crop is where the heatmap exceeds this part of its maximum.
_FAINTEST = 0.1

# Concept, position, sign of what starts there, and whether the heatmap's negative side is looked for.
Start = tuple[int, int, float, bool]


@dataclass(frozen=True)
class Request:
    """A patch to make: the reference of a rank of a concept, in one mode."""

    layer: str
    mode: str
    concept: int
    rank: int
    sample: int
    score: float
    target: int
    position: int


def requests(
    references: Mapping[tuple[str, str], References], concepts: Mapping[str, Iterable[int]], count: int
) -> list[Request]:
    """The first `count` references of the given concepts, in all modes, as requests."""
    return [
        Request(
            layer,
            mode,
            concept,
            rank,
            sample=int(found.sample[concept, rank]),
            score=float(found.score[concept, rank]),
            target=int(found.target[concept, rank]),
            position=int(found.position[concept, rank]),
        )
        for layer, ids in concepts.items()
        for mode in MODES
        for found in [references[layer, mode]]
        for concept in ids
        for rank in range(min(count, found.sample.shape[1]))
        if found.sample[concept, rank] >= 0
    ]


@dataclass(frozen=True)
class PatchMaker:
    """Makes patches, one sample after the other.

    A patch's heatmap is the relevance that the *scoring position* of the concept sends to the input. It starts from the
    relevance of the explained class there (modes `"relevance"` and `"negative"`) or from the activation there
    (`"activation"`); in mode `"negative"` that is below zero, and so is the heatmap where the crop is. Heatmaps are
    kept relative to their largest absolute value, and rules are linear, so only the sign of the start matters, and a
    position that is a reference in two modes is carried down once.

    Attributes
    ----------
    replica
        The prepared model.
    targets
        The rule that says what relevance starts as; None where that is the logit.
    concept
        What a concept is.
    reader
        The data set.
    fields
        Geometric receptive fields of each layer's positions, ints `[positions, 4]` (top, left, bottom, right); for
        signals `[positions, 2]`.
    to_picture
        Makes uint8 `[H, W, 3]` of a sample `[c, H, W]`; leaves a signal `[c, T]` as it is.
    patch_size
        Longest side of a stored patch, in pixels; longest window of a signal, in values.
    """

    replica: Replica
    targets: TargetRule | None
    concept: ConceptKind
    reader: SampleReader
    fields: Mapping[str, np.ndarray]
    to_picture: Callable[[Tensor], np.ndarray]
    patch_size: int

    def make(
        self, wanted: Sequence[Request], concepts: Mapping[str, Iterable[int]], *, progress: bool
    ) -> dict[str, LayerPatches]:
        """Make all patches, each sample run forward once for each class it explains.

        Parameters
        ----------
        wanted
            What to make.
        concepts
            By layer, the concepts that the result is to list, also where nothing was wanted of them.
        progress
            Whether to show a bar with rate and time left.

        Returns
        -------
        dict
            By layer, what `crp.library.patches.write_patches` takes.
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
        """What is made together: requests of one sample for one class. They depend on what is wanted alone."""
        # a sample with several labels may be a reference for several classes
        alike = defaultdict(list)
        for request in wanted:
            alike[request.sample, request.target].append(request)
        return [alike[key] for key in sorted(alike)]

    def of_group(self, group: Sequence[Request]) -> Iterator[tuple[Request, StoredPatch]]:
        """Make the patches of a group, in no certain order."""
        data, label = self.reader[group[0].sample]
        picture = self.to_picture(data)
        layers = sorted({request.layer for request in group})
        with RelevanceFlow(self.replica, None, data[None], layers) as flow:
            signs = self._signs(flow, layers, group, label)
            for layer in layers:
                sharing = defaultdict(list)
                for request in group:
                    if request.layer == layer:
                        sign = _known_sign(request)
                        if sign is None:
                            sign = float(signs[layer, request.mode][request.concept].flatten()[request.position])
                        against = request.mode == "negative"
                        sharing[request.concept, request.position, sign, against].append(request)
                fields = self.fields[layer]
                passes = _apart(sharing, fields) if flow.linear else [[start] for start in sharing]
                for chunk in range(0, len(passes), flow.chunk):
                    some = passes[chunk : chunk + flow.chunk]
                    for starts, heatmap in zip(some, self._heatmaps(flow, layer, some), strict=True):
                        for start in starts:
                            _, position, _, against = start
                            stored = self._cropped(picture, heatmap, fields[position], against)
                            for request in sharing[start]:
                                origin = request.sample, request.score, request.target, request.position
                                yield request, StoredPatch(*origin, *stored)

    def _signs(
        self, flow: RelevanceFlow, layers: Sequence[str], wanted: Sequence[Request], label: int | tuple[int, ...]
    ) -> dict[tuple[str, str], Tensor]:
        """By layer and mode, the sign `[C, *S]` of what a heatmap starts from."""
        signs = {(layer, "activation"): flow.activation(layer)[0].sign() for layer in layers}
        explained = [request for request in wanted if request.mode == "relevance" and _known_sign(request) is None]
        if explained:
            reached = sorted({request.layer for request in explained})
            # all requests handled together explain the same class
            start = self._start(flow, explained[0], label)[None]
            flow.sweep(start, reached, lambda layer, arriving: signs.update({(layer, "relevance"): arriving[0].sign()}))
        return signs

    def _start(self, flow: RelevanceFlow, request: Request, label: int | tuple[int, ...]) -> Tensor:
        """What starts at the output of the one sample for a target, of the output's shape."""
        if self.targets is None:
            return flow.output_relevance([request.target])[0]
        sample = torch.tensor([request.sample])
        asked = questions(self.targets, flow.prediction, label_table([label]), sample, 1 << 62)
        return next(question.relevance for question in asked if question.targets[0] == request.target)

    def _heatmaps(self, flow: RelevanceFlow, layer: str, passes: Sequence[Sequence[Start]]) -> np.ndarray:
        """Conditional heatmaps float32 `[K, *S]` of single positions, each with its sign; in a pass all add up."""
        starts = [start for together in passes for start in together]
        concepts, positions, signs, _ = zip(*starts, strict=True)
        shape = flow.activation(layer).shape[1:]
        device = flow.device
        values = torch.tensor(signs, device=device, dtype=flow.prediction.dtype)
        (kept,) = self.concept.at_positions(
            values.view(-1, *[1] * len(shape)).expand(-1, *shape),
            torch.tensor(concepts, device=device),
            torch.tensor(positions, device=device),
        )
        added = [part.sum(0, keepdim=True) for part in kept.split([len(together) for together in passes])]
        arriving = flow.down(torch.stack(added), start=layer, to=INPUT)
        return arriving[:, 0].sum(1).float().cpu().numpy()

    def _cropped(
        self, picture: np.ndarray, heatmap: np.ndarray, field: np.ndarray, against: bool
    ) -> tuple[tuple[int, ...], bytes, np.ndarray]:
        """Box, encoded picture and int8 heatmap."""
        box = patch_box(-heatmap if against else heatmap, field)
        axes = heatmap.ndim
        window = tuple(slice(*ends) for ends in zip(box[:axes], box[axes:], strict=True))
        if axes == 1:
            # A signal is shrunk along time alone.
            small_heatmap = resized(heatmap[None][:, *window], self.patch_size, axes=1)[0]
            encoded = encode_signal(resized(picture[:, *window], self.patch_size, axes=1))
        else:
            small_heatmap = resized(heatmap[window], self.patch_size)
            encoded = encode_picture(resized(picture[window], self.patch_size))
        largest = np.abs(small_heatmap).max()
        relative = small_heatmap / largest if largest > 0 else small_heatmap
        return box, encoded, np.rint(relative * 127).astype(np.int8)


def ranked(made: Iterable[tuple[Request, StoredPatch]], concepts: Iterable[int]) -> LayerPatches:
    """Patches of one layer as `crp.library.patches.write_patches` takes them: by concept and mode, best first.

    Parameters
    ----------
    made
        Patches, each with its request, in any order.
    concepts
        Concepts to list, also where nothing was made of them.
    """
    layer: dict[int, dict[str, tuple[StoredPatch, ...]]] = {
        concept: dict.fromkeys(MODES, ()) for concept in concepts
    }
    for request, patch in sorted(made, key=lambda pair: pair[0].rank):
        layer[request.concept][request.mode] += (patch,)
    return layer


def _known_sign(request: Request) -> float | None:
    """Sign of what a patch starts from, as far as the score says it.

    The largest of values whose sum, or largest, is positive is so, too; and the smallest of a negative sum is negative.
    """
    if request.mode == "negative":
        return -1.0
    return 1.0 if request.mode == "relevance" and request.score > 0 else None


def _apart(starts: Iterable[Start], fields: np.ndarray) -> list[list[Start]]:
    """Starts that can go down together: no two of a list see a common pixel, so each finds its heatmap in its field."""
    passes: list[list[Start]] = []
    for start in starts:
        first, last = np.split(fields[start[1]], 2)
        for together in passes:
            firsts, lasts = np.split(fields[[position for _, position, _, _ in together]], 2, axis=1)
            if ((lasts <= first) | (last <= firsts)).any(axis=1).all():
                together.append(start)
                break
        else:
            passes.append([start])
    return passes


def patch_box(heatmap: np.ndarray, field: np.ndarray) -> tuple[int, ...]:
    """Where a heatmap exceeds a tenth of its maximum inside the receptive field.

    Parameters
    ----------
    heatmap
        float `[H, W]`, of a signal `[T]`.
    field
        Receptive field (top, left, bottom, right), bottom and right exclusive; of a signal (start, stop).

    Returns
    -------
    tuple of int
        The smallest box (top, left, bottom, right), or (start, stop), around these pixels; the receptive field itself
        where no pixel of it is positive.
    """
    edges = [int(edge) for edge in field]
    first, last = edges[: heatmap.ndim], edges[heatmap.ndim :]
    inside = heatmap[tuple(slice(*ends) for ends in zip(first, last, strict=True))]
    bright = np.nonzero(inside > _FAINTEST * max(float(inside.max()), 0.0))
    if not bright[0].size:
        return tuple(edges)
    starts = (start + int(places.min()) for start, places in zip(first, bright, strict=True))
    ends = (start + int(places.max()) + 1 for start, places in zip(first, bright, strict=True))
    return *starts, *ends


def resized(image: np.ndarray, longest: int, *, axes: int = 2) -> np.ndarray:
    """Shrink `[h, w]` float32 or `[h, w, 3]` uint8 so that no side exceeds `longest`; smaller ones stay as they are.

    Pixels are averaged by area, so that a heatmap keeps its mean. With one of the `axes`, `[c, t]` float32 is shrunk
    along the second one alone.
    """
    height, width = image.shape[:2]
    scale = longest / (max(height, width) if axes == 2 else width)
    if scale >= 1:
        return image
    size = max(1, round(width * scale)), max(1, round(height * scale)) if axes == 2 else height
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))
