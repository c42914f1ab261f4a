"""zennit-crp's `crp.helper`. The functions that read its files are in `crp.legacy.stored`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from crp.attribution.layers import layer_names, output_shapes
from crp.compat import OLD_NAMES, old_names

__all__ = [*OLD_NAMES[__name__]]

__getattr__ = old_names(__name__)


def get_layer_names(model: nn.Module, types: Sequence[type[nn.Module]]) -> list[str]:
    """List the names of modules of some types, in the model's order."""
    return layer_names(model, types)


def get_output_shapes(model: nn.Module, single_sample: Tensor, record_layers: Sequence[str]) -> dict[str, torch.Size]:
    """Return the shape of each layer's output without the sample axis, for model input `[1, ...]`."""
    return {layer: torch.Size(shape) for layer, shape in output_shapes(model, single_sample, record_layers).items()}


def abs_norm(rel: Tensor, stabilize: float = 1e-10) -> Tensor:
    """Divide by the sum of absolute values."""
    return rel / (rel.abs().sum() + stabilize)


def max_norm(rel: Tensor, stabilize: float = 1e-10) -> Tensor:
    """Divide by the largest signed value."""
    return rel / (rel.max() + stabilize)


def load_receptive_field(path_folder: str | Path, layer_name: str) -> np.ndarray:
    """Memory-map `<layer_name>.npy` of a folder."""
    return np.load(Path(path_folder) / f"{layer_name}.npy", mmap_mode="r")


def find_files(path: str | Path | None = None) -> tuple[list[str], ...]:
    """List the folders that zennit-crp wrote to `path` (by default the current folder).

    Returns
    -------
    tuple of five lists
        Paths with RelMax, ActMax, RelStats, ActStats and ReField in their names, each list in alphabetical order.
    """
    found = sorted((Path.cwd() if path is None else Path(path)).iterdir())
    kinds = ("RelMax", "ActMax", "RelStats", "ActStats", "ReField")
    return tuple([str(entry) for entry in found if kind in entry.name] for kind in kinds)
