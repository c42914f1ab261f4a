"""zennit-crp's `FeatureVisualization`: mining with its arguments and files, and its references with heatmaps."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from crp.attribution import RelevanceFlow, Replica, prepare
from crp.cache import Cache, cache_reference, numbers, ranks
from crp.concepts import ChannelConcept, check_channels
from crp.errors import InputError
from crp.image import vis_img_heatmap, vis_opaque_img
from crp.legacy.cond_attribution import CondAttribution
from crp.legacy.kept import picked
from crp.legacy.stored import load_maximization, load_stat_targets, load_statistics
from crp.maximization import Maximization
from crp.mining.targets import explained_classes
from crp.statistics import Statistics

if TYPE_CHECKING:
    from zennit.core import Composite


class FeatureVisualization:
    """Finds the samples that show each concept, and draws them.

    A subclass may override `preprocess_data`, `get_data_sample` and `multitarget_to_single`, and put other objects in
    the place of `RelMax`, `ActMax`, `RelStats` and `ActStats`.

    Parameters
    ----------
    attribution
        Conditional attributions of the model; its `relevance_init` says what relevance starts from.
    dataset
        Items are `(tensor [c, *S], label)`.
    layer_map
        Kind of concept of each layer.
    preprocess_fn
        Makes model input `[N, c, *S]` of a batch of the data set.
    max_target, abs_norm
        Score of the references: `"sum"` or `"max"`, and whether it is divided by the absolute sum over concepts. It
        holds for relevance and activation alike; `crp.mine` chooses for each.
    path
        Folder of the files.
    device
        Where data go; by default where the model is.
    cache
        Keeps drawn references.
    """

    def __init__(
        self, attribution: CondAttribution, dataset: Any, layer_map: Mapping[str, Any],
        preprocess_fn: Callable[[Tensor], Tensor] | None = None, max_target: str = "sum", abs_norm: bool = True,
        path: str | Path = "FeatureVisualization", device: torch.device | str | None = None, cache: Cache | None = None,
    ) -> None:
        self.attribution = attribution
        self.dataset = dataset
        self.layer_map = layer_map
        self.preprocess_fn = preprocess_fn
        self.device = attribution.device if device is None else device
        self.RelMax = Maximization("relevance", max_target, abs_norm, path)
        self.ActMax = Maximization("activation", max_target, abs_norm, path)
        self.RelStats = Statistics("relevance", max_target, abs_norm, path)
        self.ActStats = Statistics("activation", max_target, abs_norm, path)
        self.Cache = cache
        self.saved_checkpoints: dict[str, list[str]] = {name: [] for name in self._results()}

    # -- data --------------------------------------------------------------------------------------------------

    def preprocess_data(self, data: Tensor) -> Tensor:
        """Make model input of samples `[N, c, *S]`: `preprocess_fn`, where there is one."""
        return self.preprocess_fn(data) if callable(self.preprocess_fn) else data

    def get_data_sample(self, index: int, preprocessing: bool = True) -> tuple[Tensor, Any]:
        """Sample `[1, c, *S]` and label, as model input or (`preprocessing=False`) as it is drawn."""
        data, target = self.dataset[int(index)]
        data = data.to(self.device).unsqueeze(0)
        data = self.preprocess_data(data) if preprocessing else data
        return data.detach().requires_grad_(), target

    def get_data_concurrently(
        self, indices: Sequence[int] | np.ndarray | Tensor, preprocessing: bool = False
    ) -> tuple[Tensor, Any]:
        """Samples `[N, c, *S]` and the list of their labels, read by several threads; of one index its bare label."""
        if len(indices) == 1:
            return self.get_data_sample(indices[0], preprocessing)
        with ThreadPoolExecutor() as pool:
            read = list(pool.map(lambda index: self.get_data_sample(index, preprocessing), indices))
        return torch.cat([data for data, _ in read]), [label for _, label in read]

    def multitarget_to_single(self, multi_target: Any) -> list[int]:
        """Classes to explain of a label of several; to be overridden where the data set has such labels."""
        raise NotImplementedError

    # -- mining ------------------------------------------------------------------------------------------------

    def run(
        self, composite: Composite | None, data_start: int, data_end: int, batch_size: int = 32, checkpoint: int = 500,
        on_device: torch.device | str | None = None,
    ) -> dict[str, list[str]]:
        """Mine samples `data_start` to `data_end` (exclusive), and write what is found.

        Parameters
        ----------
        composite
            zennit composite; None for the plain gradient.
        data_start, data_end
            Range of samples.
        batch_size
            Samples at a time; where samples have several labels, as many times more rows.
        checkpoint
            After how many batches files are written.
        on_device
            Where the results are sorted.

        Returns
        -------
        dict
            Beginnings of the files' paths of `"r_max"`, `"a_max"`, `"r_stats"` and `"a_stats"`.
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
        """Merge the files of checkpoints, or of several parts of the data set; returns the new ones.

        With `d_index` the files are again those of a part.
        """
        return {name: each.collect_results(checkpoints[name], d_index) for name, each in self._results().items()}

    @torch.no_grad()
    def analyze_relevance(
        self, rel: Tensor, layer_name: str, concept: Any, data_indices: np.ndarray, targets: np.ndarray
    ) -> None:
        """Merge the relevance `[N, C, *S]` of a batch; samples and classes `[N]`."""
        found = self.RelMax.analyze_layer(rel, concept, layer_name, data_indices, targets)
        self.RelStats.analyze_layer(*found, layer_name)

    @torch.no_grad()
    def analyze_activation(
        self, act: Tensor, layer_name: str, concept: Any, data_indices: np.ndarray, targets: np.ndarray
    ) -> None:
        """The same of activation; a sample of several classes counts once, and for each class."""
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
        """Rows of a batch and the class each is explained for: as many rows of a sample as it has classes."""
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

    def _analyze(
        self, replica: Replica, composite: Composite | None, data: Tensor, samples: np.ndarray, targets: np.ndarray,
        on_device: torch.device | str | None,
    ) -> None:
        """Hand activation and relevance of a batch on to `analyze_activation` and `analyze_relevance`."""

        def hand(analyze: Callable[..., None], layer: str, values: Tensor) -> None:
            analyze(values.to(on_device) if on_device else values, layer, self.layer_map[layer], samples, targets)

        layers = list(self.layer_map)
        if self._flows():
            with RelevanceFlow(replica, None, data, layers) as flow:
                if flow.prediction.ndim == 2:
                    explained_classes("label", flow.prediction, torch.as_tensor(targets), samples)
                for layer in layers:
                    hand(self.analyze_activation, layer, flow.activation(layer))
                start = self.attribution.relevance_init(flow.prediction.clone(), targets[:, None].tolist(), None)
                flow.sweep(start[None], layers, lambda layer, arriving: hand(self.analyze_relevance, layer, arriving))
            return
        conditions = [{self.attribution.MODEL_OUTPUT_NAME: [target]} for target in targets.tolist()]
        found = self.attribution(data, conditions, composite, layers, exclude_parallel=False)
        for layer in layers:
            hand(self.analyze_activation, layer, found.activations[layer])
            hand(self.analyze_relevance, layer, found.relevances[layer])

    def _flows(self) -> bool:
        """Whether relevance flows as the engine lets it flow, and no subclass of `CondAttribution` says otherwise."""
        seams, own = ("__call__", "backward", "broadcast"), type(self.attribution)
        return all(getattr(own, seam, None) is getattr(CondAttribution, seam) for seam in seams)

    # -- references --------------------------------------------------------------------------------------------

    cache_reference = staticmethod(cache_reference)

    @cache_reference
    def get_max_reference(
        self, concept_ids: int | Sequence[int], layer_name: str, mode: str = "relevance",
        r_range: tuple[int, int] = (0, 8), composite: Composite | None = None, rf: bool = False,
        plot_fn: Callable | None = vis_img_heatmap, batch_size: int = 32,
    ) -> dict[int, Any]:
        """References of concepts, with conditional heatmaps that start from the concept's activation.

        Parameters
        ----------
        concept_ids
            One concept or several.
        layer_name
            Their layer.
        mode
            `"relevance"` (RelMax) or `"activation"` (ActMax).
        r_range
            First and, exclusive, last rank; what is beyond the references kept is left out.
        composite
            zennit composite for the heatmaps; None for samples without heatmaps.
        rf
            Whether relevance starts at the position where the concept scored only.
        plot_fn
            Called as `plot_fn(samples, heatmaps, rf)`; None to get both tensors.
        batch_size
            Samples at a time.
        overwrite
            Whether what is in the cache is drawn anew; by keyword.

        Returns
        -------
        dict
            By concept: what `plot_fn` returned; `(samples, heatmaps)`; or samples, where `composite` is None.

        Raises
        ------
        FileNotFoundError
            If nothing was mined for the layer.
        InputError
            If there is no such concept, mode or rank.
        """
        tables = self._tables(mode, layer_name)
        how = layer_name, r_range, composite, rf, plot_fn, batch_size
        return {concept: self._reference(tables, concept, *how) for concept in numbers(concept_ids)}

    @cache_reference
    def get_stats_reference(
        self, concept_id: int, layer_name: str, targets: int | Sequence[int], mode: str = "relevance",
        r_range: tuple[int, int] = (0, 8), composite: Composite | None = None, rf: bool = False,
        plot_fn: Callable | None = vis_img_heatmap, batch_size: int = 32,
    ) -> dict[str, Any]:
        """References of a concept among the samples of each class, by `"concept:class"`; as `get_max_reference`."""
        how = layer_name, r_range, composite, rf, plot_fn, batch_size
        return {
            f"{concept_id}:{target}": self._reference(self._tables(mode, layer_name, target), int(concept_id), *how)
            for target in numbers(targets)
        }

    def _tables(self, mode: str, layer_name: str, target: int | None = None) -> tuple[np.ndarray, ...]:
        """Samples, scores and positions `[n, C]` that were kept."""
        best, of_classes = self._stores(mode)
        if target is None:
            return load_maximization(best.PATH, layer_name)
        return load_statistics(of_classes.PATH, layer_name, target)

    def _stores(self, mode: str) -> tuple[Maximization, Statistics]:
        stores = {"relevance": (self.RelMax, self.RelStats), "activation": (self.ActMax, self.ActStats)}
        if mode not in stores:
            raise InputError(f"`mode` must be `relevance` or `activation`, given {mode!r}.")
        return stores[mode]

    def _reference(
        self, tables: Sequence[np.ndarray], concept: int, layer: str, r_range: tuple[int, int],
        composite: Composite | None, *options: Any,
    ) -> Any:
        samples, _, positions = tables
        check_channels([concept], samples.shape[1], layer)
        if options[0] and not composite:
            warnings.warn("The receptive field is computed with a composite only: give one.", stacklevel=4)
        chosen = slice(*ranks(r_range, len(samples), layer))
        return self._load_ref_and_attribution(
            samples[chosen, concept], concept, positions[chosen, concept], layer, composite, *options
        )

    def _load_ref_and_attribution(
        self, d_indices: np.ndarray, c_id: int, n_indices: np.ndarray, layer_name: str, composite: Composite | None,
        rf: bool, plot_fn: Callable | None, batch_size: int,
    ) -> Any:
        """Read samples, attribute and draw them (a seam that works built on zennit-crp override)."""
        data = self.get_data_concurrently(d_indices, preprocessing=False)[0].detach()
        if not composite:
            return data.cpu()
        heatmaps = self._attribution_on_reference(
            self.preprocess_data(data), c_id, layer_name, composite, rf, n_indices, batch_size
        ).detach()
        return plot_fn(data, heatmaps, rf) if callable(plot_fn) else (data.cpu(), heatmaps.cpu())

    def _attribution_on_reference(
        self, data: Tensor, concept_id: int, layer_name: str, composite: Composite, rf: bool = False,
        neuron_ids: Sequence[int] | np.ndarray = (), batch_size: int = 32,
    ) -> Tensor:
        """Conditional heatmaps `[N, *S]` of a concept, or of one position for each sample (another such seam)."""
        if rf and len(neuron_ids) != len(data):
            raise InputError(f"{len(data)} samples need as many positions, given {len(neuron_ids)}.")
        concept = self.layer_map.get(layer_name, ChannelConcept())
        heatmaps = []
        for start in range(0, len(data), batch_size):
            batch = slice(start, start + batch_size)
            conditions = [{layer_name: [concept_id]}]
            if rf:
                conditions = [{layer_name: {concept_id: int(position)}} for position in neuron_ids[batch]]
            heatmaps.append(
                self.attribution(
                    data[batch].detach().requires_grad_(),
                    conditions,
                    composite,
                    mask_map=concept.mask_rf if rf else concept.mask,
                    start_layer=layer_name,
                    on_device=self.device,
                    exclude_parallel=False,
                ).heatmap
            )
        return torch.cat(heatmaps)

    # -- classes -----------------------------------------------------------------------------------------------

    def compute_stats(
        self, concept_id: int, layer_name: str, mode: str = "relevance", top_N: int = 5, mean_N: int = 10,
        norm: bool = False,
    ) -> tuple[np.ndarray, Tensor]:
        """Classes for which a concept counts most: the mean score of each one's best samples.

        `crp.open_library(path).statistics(layer)` has the means of all samples.

        Parameters
        ----------
        concept_id, layer_name
            The concept.
        mode
            `"relevance"` or `"activation"`.
        top_N
            How many classes.
        mean_N
            How many of a class's best samples.
        norm
            Whether to divide by the first mean.

        Returns
        -------
        tuple
            Classes int64 `[top_N]` and means float32 `[top_N]`, largest first.
        """
        path = self._stores(mode)[1].PATH
        targets = load_stat_targets(path)
        means = torch.zeros(len(targets))
        for row, target in enumerate(targets):
            scores = load_statistics(path, layer_name, target)[1]
            check_channels([concept_id], scores.shape[1], layer_name)
            means[row] = float(scores[:mean_N, concept_id].mean())
        best = means.argsort(descending=True, stable=True)[:top_N]
        return targets[best.numpy()], means[best] / means[best[0]] if norm else means[best]

    def precompute_ref(
        self, layer_c_ind: Mapping[str, Sequence[int]], composite: Composite, rf: bool = True, stats: bool = False,
        top_N: int = 4, mean_N: int = 10, mode: str = "relevance", r_range: tuple[int, int] = (0, 8),
        plot_list: Sequence[Callable] = (vis_opaque_img,), batch_size: int = 32,
    ) -> None:
        """Draw references of many concepts into the cache, also where it has them.

        Parameters
        ----------
        layer_c_ind
            By layer, concepts.
        stats
            Whether the references of the `top_N` classes of `compute_stats` are drawn as well.
        plot_list
            Functions as `plot_fn` of `get_max_reference`.
        composite, rf, mode, r_range, batch_size, top_N, mean_N
            As in `get_max_reference` and `compute_stats`.

        Raises
        ------
        InputError
            If there is no cache, or no composite.
        """
        if self.Cache is None:
            raise InputError("References are precomputed into a cache: give FeatureVisualization one (cache=...).")
        if composite is None:
            raise InputError("References are precomputed with heatmaps: give a zennit composite.")
        for layer, concepts in layer_c_ind.items():
            for concept in tqdm(numbers(concepts), desc=layer, dynamic_ncols=True):
                targets = self.compute_stats(concept, layer, mode, top_N, mean_N)[0] if stats else []
                for plot_fn in plot_list:
                    how = mode, r_range, composite, rf, plot_fn, batch_size
                    self.get_max_reference(concept, layer, *how, overwrite=True)
                    if stats:
                        self.get_stats_reference(concept, layer, targets, *how, overwrite=True)
