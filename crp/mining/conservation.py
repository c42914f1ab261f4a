"""How much of the relevance that starts arrives at the input, and which modules absorb the rest, for a few samples."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from typing import Any

import torch

from crp.attribution import RelevanceFlow, Replica
from crp.attribution.ledger import Ledger, combined

from .block_stream import SampleReader, label_table
from .targets import AttributionTarget, TargetRule, attribution_targets

# The first samples of the data set.
SAMPLES = 8
# At most so many modules are listed, each with at least this part.
MODULES, LEAST = 5, 0.005


def measured_conservation(
    replica: Replica,
    reader: SampleReader,
    targets: TargetRule,
    classes: int,
    skipped: Collection[int],
    block_size: int,
) -> dict[str, Any]:
    """Make the ledger of the first samples, with one backward pass to the input for each block and target.

    Each sample counts with the size of its relevance, whatever its sign.

    Parameters
    ----------
    replica
        The prepared model.
    reader
        The data set.
    targets
        What is explained of each sample.
    classes
        Number of targets.
    skipped
        Samples that were skipped.
    block_size
        Largest number of samples in a forward pass; detectors take one at a time.

    Returns
    -------
    dict
        `samples`: their number; `arrived`: the part of the relevance that arrives at the input; `absorbed`: pairs of a
        module and the part that ends there, the largest first; `unaccounted`: what functions without a rule lose;
        `departure`: the first operation below which less than a tenth or more than three times of the relevance is
        left (`module`, `operation`, and the part `left`), or None. Parts are rounded to 6 places. Empty if no relevance
        starts.
    """
    indices = [index for index in range(min(len(reader), SAMPLES + len(skipped))) if index not in skipped][:SAMPLES]
    device = next(replica.model.parameters()).device
    ledgers = []
    for first in range(0, len(indices), block_size):
        block = indices[first : first + block_size]
        items = [reader[index] for index in block]
        data, labels = torch.stack([item[0] for item in items]).to(device), label_table([item[1] for item in items])
        with RelevanceFlow(replica, None, data) as flow, reader.naming():
            found = attribution_targets(targets, flow.prediction, labels, torch.tensor(block), classes)
            ledgers += [_ledger(flow, target) for target in found]
    ledger = combined(ledgers)
    if not ledger.started:
        return {}
    departure = ledger.departure()
    return {
        "samples": len(indices),
        "arrived": round(ledger.arrived / ledger.started, 6),
        "absorbed": [[name, round(part, 6)] for name, part in ledger.absorbers(MODULES, LEAST)],
        "unaccounted": round(ledger.unaccounted / ledger.started, 6),
        "departure": departure and {**asdict(departure), "left": round(departure.left, 6)},
    }


def _ledger(flow: RelevanceFlow, target: AttributionTarget) -> Ledger:
    started = target.relevance
    signs = started.flatten(1).sum(1).sign().view(-1, *[1] * (started.ndim - 1))
    return flow.ledger((started * signs)[None])
