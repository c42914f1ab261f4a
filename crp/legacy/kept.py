"""Base of `Maximization` and `Statistics`: tables of the best samples, in memory and in zennit-crp's files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from crp.legacy.stored import move_tables, read_tables, remove_tables, sub_folder, write_tables


class Kept:
    """The `SAMPLE_SIZE` best samples of every concept.

    `d_c_sorted`, `rel_c_sorted` and `rf_c_sorted` are dicts with the same keys. They hold samples, scores and positions
    `[n, concepts]`, best first. Equal scores are sorted by sample index.
    """

    LIST_SAMPLES_ONCE = False

    def __init__(self, kind: str, mode: str, max_target: str, abs_norm: bool, path: str | Path | None) -> None:
        self.SAMPLE_SIZE = 40
        self.max_target = max_target
        self.abs_norm = abs_norm
        self.sub_folder = Path(sub_folder(kind, mode, max_target, abs_norm))
        self.PATH = Path(path) / self.sub_folder if path else self.sub_folder
        self.PATH.mkdir(parents=True, exist_ok=True)
        # files that hold sorted tables, and how many rows were kept at most
        self._sorted_files: dict[str, int] = {}
        self.delete_result_arrays()

    def delete_result_arrays(self) -> None:
        """Clear the tables in memory."""
        self.d_c_sorted: dict = {}
        self.rel_c_sorted: dict = {}
        self.rf_c_sorted: dict = {}

    def collect_results(self, path_list: Sequence[str], d_index: tuple[int, int] | None = None) -> list[str]:
        """Merge the files that `_save_results` wrote, and remove them once the merged files are written.

        One layer (and class) is in memory at a time. A file that this object wrote, and that is the only one of its
        layer (and class), has the final content already: it gets its final name.

        Parameters
        ----------
        path_list
            Path prefixes of the files, as returned by `_save_results`.
        d_index
            Range of samples for the names of the new files; None for the final ones.

        Returns
        -------
        list of str
            Path prefixes of the new files.
        """
        self.delete_result_arrays()
        parts: dict[tuple, list[str]] = {}
        for path in path_list:
            parts.setdefault(self._key(Path(path)), []).append(path)
        saved, merged = [], []
        for key, paths in tqdm(parts.items(), desc=self.sub_folder.name, dynamic_ncols=True):
            if len(paths) == 1 and self._sorted_files.get(paths[0]) == self.SAMPLE_SIZE:
                start = self._start(key, d_index)
                move_tables(paths[0], start)
                saved.append(self._noted(start))
                continue
            for path in paths:
                self.concatenate_with_results(*key, *(torch.from_numpy(table.copy()) for table in read_tables(path)))
                self.sort_result_array(*key)
            merged += paths
            saved += self._write(d_index)
        for path in set(merged) - set(saved):
            remove_tables(path)
        return saved

    def _save_results(self, d_index: tuple[int, int] | None = None) -> list[str]:
        """Write the tables in memory, clear them, and return the path prefixes of the files."""
        return self._write(d_index)

    # -- tables of one key, in three dicts -----------------------------------------------------------------------

    def _dicts(self) -> tuple[dict, dict, dict]:
        return self.d_c_sorted, self.rel_c_sorted, self.rf_c_sorted

    @staticmethod
    def _concatenate(dicts: Sequence[dict], key: Any, tables: Sequence[Tensor]) -> None:
        for kept, table in zip(dicts, tables, strict=True):
            kept[key] = torch.cat([table, kept[key]]) if key in kept else table

    def _sort(self, dicts: Sequence[dict], key: Any) -> None:
        sample, score = (kept[key].t().cpu().numpy() for kept in dicts[:2])
        order = np.lexsort((sample, -score), axis=-1)
        if self.LIST_SAMPLES_ONCE:
            order = _without_repetitions(order, np.take_along_axis(sample, order, 1))
        best = torch.from_numpy(order[:, : self.SAMPLE_SIZE].T.copy()).to(dicts[0][key].device)
        for kept in dicts:
            kept[key] = kept[key].gather(0, best)

    def _start(self, key: Sequence, d_index: tuple[int, int] | None) -> Path:
        """Return the prefix of the paths of a layer's (and class's) files."""
        *folders, last = map(str, key)
        name = f"{last}_" if d_index is None else f"{last}_{d_index[0]}_{d_index[1]}_"
        return self.PATH.joinpath(*folders, name)

    def _write_tables(self, start: Path, dicts: Sequence[Mapping], key: Any) -> str:
        write_tables(start, *(kept[key].cpu().numpy() for kept in dicts))
        return self._noted(start)

    def _noted(self, start: Path) -> str:
        self._sorted_files[str(start)] = self.SAMPLE_SIZE
        return str(start)


def _without_repetitions(order: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Remove from an order `[C, n]` the places where a sample is repeated; `samples` `[C, n]` in that order.

    Before a table is cut, every concept has the same samples. Once it is cut, every concept has `SAMPLE_SIZE` different
    ones. So the rows of the result that are too long are cut to the shortest without losing a sample of the best.
    """
    by_sample = samples.argsort(1, kind="stable")
    ordered = np.take_along_axis(samples, by_sample, 1)
    again = np.zeros_like(ordered, dtype=bool)
    np.put_along_axis(again, by_sample[:, 1:], ordered[:, 1:] == ordered[:, :-1], 1)
    if not again.any():
        return order
    first = np.take_along_axis(order, again.argsort(1, kind="stable"), 1)
    return first[:, : int((~again).sum(1).min())]


def picked(mask: Tensor, *tables: Tensor) -> list[Tensor]:
    """Select the entries of tables `[n, C]` where a mask is true, equally many in each column: `[m, C]` each."""
    return [table.t()[mask.t()].view(table.shape[1], -1).t() for table in tables]
