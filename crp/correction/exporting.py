"""Where a concept is in samples, as masks and a list of samples, for training elsewhere: `export_masks`."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from crp.attribution import RelevanceFlow, composite_for, prepare
from crp.class_names import class_name
from crp.concepts import ChannelConcept, ConceptKind
from crp.correction.presence import Presence, find_presence
from crp.correction.reading import Samples
from crp.correction.reruns import BATCH
from crp.errors import InputError
from crp.files import user_path, write_file

_CHANNELS = ChannelConcept()
# A pixel belongs to the concept if its heatmap, averaged over so many pixels a side, reaches this part of its maximum.
_SIDE, _PART = 5, 0.1
COLUMNS = ("sample", "has_concept", "strength", "predicted", "label", "mask")


def export_masks(
    model: nn.Module,
    samples: Samples,
    layer: str,
    concept: int,
    folder: str | os.PathLike[str],
    *,
    kind: ConceptKind = _CHANNELS,
    class_names: Sequence[str] = (),
    progress: bool = True,
) -> Path:
    """Write which samples have a concept, and where in them it is.

    The masks serve methods that train with explanations (right for the right reasons, Ross et al. 2017), that paint
    over a concept, or that copy it into other samples; the list serves those that weigh groups of samples.

    Parameters
    ----------
    model
        The model; it is not changed.
    samples
        Images, with their indices in the data set and their labels, if they are known.
    layer, concept, kind
        The layer, the id of the concept, and its kind.
    folder
        Is made if there is none. It receives `samples.csv`, with a row for each sample: its index in the data set,
        whether it has the concept (0 or 1), how strong it is (its largest value divided by that of all samples), the
        predicted class, the label (empty if unknown), and the file of its mask (empty without the concept); and the
        masks, `masks/INDEX.png`, grey, 255 where the concept is, of the size of the model's input.
    class_names
        By class.
    progress
        Whether to show progress bars.

    Returns
    -------
    Path
        The list.

    Raises
    ------
    InputError
        If samples are no images, the concept is active in none of them, or the folder cannot be written.
    """
    if samples.data.ndim != 4:
        raise InputError(f"Masks are of images [N, c, H, W]; these samples are {list(samples.data.shape)}.")
    folder = user_path(folder)
    try:
        (folder / "masks").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The folder '{folder}' cannot be made: {error.strerror}.") from error
    presence = find_presence(model, samples.data, layer, concept, kind, progress=progress)
    has, predicted = presence.samples.tolist(), presence.outputs.argmax(1).tolist()
    strength, files = presence.strength.tolist(), {}
    rows = presence.samples.nonzero().flatten()
    for row, mask in zip(rows.tolist(), concept_masks(model, samples.data, presence, rows), strict=True):
        files[row] = f"masks/{samples.indices[row]}.png"
        picture = Image.fromarray(mask.cpu().numpy().astype("uint8") * 255)
        write_file(folder / files[row], lambda file, picture=picture: picture.save(file, "PNG"), refusal=InputError)
    count = presence.outputs.shape[1]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for row, index in enumerate(samples.indices):
        label = "" if samples.labels is None else class_name(class_names, int(samples.labels[row]), count)
        name = class_name(class_names, predicted[row], count)
        table.writerow([index, int(has[row]), f"{strength[row]:.4f}", name, label, files.get(row, "")])
    write_file(folder / "samples.csv", text.getvalue().encode(), refusal=InputError)
    return folder / "samples.csv"


def concept_masks(model: nn.Module, data: Tensor, presence: Presence, rows: Tensor) -> Tensor:
    """Find the pixels in which a concept is, bool `[n, H, W]`.

    What starts is the concept's part of the layer's output where it is active, so no class plays a part. Its heatmap by
    the rules for maps is averaged over 5 x 5 pixels; the mask is where that reaches a tenth of the sample's maximum.

    Parameters
    ----------
    model, data
        The model, and samples `[N, c, H, W]`.
    presence
        Where the concept is active in them.
    rows
        Those of the samples for which masks are made, int64 `[n]`.
    """
    replica, layout = prepare(model, composite_for(model, data[:1]).composite), presence.layout
    masks = []
    for some in rows.split(BATCH):
        with RelevanceFlow(replica, None, data[some], [presence.layer]) as flow:
            part = flow.parts(presence.layer, presence.kind).part([list(presence.ids)])[0]
            active = presence.active[some].to(part.device)[:, None]
            start = layout.joined(torch.where(active, layout.split(part), 0))
            heatmap = flow.down(start[None], start=presence.layer)[0].sum(1).clamp_min(0)
        smooth = functional.avg_pool2d(heatmap[:, None], _SIDE, 1, _SIDE // 2)[:, 0]
        masks.append(smooth >= _PART * smooth.amax((1, 2), keepdim=True).clamp_min(torch.finfo(smooth.dtype).tiny))
    return torch.cat(masks)
