"""Samples as they are, with a concept taken out, and with it put in, at a layer's activations: `Counterfactuals`.

Where a concept is active in a sample, the activations around it are exchanged with those of a sample without it at the
same positions. No labels and no editing of pictures are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from crp.attribution.copies import replicate
from crp.attribution.named_layers import SUFFIX, on_layer
from crp.attribution.upper_part import UpperPart
from crp.correction.corrections import Correction
from crp.correction.presence import Presence
from crp.correction.reruns import BATCH, Rerun
from crp.errors import InputError
from crp.progress import in_batches

# Samples of each kind whose activations are kept to be exchanged, and the fewest that are needed of each.
_DONORS, LEAST = 64, 10
# Exchanged copies of each sample that has the concept: there are usually few of them.
COPIES = 3
NAMES = ("as they are", "taken out", "put in")

Exchange = Callable[[Tensor], Tensor]
# Output and, if asked for, features of one sample.
_Answer = tuple[Tensor, Tensor | None]


@dataclass(frozen=True, eq=False)
class Variants:
    """One kind of variant of some samples, after the model ran on them.

    Attributes
    ----------
    name
        `"as they are"`, `"taken out"` or `"put in"`.
    samples
        Row of each in the data, int64 `[M]`.
    outputs
        The model's outputs, `[M, classes]`; or those of another layer, at which the pass ended.
    features
        What its last linear layer was given, `[M, D]`; None if it is not asked for.
    """

    name: str
    samples: Tensor
    outputs: Tensor
    features: Tensor | None


class Counterfactuals:
    """Runs a model, or a corrected one, on samples with and without a concept.

    Parameters
    ----------
    model
        The original model.
    data
        `[N, c, *S]`.
    presence
        Where the concept is active in them.
    seed
        Of the choice of exchanged samples; the same for every model that is compared.

    Raises
    ------
    InputError
        If fewer than 10 samples have the concept, or fewer than 10 do not.
    """

    def __init__(self, model: nn.Module, data: Tensor, presence: Presence, seed: int = 0) -> None:
        self._model, self._data, self._presence = model, data, presence
        near = presence.near.any(1).cpu()  # rows are counted there, wherever the model runs
        self.having, self.lacking = near.nonzero().flatten(), (~near).nonzero().flatten()
        if min(len(self.having), len(self.lacking)) < LEAST:
            raise InputError(
                f"Of {len(data)} samples, {len(self.having)} have the concept at a position of the layer's grid and "
                f"{len(self.lacking)} do not; at least {LEAST} of each are needed: give more samples, or others."
            )
        draw = torch.Generator().manual_seed(seed)

        def drawn(rows: Tensor, count: int) -> Tensor:
            return torch.randint(min(_DONORS, len(rows)), (count,), generator=draw)

        self._donors = {"taken out": self.lacking[:_DONORS], "put in": self.having[:_DONORS]}
        self._plans = {
            "as they are": (torch.arange(len(data)), None),
            "taken out": (self.having.repeat(COPIES), drawn(self.lacking, COPIES * len(self.having))),
            "put in": (self.lacking, drawn(self.having, len(self.lacking))),
        }

    def run(
        self,
        correction: Correction | None = None,
        *,
        names: Sequence[str] = NAMES,
        features: bool = False,
        end: str | None = None,
        progress: bool,
    ) -> list[Variants]:
        """Return kinds of variants, as the model or a correction of it answers them; `progress` shows bars.

        Samples are run once. What lies above the layer is run again from exchanged activations (`UpperPart`). With
        `end`, a pass ends at that layer, and `outputs` are its.
        """
        passes = _Passes(self._model, self._data, self._presence.layer, correction, features, end)
        answers: dict[str, dict[int, _Answer]] = {name: {} for name in NAMES}
        for name, rows, copies in (("taken out", self.having, COPIES), ("put in", self.lacking, 1)):
            donors = passes.activations(self._data, self._donors[name]) if name in names else None
            for span, some in in_batches(rows, BATCH, f"concept {name}", shown=progress):
                as_they_are, again = passes.run(self._data[some])
                places = [torch.arange(len(rows))[span] + copy * len(rows) for copy in range(copies)]
                answers["as they are"] |= dict(zip(some.tolist(), as_they_are, strict=True))
                if donors is not None:
                    exchanged = [self._exchanged(name, place, donors) for place in places]
                    for place, found in zip(places, again(exchanged), strict=True):
                        answers[name] |= dict(zip(place.tolist(), found, strict=True))
        return [
            Variants(name, self._plans[name][0], *_stacked([row for _, row in sorted(answers[name].items())]))
            for name in names
        ]

    def plan(self, name: str) -> tuple[Tensor, Tensor, Tensor]:
        """Return how a kind of variant is made.

        Returns
        -------
        tuple of three Tensors
            For each variant, the row of its sample in the data, and that of the sample with which it exchanges
            activations, int64 `[M]`; and at which positions, bool `[M, P]`.
        """
        rows, drawn = self._plans[name]
        if drawn is None:
            return rows, rows, torch.zeros_like(self._presence.near)
        return rows, self._donors[name][drawn], self._region(name, rows, drawn)

    def _exchanged(self, name: str, places: Tensor, donors: Tensor) -> Exchange:
        """Return what exchanges the activations of the samples at some places of a plan."""
        rows, drawn = (values[places] for values in self._plans[name])
        layout, region = self._presence.layout, self._region(name, rows, drawn).to(donors.device)[:, None]
        other = layout.split(donors[drawn])
        return lambda activation: layout.joined(torch.where(region, other, layout.split(activation)))

    def _region(self, name: str, rows: Tensor, drawn: Tensor) -> Tensor:
        """Return the positions that are exchanged, those around the concept in the sample that has it, `[M, P]`."""
        return self._presence.near[rows if name == "taken out" else self._donors[name][drawn]]


class _Passes:
    """Runs a model, or a correction of it, on samples as they are and from changed activations of a layer."""

    def __init__(
        self,
        model: nn.Module,
        data: Tensor,
        layer: str,
        correction: Correction | None,
        features: bool,
        end: str | None,
    ) -> None:
        self._model, self._layer, self._own, self._end, self._last = model, layer, None, end, None
        if correction is not None and correction.change is None and correction.last is None:
            self._model = correction.model  # other weights in several layers
        elif correction is not None and correction.change is not None:
            if correction.layer == layer:
                self._own = correction.change
            else:
                self._model = replicate(model)
                on_layer(dict(self._model.named_modules()), correction.layer, correction.change)
        if features or (correction is not None and correction.last is not None):
            rerun = Rerun(model, layer)
            rerun.run(data[:2])
            name, _ = rerun.features()
            self._end = f"{name}{SUFFIX}"
            fitted = None if correction is None else correction.last
            self._last = replicate(model).get_submodule(name) if fitted is None else fitted

    def activations(self, data: Tensor, rows: Tensor) -> Tensor:
        """Return the layer's output for some rows of the data, `[n, *shape]`."""
        rerun, found = Rerun(self._model, self._layer), []
        for some in rows.split(BATCH):
            rerun.run(data[some])
            found.append(rerun.activation)
        return torch.cat(found)

    @torch.no_grad()
    def run(self, data: Tensor) -> tuple[list[_Answer], Callable[[Sequence[Exchange]], list[list[_Answer]]]]:
        """Return the answers for samples `[n, c, *S]`, and what computes those for changed activations."""
        upper = UpperPart(self._model, data, self._layer, self._end)

        @torch.no_grad()
        def again(changes: Sequence[Exchange]) -> list[list[_Answer]]:
            given = torch.stack([change(upper.activation) for change in changes])
            if self._own is not None:
                given = self._own(given.flatten(0, 1)).unflatten(0, given.shape[:2])
            return [self._answers(found) for found in upper.outputs(given)]

        if self._own is None:
            return self._answers(upper.prediction), again
        return again([lambda activation: activation])[0], again

    def _answers(self, found: Tensor) -> list[_Answer]:
        """Return output and features of each sample, from what was computed: features, if there is a last layer."""
        if self._last is None:
            return [(row, None) for row in found]
        return list(zip(self._last(found), found, strict=True))


def _stacked(answers: Sequence[_Answer]) -> tuple[Tensor, Tensor | None]:
    outputs, features = zip(*answers, strict=True)
    return torch.stack(outputs), None if features[0] is None else torch.stack(features)
