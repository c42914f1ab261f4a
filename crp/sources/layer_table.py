"""The layers of a model as a table: what `crp layers` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from crp.attribution.layer_choice import ObservedLayer, observed_layers
from crp.attribution.receptive_fields import receptive_sizes
from crp.concepts import Layout
from crp.errors import InputError
from crp.preprocessing import CHANNELS, Preprocessing
from crp.sources.data import load_data
from crp.sources.plan import preprocessing_for


def example_input(
    model: str,
    weights: str | None,
    *,
    data: str | None = None,
    preprocessing: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Tensor:
    """Return an input `[c, *S]` for a named model: the first sample of the data, or noise of the size of its pictures.

    Parameters are as in `plan_mining`.

    Raises
    ------
    InputError
        If neither data nor a size is known.
    """
    how = preprocessing_for(model, weights, preprocessing, settings)
    if data is not None:
        samples = load_data(data, how)
        return samples[0][0] if samples.labelled else samples[0]
    side = None if how is None else how.crop or how.size
    if side is None:
        raise InputError(f"It is not known which inputs '{model}' takes; give --data DATA or --size PIXELS.")
    return _noise(how, (side, side) if isinstance(side, int) else side)


def _noise(preprocessing: Preprocessing, sides: tuple[int, int]) -> Tensor:
    shape = (*sides, 3) if CHANNELS[preprocessing.mode] == 3 else sides
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return Preprocessing(mean=preprocessing.mean, std=preprocessing.std, mode=preprocessing.mode).to_input(pixels)


def layer_rows(model: nn.Module, data: Tensor, *, every: bool = False) -> list[dict[str, Any]]:
    """Describe the layers of a model as JSON values, in the order in which they return.

    Parameters
    ----------
    model
        The model.
    data
        Model input, `[c, *S]`.
    every
        Whether to list every layer that is called, and not only those that every path to the output passes.

    Returns
    -------
    list of dict
        `name`, `kind` (class of the module), `shape` and `layout` of the output, `receptive_field` (extent in the
        input; None where it is not known), `trunk`, `chosen`, and `obstacle` (why it cannot be mined).
    """
    layers = [layer for layer in observed_layers(model, data[None]) if every or (layer.trunk and not layer.obstacle)]
    traced = [layer.name for layer in layers if _is_traced(layer, data)]
    fields = receptive_sizes(model, tuple(data.shape), traced) if traced else {}
    return [
        {
            "name": layer.name,
            "kind": layer.kind,
            "shape": None if layer.layout is None else list(layer.layout.shape),
            "layout": None if layer.layout is None else described_layout(layer.layout),
            "receptive_field": list(fields[layer.name]) if layer.name in fields else None,
            "trunk": layer.trunk,
            "chosen": layer.chosen,
            "obstacle": layer.obstacle,
        }
        for layer in layers
    ]


def _is_traced(layer: ObservedLayer, data: Tensor) -> bool:
    return layer.layout is not None and layer.layout.plain and len(layer.layout.shape) == data.ndim


def described_layout(layout: Layout) -> str:
    """Describe a layout in a few words.

    >>> described_layout(Layout((64, 7, 7))), described_layout(Layout((7, 7, 64), last=True))
    ('channels first', 'channels last')
    >>> described_layout(Layout((197, 192), last=True, grid=(14, 14), prefix=1)), described_layout(Layout((10,)))
    ('tokens, 14 x 14 and 1 in front', 'units')
    >>> described_layout(Layout((196, 192), last=True, grid=()))
    'tokens without places: moved or mixed'
    """
    if len(layout.shape) == 1:
        return "units"
    if layout.grid == layout.space:
        return "channels last" if layout.last else "channels first"
    if not layout.grid:
        return f"{'tokens' if len(layout.space) == 1 else 'positions'} without places: moved or mixed"
    grid = " x ".join(map(str, layout.grid))
    return f"tokens, {grid}" + (f" and {layout.prefix} in front" if layout.prefix else "")


def as_table(rows: Sequence[Mapping[str, Any]], sides: Sequence[int]) -> str:
    """Write the rows as a table for people; `sides` is the extent of the model's input."""
    head = ("", "layer", "kind", "output", "layout", "sees", "")
    cells = [
        (
            "*" if row["chosen"] else "",
            row["name"],
            row["kind"],
            "-" if row["shape"] is None else " x ".join(map(str, row["shape"])),
            row["layout"] or "-",
            _seen(row["receptive_field"], sides),
            f"cannot be mined: {row['obstacle']}" if row["obstacle"] else "",
        )
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *cells)
    )


def _seen(field: Sequence[int] | None, sides: Sequence[int]) -> str:
    if field is None:
        return "-"
    return "everything" if list(field) == list(sides) else " x ".join(map(str, field))
