"""zennit-crp's `FeatureVisualization`: finds the samples that show each concept, with its arguments and files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from crp.attribution import INPUT, RelevanceFlow, Replica, prepare
from crp.cache import Cache
from crp.compat import as_patched
from crp.errors import InputError
from crp.hooks import FeatVisHook
from crp.legacy.cond_attribution import CondAttribution, replaced
from crp.legacy.kept import picked
from crp.legacy.reference_drawing import ReferenceDrawing
from crp.maximization import Maximization
from crp.mining.targets import explained_classes
from crp.statistics import Statistics

if TYPE_CHECKING:
    from zennit.core import Composite


class FeatureVisualization(ReferenceDrawing):
    """Finds the samples that show each concept, and draws them.

    A subclass may override `preprocess_data`, `get_data_sample` and `multitarget_to_single`, and replace `RelMax`,
    `ActMax`, `RelStats` and `ActStats` by other objects.

    Parameters
    ----------
    attribution
        Conditional attributions of the model. Its `relevance_init` says what relevance starts with.
    dataset
        Items are `(tensor [c, *S], label)`.
    layer_map
        Kind of concept of each layer: a dict, or pairs of layer and concept.
    preprocess_fn
        Turns a batch of the data set into model input `[N, c, *S]`.
    max_target, abs_norm
        Score of the references: `"sum"` or `"max"` over space, and whether to divide it by the absolute sum over
        concepts. It holds for relevance and activation alike; `crp.mine` has a score for each.
    path
        Folder of the files.
    device
        Where data go; by default where the model is.
    cache
        Keeps drawn references.
    """

    def __init__(
        self, attribution: CondAttribution, dataset: Any, layer_map: Mapping[str, Any] | Iterable[tuple[str, Any]],
        preprocess_fn: Callable[[Tensor], Tensor] | None = None, max_target: str = "sum", abs_norm: bool = True,
        path: str | Path = "FeatureVisualization", device: torch.device | str | None = None, cache: Cache | None = None,
    ) -> None:
        self.attribution = attribution
        self.dataset = dataset
        # zennit-crp's README gives a set of pairs
        self.layer_map = layer_map if isinstance(layer_map, Mapping) else dict(layer_map)
        self.preprocess_fn = preprocess_fn
        self.device = attribution.device if device is None else device
        best, of_classes = as_patched("Maximization", Maximization), as_patched("Statistics", Statistics)
        self.RelMax = best("relevance", max_target, abs_norm, path)
        self.ActMax = best("activation", max_target, abs_norm, path)
        self.RelStats = of_classes("relevance", max_target, abs_norm, path)
        self.ActStats = of_classes("activation", max_target, abs_norm, path)
        self.Cache = cache
        self.saved_checkpoints: dict[str, list[str]] = {name: [] for name in self._results()}

    # -- data --------------------------------------------------------------------------------------------------

    def preprocess_data(self, data: Tensor) -> Tensor:
        """Turn samples `[N, c, *S]` into model input, with `preprocess_fn` if there is one."""
        return self.preprocess_fn(data) if callable(self.preprocess_fn) else data

    def get_data_sample(self, index: int, preprocessing: bool = True) -> tuple[Tensor, Any]:
        """Load sample `[1, c, *S]` and label, as model input or (`preprocessing=False`) as it is drawn."""
        data, target = self.dataset[int(index)]
        data = data.to(self.device).unsqueeze(0)
        data = self.preprocess_data(data) if preprocessing else data
        return data.detach().requires_grad_(), target

    def get_data_concurrently(
        self, indices: Sequence[int] | np.ndarray | Tensor, preprocessing: bool = False
    ) -> tuple[Tensor, Any]:
        """Load samples `[N, c, *S]` and the list of their labels with several threads; a bare label for one index."""
        if len(indices) == 1:
            return self.get_data_sample(indices[0], preprocessing)
        with ThreadPoolExecutor() as pool:
            read = list(pool.map(lambda index: self.get_data_sample(index, preprocessing), indices))
        return torch.cat([data for data, _ in read]), [label for _, label in read]

    def multitarget_to_single(self, multi_target: Any) -> list[int]:
        """List the classes to explain for a label. Override it if the labels of the data set name several."""
        raise NotImplementedError

    # -- mining ------------------------------------------------------------------------------------------------

    def run(
        self, composite: Composite | None, data_start: int, data_end: int, batch_size: int = 32, checkpoint: int = 500,
        on_device: torch.device | str | None = None,
    ) -> dict[str, list[str]]:
        """Mine samples `data_start` to `data_end` (exclusive), and write the results.

        Parameters
        ----------
        composite
            zennit composite; None for the plain gradient.
        data_start, data_end
            Range of samples.
        batch_size
            Samples at a time. A sample with several labels takes one row for each.
        checkpoint
            After how many batches files are written.
        on_device
            Where the results are sorted.

        Returns
        -------
        dict
            Path prefixes of the files, under `"r_max"`, `"a_max"`, `"r_stats"` and `"a_stats"`.
        """
        return self.collect_results(
            self.run_distributed(composite, data_start, data_end, batch_size, checkpoint, on_device)
        )

    def run_distributed(
        self, composite: Composite | None, data_start: int, data_end: int, batch_size: int = 16, checkpoint: int = 500,
        on_device: torch.device | str | None = None,
    ) -> dict[str, list[str]]:
        """Mine a part of the data set; `collect_results` merges the files of all parts. Arguments as in `run`.

        Raises
        ------
        InputError
            If there are no such samples, or a label is not one class and `multitarget_to_single` is not overridden.
        SampleError
            If a label is not one of the model's classes; names the sample.
        """
        length = len(self.dataset) if hasattr(self.dataset, "__len__") else data_end
        if not 0 <= data_start < data_end <= length:
            raise InputError(
                f"There are no samples {data_start} to {data_end} (exclusive): the data set has {length}."
            )
        for each in self._results().values():
            each.delete_result_arrays()
        self.saved_checkpoints = {name: [] for name in self._results()}
        replica, first = prepare(self.attribution.model, composite), data_start
        starts = range(data_start, data_end, batch_size)
        for number, start in enumerate(tqdm(starts, dynamic_ncols=True), 1):
            samples = np.arange(start, min(start + batch_size, data_end))
            data, labels = self.get_data_concurrently(samples, preprocessing=True)
            rows, targets = self._explained(samples, labels if len(samples) > 1 else [labels])
            if len(rows):
                self._analyze(replica, composite, data.detach()[rows], samples[rows], targets, on_device)
            if number % checkpoint == 0 or number == len(starts):
                self._save_results((first, int(samples[-1]) + 1))
                first = int(samples[-1]) + 1
        return self.saved_checkpoints

    def collect_results(
        self, checkpoints: Mapping[str, Sequence[str]], d_index: tuple[int, int] | None = None
    ) -> dict[str, list[str]]:
        """Merge the files of checkpoints, or of several parts of the data set, and return the new ones.

        With `d_index`, the new files belong to a part again.
        """
        return {name: each.collect_results(checkpoints[name], d_index) for name, each in self._results().items()}

    @torch.no_grad()
    def analyze_relevance(
        self, rel: Tensor, layer_name: str, concept: Any, data_indices: np.ndarray, targets: np.ndarray
    ) -> None:
        """Merge the relevance `[N, C, *S]` of a batch of samples and classes `[N]`."""
        found = self.RelMax.analyze_layer(rel, concept, layer_name, data_indices, targets)
        self.RelStats.analyze_layer(*found, layer_name)

    @torch.no_grad()
    def analyze_activation(
        self, act: Tensor, layer_name: str, concept: Any, data_indices: np.ndarray, targets: np.ndarray
    ) -> None:
        """Merge the activation `[N, C, *S]` of a batch. A sample of several classes counts once, and for each class."""
        samples, first = np.unique(data_indices, return_index=True)
        found = self.ActMax.analyze_layer(act[first], concept, layer_name, samples, targets[first])[:3]
        for target in np.unique(targets).tolist():
            own = torch.isin(found[0], torch.as_tensor(data_indices[targets == target]).to(found[0]))
            tables = picked(own, *found)
            self.ActStats.analyze_layer(*tables, torch.full_like(tables[0], target), layer_name)

    def _results(self) -> dict[str, Maximization | Statistics]:
        return {"r_max": self.RelMax, "a_max": self.ActMax, "r_stats": self.RelStats, "a_stats": self.ActStats}

    def _save_results(self, d_index: tuple[int, int] | None = None) -> None:
        for name, each in self._results().items():
            self.saved_checkpoints[name].extend(each._save_results(d_index))

    def _explained(self, samples: np.ndarray, labels: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
        """List the rows of a batch and the class of each; a sample has as many rows as classes."""
        rows, targets = [], []
        for row, label in enumerate(labels):
            label = np.asarray(label.cpu() if isinstance(label, Tensor) else label)[()]
            try:
                single = self.multitarget_to_single(label)
            except NotImplementedError:
                single = [label]
            for target in map(np.asarray, single):
                if target.size != 1 or target.dtype.kind not in "iub":
                    raise InputError(
                        f"Sample {samples[row]} has the label {label!r}, which is not one class: override "
                        "'multitarget_to_single' to say which classes are explained."
                    )
                rows.append(row)
                targets.append(int(target.reshape(())))
        return np.array(rows, dtype=np.int64), np.array(targets, dtype=np.int64)

    # -- one batch -----------------------------------------------------------------------------------------------

    def _analyze(
        self, replica: Replica, composite: Composite | None, data: Tensor, samples: np.ndarray, targets: np.ndarray,
        on_device: torch.device | str | None,
    ) -> None:
        """Hand activation and relevance of a batch to `analyze_activation` and `analyze_relevance`."""
        hook = as_patched("FeatVisHook", FeatVisHook)
        if replaced(self.attribution, "__call__", "backward", "broadcast"):
            self._analyze_by_call(composite, data, samples, targets, on_device)
        elif hook is not FeatVisHook:
            self._analyze_by_hooks(hook, replica, data, samples, targets, on_device)
        else:
            self._analyze_by_sweep(replica, data, samples, targets, on_device)

    def _analyze_by_sweep(
        self, replica: Replica, data: Tensor, samples: np.ndarray, targets: np.ndarray,
        on_device: torch.device | str | None,
    ) -> None:
        """Read both from one forward pass and one pass down to the lowest layer."""
        layers = list(self.layer_map)
        with RelevanceFlow(replica, None, data, layers, to_input=False, before_activation=False) as flow:
            start = self._start(flow, samples, targets)
            for layer in layers:
                self._hand(self.analyze_activation, layer, flow.activation(layer), samples, targets, on_device)

            def arrive(layer: str, relevance: Tensor) -> None:
                self._hand(self.analyze_relevance, layer, relevance, samples, targets, on_device)

            flow.sweep(start, layers, arrive, last=True)

    def _analyze_by_call(
        self, composite: Composite | None, data: Tensor, samples: np.ndarray, targets: np.ndarray,
        on_device: torch.device | str | None,
    ) -> None:
        """Call an attribution whose methods are replaced, so that they take effect."""
        layers = list(self.layer_map)
        conditions = [{self.attribution.MODEL_OUTPUT_NAME: [target]} for target in targets.tolist()]
        found = self.attribution(data, conditions, composite, layers, exclude_parallel=False)
        for layer in layers:
            self._hand(self.analyze_activation, layer, found.activations[layer], samples, targets, on_device)
            self._hand(self.analyze_relevance, layer, found.relevances[layer], samples, targets, on_device)

    def _analyze_by_hooks(
        self, kind: Callable[..., Any], replica: Replica, data: Tensor, samples: np.ndarray, targets: np.ndarray,
        on_device: torch.device | str | None,
    ) -> None:
        """Use the hooks that a script has put in the place of `FeatVisHook`."""
        inputs, modules = {"sample_indices": samples, "targets": targets}, dict(replica.model.named_modules())
        handles = [
            kind(self, concept, layer, inputs, on_device).register(modules[layer])
            for layer, concept in self.layer_map.items()
        ]
        try:
            with RelevanceFlow(replica, None, data, before_activation=False) as flow:
                flow.down(self._start(flow, samples, targets), to=INPUT)
        finally:
            for handle in handles:
                handle.remove()

    def _start(self, flow: RelevanceFlow, samples: np.ndarray, targets: np.ndarray) -> Tensor:
        """Return the relevance `[1, N, ...]` that starts at the output."""
        if flow.prediction.ndim == 2:
            explained_classes("label", flow.prediction, torch.as_tensor(targets), samples)
        return self.attribution.relevance_init(flow.prediction.clone(), targets[:, None].tolist(), None)[None]

    def _hand(
        self, analyze: Callable[..., None], layer: str, values: Tensor, samples: np.ndarray, targets: np.ndarray,
        on_device: torch.device | str | None,
    ) -> None:
        analyze(values.to(on_device) if on_device else values, layer, self.layer_map[layer], samples, targets)
