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
        By which the command line knows it.
    title
        What the table says.
    kind
        What is done: the name of a class in `ours.py` and, unless `alone`, in `theirs.py`.
    net
        A network of `subjects.py`.
    layers
        A layer's name, or `"conv"` for all convolutions, or `"conv:PREFIX"` for those below a module.
    size
        Side of the input pictures, in pixels.
    unit
        What is counted: `"concept"` or `"sample"`.
    units
        How many of them one run does.
    their_units
        How many of them zennit-crp does in a run, if not as many; its time is scaled up.
    trial_units
        How many a trial of a batch size does, and a run of the plain gradient.
    check_units
        How many are compared in float64 and float32.
    batches, their_batches, floor_batches
        Batch sizes to try; empty where there is no choice.
    memory_batch
        The batch size at which peak memory is compared; 0 for none.
    samples
        Pictures of the data set; 1 where one picture is explained.
    option
        What else the kind of work asks for.
    precision
        What ours computes in; theirs is always float32.
    least_ratio
        Goal: their time divided by ours.
    most_gradients
        Goal: our time divided by the plain gradient's.
    quick
        Attributes of the `--quick` form.
    data
        Whether it needs the folder of trained weights and photos.
    """

    name: str
    title: str
    kind: str
    net: str
    layers: str
    unit: str
    units: int
    size: int = 224
    their_units: int = 0
    trial_units: int = 8
    check_units: int = 4
    batches: tuple[int, ...] = ()
    their_batches: tuple[int, ...] = ()
    floor_batches: tuple[int, ...] = ()
    memory_batch: int = 0
    samples: int = 1
    option: Any = None
    precision: str = "float32"
    least_ratio: float | None = None
    most_gradients: float | None = None
    quick: dict[str, Any] = field(default_factory=dict)
    data: bool = False

    def in_quick_form(self) -> Row:
        """The row as `--quick` runs it, without goals."""
        return replace(self, **self.quick, least_ratio=None, most_gradients=None, quick={})


ROWS = (
    Row(
        "vgg16-generate",
        "VGG16, 32 concepts of features.28, one sample",
        "Generate",
        "vgg16",
        "features.28",
        "concept",
        units=32,
        batches=(4, 8, 16, 32),
        their_batches=(2, 4, 8),
        floor_batches=(1, 4, 8),
        memory_batch=8,
        least_ratio=5,
        most_gradients=1.8,
        quick=dict(size=64, units=8, trial_units=4, check_units=2, batches=(4, 8), their_batches=(4,), memory_batch=4),
    ),
    Row(
        "resnet50-generate",
        "ResNet-50, 64 concepts of layer4.2, one sample",
        "Generate",
        "resnet50",
        "layer4.2",
        "concept",
        units=64,
        batches=(4, 8, 16, 32),
        their_batches=(2, 4, 8),
        floor_batches=(1, 4, 8),
        memory_batch=8,
        least_ratio=6,
        most_gradients=2.0,
        quick=dict(size=64, units=8, trial_units=4, check_units=2, batches=(4, 8), their_batches=(4,), memory_batch=4),
    ),
    Row(
        "vgg16-mine",
        "mining VGG16, all conv layers",
        "Mine",
        "vgg16",
        "conv",
        "sample",
        units=16,
        samples=16,
        batches=(4, 8, 16),
        their_batches=(4, 8, 16),
        floor_batches=(4, 8),
        check_units=2,
        memory_batch=8,
        least_ratio=2.5,
        most_gradients=1.8,
        quick=dict(size=64, units=8, batches=(4, 8), their_batches=(8,)),
    ),
    Row(
        "resnet18-mine",
        "mining ResNet-18, all conv layers",
        "Mine",
        "resnet18",
        "conv",
        "sample",
        units=48,
        samples=48,
        trial_units=16,
        batches=(8, 16, 48),
        their_batches=(8, 16),
        floor_batches=(4, 8, 16),
        check_units=2,
        memory_batch=16,
        least_ratio=4,
        most_gradients=2.0,
        quick=dict(size=64, units=16, batches=(16,), their_batches=(16,)),
    ),
    Row(
        "resnet18-mine-layer4",
        "mining ResNet-18, conv layers of layer4 only",
        "Mine",
        "resnet18",
        "conv:layer4",
        "sample",
        units=48,
        samples=48,
        trial_units=16,
        batches=(8, 16, 48),
        their_batches=(8, 16),
        floor_batches=(4, 8, 16),
        check_units=2,
        memory_batch=16,
        least_ratio=6,
        most_gradients=0.9,
        quick=dict(size=64, units=16, batches=(16,), their_batches=(16,)),
    ),
)


def chosen(names: list[str], rows: tuple[Row, ...] = ROWS) -> list[Row]:
    """Rows by name, all of them for an empty list.

    Raises
    ------
    ValueError
        With the names there are.
    """
    known = {row.name: row for row in rows}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"There is no row {unknown[0]!r}; the rows are {', '.join(known)}.")
    return [known[name] for name in names or known]
