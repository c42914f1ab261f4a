"""zennit-crp's `Statistics`: the best samples of each class for each concept of a layer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from crp.compat import OLD_NAMES, old_names
from crp.legacy.kept import Kept, picked
from crp.legacy.stored import write_stat_targets

__all__ = [*OLD_NAMES[__name__]]

__getattr__ = old_names(__name__)


class Statistics(Kept):
    """The best samples of every concept, by class and layer; parameters and attributes as in `Maximization`.

    `d_c_sorted`, `rel_c_sorted` and `rf_c_sorted` are dicts `{class: {layer: [n, concepts]}}`.
    """

    def __init__(
        self, mode: str = "relevance", max_target: str = "sum", abs_norm: bool = False, path: str | Path | None = None
    ) -> None:
        super().__init__("Stats", mode, max_target, abs_norm, path)

    def analyze_layer(
        self, d_c_sorted: Tensor, rel_c_sorted: Tensor, rf_c_sorted: Tensor, t_c_sorted: Tensor, layer_name: str
    ) -> None:
        """Merge a batch as returned by `Maximization.analyze_layer`, class by class."""
        for target in torch.unique(t_c_sorted).tolist():
            own = picked(t_c_sorted == target, d_c_sorted, rel_c_sorted, rf_c_sorted)
            self.concatenate_with_results(layer_name, target, *own)
            self.sort_result_array(layer_name, target)

    def concatenate_with_results(
        self, layer_name: str, target: int, d_c_sorted: Tensor, rel_c_sorted: Tensor, rf_c_sorted: Tensor
    ) -> None:
        """Prepend tables `[m, concepts]` to those in memory."""
        dicts = [kept.setdefault(target, {}) for kept in self._dicts()]
        self._concatenate(dicts, layer_name, (d_c_sorted, rel_c_sorted, rf_c_sorted))

    def sort_result_array(self, layer_name: str, target: int) -> None:
        """Sort the tables of a layer and class and keep the first `SAMPLE_SIZE` rows."""
        self._sort([kept[target] for kept in self._dicts()], layer_name)

    def collect_results(self, path_list: Sequence[str], d_index: tuple[int, int] | None = None) -> list[str]:
        """Merge files as `Kept.collect_results` does, and write the list of classes."""
        saved = super().collect_results(path_list, d_index)
        if d_index is None:
            self._write_targets({self._key(Path(path))[1] for path in saved})
        return saved

    def _save_results(self, d_index: tuple[int, int] | None = None) -> list[str]:
        if d_index is None:
            self._write_targets(set(self.d_c_sorted))
        return super()._save_results(d_index)

    def _write_targets(self, targets: set[int]) -> None:
        write_stat_targets(self.PATH, sorted(targets))

    def _write(self, d_index: tuple[int, int] | None) -> list[str]:
        saved = []
        for target, layers in self.d_c_sorted.items():
            dicts = [kept[target] for kept in self._dicts()]
            saved += [self._write_tables(self._start((layer, target), d_index), dicts, layer) for layer in layers]
        self.delete_result_arrays()
        return saved

    @staticmethod
    def _key(path: Path) -> tuple[str, int]:
        return path.parent.name, int(path.name.partition("_")[0])
