"""zennit-crp's `Maximization`: the samples that count most for each concept of a layer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crp.legacy.kept import Kept, picked


class Maximization(Kept):
    """The best samples of every concept, by layer.

    Parameters
    ----------
    mode
        `"relevance"` or `"activation"`; names the folder.
    max_target
        `"sum"` or `"max"`: what a concept's part counts.
    abs_norm
        Whether it is divided by the absolute sum over the layer's concepts.
    path
        Folder above the folder of the files; by default the current one.

    Attributes
    ----------
    SAMPLE_SIZE
        How many samples are kept, 40; may be changed before a run.
    PATH
        Folder of the files.
    d_c_sorted, rel_c_sorted, rf_c_sorted
        By layer: samples, scores and positions `[n, concepts]`, best first.
    """

    def __init__(
        self, mode: str = "relevance", max_target: str = "sum", abs_norm: bool = False, path: str | Path | None = None
    ) -> None:
        super().__init__("Max", mode, max_target, abs_norm, path)

    def analyze_layer(
        self, rel: Tensor, concept: Any, layer_name: str, data_indices: np.ndarray, targets: np.ndarray
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Merge a batch.

        A sample that is there more than once, under several classes, is kept once, as it counts most.

        Parameters
        ----------
        rel
            Relevance or activation, `[N, C, *S]`.
        concept
            Its `reference_sampling` scores and sorts the batch.
        layer_name
            The layer.
        data_indices, targets
            Index in the data set and class of each row, `[N]`.

        Returns
        -------
        tuple of four Tensors
            Samples, scores, positions and classes of the whole batch, `[N, concepts]` each, best first.
        """
        rows, scores, positions = concept.reference_sampling(rel, layer_name, self.max_target, self.abs_norm)
        samples = torch.as_tensor(data_indices).to(rows)[rows]
        best = [samples, scores, positions]
        if len(np.unique(data_indices)) < len(data_indices):
            best = picked(_first_of_each(samples), *best)
        self.concatenate_with_results(layer_name, *(table[: self.SAMPLE_SIZE] for table in best))
        self.sort_result_array(layer_name)
        return samples, scores, positions, torch.as_tensor(targets).to(rows)[rows]

    def concatenate_with_results(
        self, layer_name: str, d_c_sorted: Tensor, rel_c_sorted: Tensor, rf_c_sorted: Tensor
    ) -> None:
        """Put tables `[m, concepts]` before those in memory."""
        self._concatenate(self._dicts(), layer_name, (d_c_sorted, rel_c_sorted, rf_c_sorted))

    def sort_result_array(self, layer_name: str) -> None:
        """Sort a layer's tables, and keep the first `SAMPLE_SIZE` rows."""
        self._sort(self._dicts(), layer_name)

    def _write(self, d_index: tuple[int, int] | None) -> list[str]:
        layers: Sequence[str] = list(self.d_c_sorted)
        saved = [self._write_tables(self.PATH / layer, d_index, self._dicts(), layer) for layer in layers]
        self.delete_result_arrays()
        return saved

    @staticmethod
    def _key(path: Path) -> tuple[str]:
        return (re.sub(r"(_\d+_\d+)?_$", "", path.name),)


def _first_of_each(samples: Tensor) -> Tensor:
    """Where each sample stands for the first time in its column: `[n, C]` -> bool `[n, C]`."""
    ordered, order = samples.sort(dim=0, stable=True)
    first = torch.ones_like(ordered, dtype=torch.bool)
    first[1:] = ordered[1:] != ordered[:-1]
    return torch.zeros_like(first).scatter(0, order, first)
