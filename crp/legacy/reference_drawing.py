"""The part of zennit-crp's `FeatureVisualization` that reads what was mined: reference samples, heatmaps, classes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from crp.cache import Cache, cache_reference, ranks
from crp.concepts import ChannelConcept
from crp.errors import InputError
from crp.image import vis_img_heatmap, vis_opaque_img
from crp.indices import class_ids, concept_id, concept_ids
from crp.legacy.cond_attribution import CondAttribution
from crp.legacy.stored import load_maximization, load_stat_targets, load_statistics
from crp.maximization import Maximization
from crp.statistics import Statistics

if TYPE_CHECKING:
    from zennit.core import Composite


class ReferenceDrawing:
    """Reference samples of concepts, with heatmaps, and the classes they count for.

    `FeatureVisualization` gives it its data, its model and its results.
    """

    attribution: CondAttribution
    layer_map: Mapping[str, Any]
    device: torch.device | str
    Cache: Cache | None
    RelMax: Maximization
    ActMax: Maximization
    RelStats: Statistics
    ActStats: Statistics

    # -- references --------------------------------------------------------------------------------------------

    cache_reference = staticmethod(cache_reference)

    @cache_reference
    def get_max_reference(
        self, concept_ids: int | Sequence[int], layer_name: str, mode: str = "relevance",
        r_range: tuple[int, int] = (0, 8), composite: Composite | None = None, rf: bool = False,
        plot_fn: Callable | None = vis_img_heatmap, batch_size: int = 32,
    ) -> dict[int, Any]:
        """Load reference samples of concepts, with conditional heatmaps that start with the concept's activation.

        Parameters
        ----------
        concept_ids
            One concept or several, in any form that `crp.indices.concept_ids` reads.
        layer_name
            Their layer.
        mode
            `"relevance"` (RelMax) or `"activation"` (ActMax).
        r_range
            First and last rank (exclusive). Ranks beyond the stored references are left out.
        composite
            zennit composite for the heatmaps; None for samples without heatmaps.
        rf
            Whether relevance starts only at the position with the highest score.
        plot_fn
            Called as `plot_fn(samples, heatmaps, rf)`; None to get both tensors.
        batch_size
            Samples at a time.
        overwrite
            Whether to draw again what is in the cache; by keyword.

        Returns
        -------
        dict
            By concept: the result of `plot_fn`; `(samples, heatmaps)`; or samples, if `composite` is None.

        Raises
        ------
        FileNotFoundError
            If nothing was mined for the layer.
        InputError
            If there is no such concept, mode or rank.
        """
        tables = self._tables(mode, layer_name)
        how = layer_name, r_range, composite, rf, plot_fn, batch_size
        return {each: self._reference(tables, each, *how) for each in self._concepts(concept_ids, layer_name, mode)}

    @cache_reference
    def get_stats_reference(
        self, concept_id: int, layer_name: str, targets: int | Sequence[int], mode: str = "relevance",
        r_range: tuple[int, int] = (0, 8), composite: Composite | None = None, rf: bool = False,
        plot_fn: Callable | None = vis_img_heatmap, batch_size: int = 32,
    ) -> dict[str, Any]:
        """Load reference samples of a concept in each class, by `"concept:class"`; otherwise as `get_max_reference`."""
        how = layer_name, r_range, composite, rf, plot_fn, batch_size
        concept = self._concept(concept_id, layer_name, mode)
        return {
            f"{concept}:{target}": self._reference(self._tables(mode, layer_name, target), concept, *how)
            for target in self._classes(targets, mode)
        }

    def _tables(self, mode: str, layer_name: str, target: int | None = None) -> tuple[np.ndarray, ...]:
        """Load the stored samples, scores and positions `[n, C]`."""
        best, of_classes = self._stores(mode)
        if target is None:
            return load_maximization(best.PATH, layer_name)
        return load_statistics(of_classes.PATH, layer_name, target)

    def _stores(self, mode: str) -> tuple[Maximization, Statistics]:
        stores = {"relevance": (self.RelMax, self.RelStats), "activation": (self.ActMax, self.ActStats)}
        if mode not in stores:
            raise InputError(f"`mode` must be `relevance` or `activation`, given {mode!r}.")
        return stores[mode]

    def _concepts(self, ids: Any, layer: str, mode: str) -> tuple[int, ...]:
        return concept_ids(ids, self._tables(mode, layer)[0].shape[1], f"layer '{layer}'")

    def _concept(self, concept: Any, layer: str, mode: str) -> int:
        return concept_id(concept, self._tables(mode, layer)[0].shape[1], f"layer '{layer}'")

    def _classes(self, targets: Any, mode: str) -> tuple[int, ...]:
        known = load_stat_targets(self._stores(mode)[1].PATH)
        return class_ids(targets, int(known.max(initial=-1)) + 1, "the data set")

    def _reference(
        self, tables: Sequence[np.ndarray], concept: int, layer: str, r_range: tuple[int, int],
        composite: Composite | None, *options: Any,
    ) -> Any:
        samples, _, positions = tables
        if options[0] and not composite:
            warnings.warn("rf=True has no effect without a composite: give one.", stacklevel=4)
        chosen = slice(*ranks(r_range, len(samples), layer))
        return self._load_ref_and_attribution(
            samples[chosen, concept], concept, positions[chosen, concept], layer, composite, *options
        )

    def _load_ref_and_attribution(
        self, d_indices: np.ndarray, c_id: int, n_indices: np.ndarray, layer_name: str, composite: Composite | None,
        rf: bool, plot_fn: Callable | None, batch_size: int,
    ) -> Any:
        """Load samples, attribute and draw them. Projects that build on zennit-crp override this method."""
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
        """Compute heatmaps `[N, *S]` of a concept, or of one position for each sample. Overridden like the above."""
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
        """Find the classes with the highest mean score of a concept over their best samples.

        `crp.open_library(path).statistics(layer)` has the means over all samples.

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
        concept = self._concept(concept_id, layer_name, mode)
        targets = load_stat_targets(path)
        means = torch.zeros(len(targets))
        for row, target in enumerate(targets):
            means[row] = float(load_statistics(path, layer_name, target)[1][:mean_N, concept].mean())
        best = means.argsort(descending=True, stable=True)[:top_N]
        return targets[best.numpy()], means[best] / means[best[0]] if norm else means[best]

    def precompute_ref(
        self, layer_c_ind: Mapping[str, Sequence[int]], composite: Composite, rf: bool = True, stats: bool = False,
        top_N: int = 4, mean_N: int = 10, mode: str = "relevance", r_range: tuple[int, int] = (0, 8),
        plot_list: Sequence[Callable] = (vis_opaque_img,), batch_size: int = 32,
    ) -> None:
        """Draw the references of many concepts into the cache, and overwrite what is there.

        Parameters
        ----------
        layer_c_ind
            By layer, concepts.
        stats
            Whether to draw the references of the `top_N` classes of `compute_stats` as well.
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
            raise InputError("precompute_ref needs a cache: give FeatureVisualization one (cache=...).")
        if composite is None:
            raise InputError("precompute_ref draws heatmaps: give a zennit composite.")
        for layer, chosen in layer_c_ind.items():
            for concept in tqdm(self._concepts(chosen, layer, mode), desc=layer, dynamic_ncols=True):
                targets = self.compute_stats(concept, layer, mode, top_N, mean_N)[0] if stats else []
                for plot_fn in plot_list:
                    how = mode, r_range, composite, rf, plot_fn, batch_size
                    self.get_max_reference(concept, layer, *how, overwrite=True)
                    if stats:
                        self.get_stats_reference(concept, layer, targets, *how, overwrite=True)
