"""What is measured: one declaration for each row of the table."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Row:
    """One kind of work on one network.

    Attributes
    ----------
    name
        Its name on the command line.
    title
        Its name in the table.
    kind
        The kind of work: the name of a class in `ours.py`, and in `theirs.py` if the row is timed.
    net
        A network of `subjects.py`.
    layers
        The name of a layer, `"conv"` for all convolutions, `"conv:PREFIX"` for those inside a module, or `"blocks"` for
        the blocks of a transformer or ConvNeXt.
    unit
        What is counted: `"concept"`, `"sample"` or `"page"`.
    units
        How many of them one run processes.
    measure
        What is measured (`measuring.py`): `"timed"`, time compared with zennit-crp; `"sweep"`, our time per unit for
        several numbers of units; `"slope"`, our peak memory for them; `"figures"`, what this kind of work measures.
    size
        Side of the input pictures, in pixels.
    samples
        Pictures in the data set; 1 if a single picture is explained.
    their_units
        Units in a run of zennit-crp, if fewer than ours; its time is scaled up. 0 for as many as ours.
    trial_units
        Units in a trial of a batch size, and in a run of the plain gradient.
    check_units
        Units whose results are compared in float64 and float32; 0 for none.
    batches, their_batches, floor_batches
        Batch sizes to try; empty if there is nothing to choose.
    memory_batch
        The batch size at which peak memory is compared; 0 for none.
    sweep
        Numbers of units of a sweep or slope.
    precisions
        Precisions that we compute in. A timed row has one; zennit-crp computes in float32.
    cells
        Cells along each side of the concept map.
    least_ratio
        Goal: lower bound of their time divided by ours.
    most_gradients
        Goal: upper bound of our time divided by that of the plain gradient.
    goals
        Goals for figures: name to `"at least"` or `"at most"` and a number.
    quick, on_gpu
        Attributes that are different in the `--quick` form, and on a GPU.
    data
        Whether it needs the folder of trained weights and photos.
    needs_gpu
        Whether it runs on a GPU only.
    needs_browser
        Whether it needs Chromium.
    """

    name: str
    title: str
    kind: str
    net: str
    layers: str
    unit: str
    units: int
    measure: str = "timed"
    size: int = 224
    samples: int = 1
    their_units: int = 0
    trial_units: int = 8
    check_units: int = 0
    batches: tuple[int, ...] = ()
    their_batches: tuple[int, ...] = ()
    floor_batches: tuple[int, ...] = ()
    memory_batch: int = 0
    sweep: tuple[int, ...] = ()
    precisions: tuple[str, ...] = ("float32",)
    cells: int = 0
    least_ratio: float | None = None
    most_gradients: float | None = None
    goals: dict[str, tuple[str, float]] = field(default_factory=dict)
    quick: dict[str, Any] = field(default_factory=dict)
    on_gpu: dict[str, Any] = field(default_factory=dict)
    data: bool = False
    needs_gpu: bool = False
    needs_browser: bool = False

    def in_form(self, *, quick: bool, gpu: bool) -> Row:
        """Return the row for this device and form; the quick form has no goals."""
        row = replace(self, **self.on_gpu) if gpu else self
        return replace(row, **self.quick, least_ratio=None, most_gradients=None, goals={}) if quick else row


# What rows of one kind share.
_GENERATE = dict(
    kind="Generate",
    unit="concept",
    check_units=4,
    batches=(4, 8, 16, 32),
    their_batches=(4, 8),
    floor_batches=(1, 4, 8),
    memory_batch=8,
    quick=dict(size=64, units=8, trial_units=4, check_units=2, batches=(4, 8), their_batches=(4,), memory_batch=4),
    on_gpu=dict(batches=(8, 32, 64), their_batches=(8, 32, 64), floor_batches=(1, 8, 32), trial_units=64),
)
_MINE = dict(
    kind="Mine",
    unit="sample",
    check_units=2,
    on_gpu=dict(
        units=256, samples=256, trial_units=128, batches=(32, 64, 128), their_batches=(32, 64, 128),
        floor_batches=(32, 64, 128),
    ),
)
_BLOCKS = dict(
    kind="Blocks",
    layers="blocks",
    unit="sample",
    units=64,  # enough that what a run does once (layouts, tables, a first pass of the plain model) counts little
    samples=64,
    trial_units=4,
    batches=(4, 8),
    measure="figures",
    goals={"times a forward pass and gradient": ("at most", 1.8)},
    quick=dict(units=4, samples=4, batches=(4,)),
)
_VGG16 = dict(
    net="vgg16",
    layers="conv",
    units=32,
    samples=32,
    trial_units=4,
    batches=(4, 8, 16),
    their_batches=(4, 8),
    floor_batches=(4, 8),
    memory_batch=8,
    quick=dict(size=64, units=8, batches=(4, 8), their_batches=(8,)),
)
_RESNET18 = dict(
    net="resnet18",
    units=192,
    samples=192,
    trial_units=16,
    batches=(8, 16, 48),
    their_batches=(8, 16),
    floor_batches=(4, 8, 16),
    memory_batch=16,
    quick=dict(size=64, units=16, batches=(16,), their_batches=(16,)),
)
_CELLS = dict(
    kind="Cells",
    net="squeezenet",
    layers="features.12",
    unit="concept",
    units=512,
    their_units=32,
    check_units=32,
    their_batches=(4, 8, 16),
    memory_batch=8,
    data=True,
    quick=dict(their_units=8, trial_units=4, check_units=2, their_batches=(8,)),
)
_LISTS = dict(
    kind="Lists",
    layers="conv",
    unit="sample",
    measure="figures",
    trial_units=64,
    batches=(16, 32, 64),
    precisions=("float32", "bfloat16"),
    quick=dict(units=64, samples=64, batches=(32,)),
)
_OVERLAP = {
    "overlap of relevance lists, bfloat16": ("at least", 0.95),
    "overlap of activation lists, bfloat16": ("at least", 0.95),
}
_THROUGHPUT = {**_LISTS, "precisions": ("float32", "tf32", "bfloat16"), "needs_gpu": True, "samples": 2048,
               "units": 2048, "trial_units": 256, "batches": (32, 64, 128, 256)}

ROWS = (
    Row(
        "vgg16-generate", "VGG16, 32 concepts of features.28, one sample",
        net="vgg16", layers="features.28", units=32, least_ratio=5, most_gradients=1.8, **_GENERATE,
    ),
    Row(
        "resnet50-generate", "ResNet-50, 64 concepts of layer4.2, one sample",
        net="resnet50", layers="layer4.2", units=64, least_ratio=6, most_gradients=2.0, **_GENERATE,
    ),
    Row(
        "squeezenet-cells-8", "SqueezeNet, all 512 concepts of features.12 in 8 x 8 cells",
        cells=8, least_ratio=40, **_CELLS,
    ),
    Row(
        "squeezenet-cells-14", "SqueezeNet, all 512 concepts of features.12 in 14 x 14 cells",
        cells=14, least_ratio=15, **_CELLS,
    ),
    Row(
        "vgg16-mine", "mining VGG16, all conv layers",
        least_ratio=2.5, most_gradients=1.8, **_MINE, **_VGG16,
    ),
    Row(
        "resnet18-mine", "mining ResNet-18, all conv layers",
        layers="conv", least_ratio=4, most_gradients=2.0, **_MINE, **_RESNET18,
    ),
    Row(
        "resnet18-mine-layer4", "mining ResNet-18, conv layers of layer4 only",
        layers="conv:layer4", least_ratio=6, most_gradients=0.9, **_MINE, **_RESNET18,
    ),
    Row(
        "vgg16-mine-bfloat16", "mining VGG16 in bfloat16 (theirs in float32)",
        precisions=("bfloat16",), least_ratio=8, **{**_MINE, **_VGG16, "check_units": 0, "units": 64, "samples": 64},
    ),
    Row(
        "squeezenet-patches", "patches of all 384 concepts of SqueezeNet's features.9, 16 each, of 892 photos",
        kind="Patches", net="squeezenet", layers="features.9", unit="concept", units=384, their_units=32,
        trial_units=2, check_units=4, samples=892, their_batches=(8,), memory_batch=8, least_ratio=4, data=True,
        quick=dict(units=16, their_units=2, check_units=1, samples=64),
    ),
    Row(
        "squeezenet-lists", "SqueezeNet, all conv layers, 892 photos, trained weights",
        net="squeezenet", units=892, samples=892, goals=_OVERLAP, data=True, **_LISTS,
    ),
    Row(
        "resnet20-lists", "ResNet-20, all conv layers, 2,000 pictures of CIFAR-10, trained weights",
        net="resnet20", units=2000, samples=2000, goals=_OVERLAP, data=True, **_LISTS,
    ),
    Row(
        "samples-scaling", "mining a tiny network, by number of samples",
        kind="Library", net="tiny", layers="conv", unit="sample", units=1000, measure="sweep", size=8, samples=1024,
        batches=(32,), sweep=(1000, 10_000, 100_000), goals={"last over first": ("at most", 1.2)},
        quick=dict(sweep=(100, 1000)),
    ),
    Row(
        "concepts-scaling", "heatmaps of one layer of a small network, by number of concepts",
        kind="Generate", net="wide", layers="2", unit="concept", units=8, measure="sweep", size=32,
        batches=(8,), sweep=(8, 64, 512), goals={"last over first": ("at most", 1.2)},
        quick=dict(sweep=(8, 64)),
    ),
    Row(
        "memory-slope", "peak memory of mining a tiny network, by number of samples",
        kind="Library", net="tiny", layers="conv", unit="sample", units=1000, measure="slope", size=8, samples=1024,
        batches=(512,), sweep=(10_000, 100_000, 1_000_000), goals={"bytes a sample": ("at most", 100)},
        quick=dict(sweep=(1000, 10_000)),
    ),
    Row(
        "squeezenet-pages", "opening 20 pages of predictions, of a site, of concepts (SqueezeNet, 128 photos mined)",
        kind="Pages", net="squeezenet", layers="features.12", unit="page", units=20, measure="figures", samples=128,
        goals={f"{page}, answers, worst ms": ("at most", 1000) for page in ("page by itself", "page in a site")},
        data=True, needs_browser=True, quick=dict(layers="features.3", units=3, samples=16, trial_units=1),
    ),
    Row("vit-mine", "mining ViT-B/16, all block outputs, default rules", net="vit_b_16", **_BLOCKS),
    Row("convnext-mine", "mining ConvNeXt-T, all block outputs, default rules", net="convnext_tiny", **_BLOCKS),
    Row(
        "vgg16-throughput", "mining VGG16, all conv layers, synthetic pictures, on a GPU",
        net="vgg16", goals={"samples a second, bfloat16": ("at least", 1000)}, **_THROUGHPUT,
    ),
    Row(
        "resnet50-throughput", "mining ResNet-50, all conv layers, synthetic pictures, on a GPU",
        net="resnet50", **_THROUGHPUT,
    ),
)


def chosen(names: list[str], rows: tuple[Row, ...] = ROWS) -> list[Row]:
    """Return rows by name, all of them for an empty list.

    Raises
    ------
    ValueError
        If a name is unknown; the message lists the known ones.
    """
    known = {row.name: row for row in rows}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"There is no row {unknown[0]!r}; the rows are {', '.join(known)}.")
    return [known[name] for name in names or known]
