"""zennit-crp's `Maximization`: the best samples of each concept of a layer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crp.compat import OLD_NAMES, old_names
from crp.legacy.kept import Kept

__all__ = [*OLD_NAMES[__name__]]

__getattr__ = old_names(__name__)


class Maximization(Kept):
    """The best samples of every concept, by layer.

    Parameters
    ----------
    mode
        `"relevance"` or `"activation"`; part of the folder's name.
    max_target
        Score of a sample: `"sum"` or `"max"` over space.
    abs_norm
        Whether to divide scores by the absolute sum over the layer's concepts.
    path
        Parent of the folder of the files; by default the current folder.

    Attributes
    ----------
    SAMPLE_SIZE
        How many samples are kept: 40. Change it before a run.
    LIST_SAMPLES_ONCE
        Whether a sample that is explained for several targets is listed once for each concept, with its best score. Set
        it to False before a run for the lists of zennit-crp, where each target counts as a sample.
    PATH
        Folder of the files.
    d_c_sorted, rel_c_sorted, rf_c_sorted
        By layer: samples, scores and positions `[n, concepts]`, best first.
    """

    LIST_SAMPLES_ONCE = True

    def __init__(
        self, mode: str = "relevance", max_target: str = "sum", abs_norm: bool = False, path: str | Path | None = None
    ) -> None:
        super().__init__("Max", mode, max_target, abs_norm, path)

    def analyze_layer(
        self, rel: Tensor, concept: Any, layer_name: str, data_indices: np.ndarray, targets: np.ndarray
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Merge a batch.

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
        self.concatenate_with_results(layer_name, samples, scores, positions)
        self.sort_result_array(layer_name)
        return samples, scores, positions, torch.as_tensor(targets).to(rows)[rows]

    def concatenate_with_results(
        self, layer_name: str, d_c_sorted: Tensor, rel_c_sorted: Tensor, rf_c_sorted: Tensor
    ) -> None:
        """Prepend tables `[m, concepts]` to those in memory."""
        self._concatenate(self._dicts(), layer_name, (d_c_sorted, rel_c_sorted, rf_c_sorted))

    def sort_result_array(self, layer_name: str) -> None:
        """Sort a layer's tables and keep the first `SAMPLE_SIZE` rows."""
        self._sort(self._dicts(), layer_name)

    def _write(self, d_index: tuple[int, int] | None) -> list[str]:
        layers: Sequence[str] = list(self.d_c_sorted)
        saved = [self._write_tables(self._start((layer,), d_index), self._dicts(), layer) for layer in layers]
        self.delete_result_arrays()
        return saved

    @staticmethod
    def _key(path: Path) -> tuple[str]:
        return (re.sub(r"(_\d+_\d+)?_$", "", path.name),)
