"""Samples as they are, with a concept taken out, and with it put in, at a layer's activations: `Counterfactuals`.

Where a concept is active in a sample, the activations around it are exchanged with those of a sample without it at the
same positions. No labels and no editing of pictures are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

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
        The model's outputs, `[M, classes]`.
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
        progress: bool,
    ) -> Iterator[Variants]:
        """Yield kinds of variants, as the model or a correction of it answers them; `progress` shows a bar for each."""
        last = None if correction is None else correction.last
        changed = correction is not None and correction.change is not None
        rerun = Rerun(self._model, self._presence.layer, {correction.layer: correction.change} if changed else None)
        for name in names:
            rows, donors = self._plans[name]
            outputs, given = [], []
            exchange = None if donors is None else self._exchanger(rerun, name, rows, donors)
            doing = "samples" if donors is None else "concept"
            for span, some in in_batches(rows, BATCH, f"{doing} {name}", shown=progress):
                output = rerun.run(self._data[some], exchange and exchange(span))
                if features or last is not None:
                    given.append(rerun.features()[1].clone())
                outputs.append(output.clone() if last is None else _answered(last, given[-1]))
            yield Variants(name, rows, torch.cat(outputs), torch.cat(given) if given else None)

    def _exchanger(self, rerun: Rerun, name: str, rows: Tensor, donors: Tensor) -> Callable[[slice], Exchange]:
        presence, kept = self._presence, []
        for some in self._donors[name].split(BATCH):
            rerun.run(self._data[some])
            kept.append(rerun.activation)
        activations = torch.cat(kept)
        # the region is that of the sample with the concept
        having = rows if name == "taken out" else self._donors[name][donors]
        layout = presence.layout

        def exchange(span: slice) -> Exchange:
            region = presence.near[having[span]].to(activations.device)[:, None]
            other = layout.split(activations[donors[span]])
            return lambda activation: layout.joined(torch.where(region, other, layout.split(activation)))

        return exchange


@torch.no_grad()
def _answered(last: nn.Linear, features: Tensor) -> Tensor:
    return last(features)
