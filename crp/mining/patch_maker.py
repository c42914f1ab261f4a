"""Crops of reference samples around the position where a concept scored, with the concept's heatmap in them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, zip_longest

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

from .block_stream import SampleReader, label_table
from .targets import TargetRule, logits, questions

# The crop is where the heatmap exceeds this part of its maximum.
_FAINTEST = 0.1

# A group of samples is full with so many requests: more of them cost no less each, and an interrupted one is lost.
_GROUP = 64


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


# Requests whose heatmaps differ at most in sign, so that one is carried down for all of them.
Start = list[Request]
# Requests of samples and the classes explained for them.
Explained = Mapping[tuple[int, int], list[Request]]


@dataclass(frozen=True)
class PatchMaker:
    """Makes patches, a block of samples after the other.

    A patch's heatmap is the relevance that the *scoring position* of the concept sends to the input. It starts from the
    relevance of the explained class there (modes `"relevance"` and `"negative"`) or from the activation there
    (`"activation"`); in mode `"negative"` that is below zero, and so is the heatmap where the crop is. Heatmaps are
    kept relative to their largest absolute value, and rules are linear, so only the sign of the start matters, and a
    position that is a reference in several modes is carried down once.

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
    block_size
        The most samples that share a forward pass.
    """

    replica: Replica
    targets: TargetRule | None
    concept: ConceptKind
    reader: SampleReader
    fields: Mapping[str, np.ndarray]
    to_picture: Callable[[Tensor], np.ndarray]
    patch_size: int
    block_size: int

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
        """What is made together: requests of samples that need as many passes down.

        They depend on what is wanted alone, so that a run that goes on makes the same patches.
        """
        explained = _explained(wanted)
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
        """Make the patches of a group, in no certain order."""
        explained = _explained(group)
        read = [self.reader[sample] for sample, _ in explained]
        pictures = [self.to_picture(data) for data, _ in read]
        layers = sorted({request.layer for request in group})
        with RelevanceFlow(self.replica, None, torch.stack([data for data, _ in read]), layers) as flow:
            signs = self._signs(flow, explained, label_table([label for _, label in read]))
            for layer in layers:
                for place, request, heatmap in self._carried(flow, explained, layer, signs):
                    yield request, self._stored(request, pictures[place], heatmap)

    def _carried(
        self, flow: RelevanceFlow, explained: Explained, layer: str, signs: Mapping[Request, float]
    ) -> Iterator[tuple[int, Request, np.ndarray]]:
        """Place in the flow, request and heatmap float32 `[*S]` of all that is wanted in a layer."""
        passes = [self._passes(own, layer) for own in explained.values()]
        for first in range(0, max(map(len, passes)), flow.chunk):
            some = [own[first : first + flow.chunk] for own in passes]
            heatmaps = self._heatmaps(flow, layer, some, signs)
            for place, own in enumerate(some):
                for k, starts in enumerate(own):
                    for request in chain(*starts):
                        sign = signs[request] if self.replica.linear else 1.0
                        yield place, request, sign * heatmaps[k, place]

    def _passes(self, wanted: Iterable[Request], layer: str) -> list[list[Start]]:
        """What a sample's requests in a layer need carried down: lists of starts that can share a pass."""
        sharing = defaultdict(list)
        for request in wanted:
            if request.layer == layer:
                # where rules are not linear, a heatmap's sign is not all that follows from that of its start
                mode = "" if self.replica.linear else request.mode
                sharing[request.concept, request.position, mode].append(request)
        starts = list(sharing.values())
        return _apart(starts, self.fields[layer]) if self.replica.linear else [[start] for start in starts]

    def _signs(self, flow: RelevanceFlow, explained: Explained, labels: Tensor) -> dict[Request, float]:
        """The sign of what a patch's heatmap starts from: 1, -1, or 0 where there is nothing."""
        signs, unknown = {}, defaultdict(list)
        for place, own in enumerate(explained.values()):
            for request in own:
                if (sign := _known_sign(request)) is None:
                    unknown[request.mode, request.layer].append((place, request))
                else:
                    signs[request] = sign

        def look(mode: str, layer: str, values: Tensor) -> None:
            places, asked = zip(*unknown[mode, layer], strict=True)
            flat = values.flatten(2) if values.ndim > 2 else values[..., None]
            found = flat[list(places), [one.concept for one in asked], [one.position for one in asked]]
            signs.update(zip(asked, found.sign().tolist(), strict=True))

        for mode, layer in unknown:
            if mode == "activation":
                look(mode, layer, flow.activation(layer))
        if reached := [layer for mode, layer in unknown if mode == "relevance"]:
            flow.sweep(self._explaining(flow, list(explained), labels), reached, partial(look, "relevance"))
        return signs

    def _explaining(self, flow: RelevanceFlow, explained: Sequence[tuple[int, int]], labels: Tensor) -> Tensor:
        """What starts at the output for each sample's target, `[1, N, ...]`; nothing where it has none."""
        samples, targets = map(np.array, zip(*explained, strict=True))
        if self.targets is None:
            return logits(flow.prediction, targets)[None]
        start = torch.zeros_like(flow.prediction)
        for question in questions(self.targets, flow.prediction, labels, torch.from_numpy(samples), 1 << 62):
            these = torch.from_numpy((question.targets == targets) & (targets >= 0))
            start[these] = question.relevance[these].to(start)
        return start[None]

    def _heatmaps(
        self,
        flow: RelevanceFlow,
        layer: str,
        passes: Sequence[Sequence[Sequence[Start]]],
        signs: Mapping[Request, float],
    ) -> np.ndarray:
        """Conditional heatmaps float32 `[K, N, *S]` of the passes of each sample; in a pass all starts add up."""
        # where a sample needs fewer passes than others, nothing starts in the last ones
        slots = list(chain(*zip_longest(*passes, fillvalue=())))
        shape = flow.activation(layer).shape
        arriving = torch.zeros(len(slots), *shape[1:], dtype=flow.prediction.dtype, device=flow.device)
        of = partial(torch.tensor, device=flow.device)
        # the first start of every pass, then the second ones, and so on
        for row in zip_longest(*slots):
            places = [place for place, start in enumerate(row) if start]
            first = [row[place][0] for place in places]
            values = of([1.0 if self.replica.linear else signs[one] for one in first], dtype=arriving.dtype)
            (kept,) = self.concept.at_positions(
                values.view(-1, *[1] * (len(shape) - 1)).expand(-1, *shape[1:]),
                of([one.concept for one in first]),
                of([one.position for one in first]),
            )
            arriving.index_add_(0, of(places), kept)
        heatmaps = flow.down(arriving.unflatten(0, (-1, len(passes))), start=layer, to=INPUT)
        return heatmaps.sum(2).float().cpu().numpy()

    def _stored(self, request: Request, picture: np.ndarray, heatmap: np.ndarray) -> StoredPatch:
        """The patch of a request, cropped from a sample's picture and the heatmap."""
        field = self.fields[request.layer][request.position]
        box = patch_box(-heatmap if request.mode == "negative" else heatmap, field)
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
        origin = request.sample, request.score, request.target, request.position
        return StoredPatch(*origin, box, encoded, np.rint(relative * 127).astype(np.int8))


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


def _explained(wanted: Iterable[Request]) -> Explained:
    """Requests by what they explain, in the order in which that first comes."""
    explained = defaultdict(list)
    # a sample with several labels may be a reference for several classes
    for request in wanted:
        explained[request.sample, request.target].append(request)
    return explained


def _apart(starts: Iterable[Start], fields: np.ndarray) -> list[list[Start]]:
    """Starts that can go down together: no two of a list see a common pixel, so each finds its heatmap in its field."""
    passes: list[list[Start]] = []
    for start in starts:
        first, last = np.split(fields[start[0].position], 2)
        for together in passes:
            firsts, lasts = np.split(fields[[other[0].position for other in together]], 2, axis=1)
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
