"""Whether edges of the attribution graph are what happens: relevance between layers against measured changes.

For each pair of neighbouring layers, `crp.evaluate` removes lower concepts one by one, runs the part of the network
between the layers, and compares how much the upper concept falls with the edge: 5 upper concepts of each sample, 50
edges to lower concepts each. Samples with odd numbers, which chose no rule. `CPU` is the time of the edges of 4 samples
with 5 upper concepts each, divided by that of integrated gradients between the layers (20 passes). Made by

    python -m tests.evidence.edge_truth FOLDER_OF_REAL_DATA > docs/evidence/edges.md
"""

from __future__ import annotations

import time
from pathlib import Path

import torch

import crp
from crp.attribution import RelevanceFlow
from crp.evaluation.rankings import integrated_gradients
from tests.evidence.asked import networks_asked
from tests.evidence.ranking_truth import Subject, say, subjects

# Pairs of layers that are not neighbours in `subjects`.
_FURTHER = {"SqueezeNet 1.1": [("features.9", "features.12")]}
_RANKED = ("relevance", "gradient × part", "integrated gradients")


def cost(subject: Subject, lower: str, upper: str) -> float:
    """CPU time of the edges of 5 channels, divided by that of integrated gradients; the smallest of five tries."""
    data = subject.data[:4]
    replica = crp.prepared(subject.model, data=data[:1]).replica
    with RelevanceFlow(replica, None, data, [lower, upper]) as flow:
        relevance = flow.down(flow.output_relevance(flow.prediction.argmax(1)), to=upper)[0]
        masked = flow.parts(upper, crp.ChannelConcept()).carried(relevance, [[index] for index in range(5)])
        parts = flow.parts(lower, crp.ChannelConcept())
        between = crp.attribution.upper_part.UpperPart(subject.model, data, lower, upper)

        class Value:
            """One channel of the upper layer."""

            def __init__(self, index: int) -> None:
                self.index = index

            def relevance(self, prediction: torch.Tensor) -> torch.Tensor:
                return prediction[:, self.index]

        def ours() -> None:
            flow.down(masked, start=upper, to=lower)

        def theirs() -> None:
            for index in range(5):
                integrated_gradients(between, parts, Value(index))

        spent = []
        for run in (ours, theirs):
            times = []
            for _ in range(5):
                start = time.process_time()
                run()
                times.append(time.process_time() - start)
            spent.append(min(times))
    return spent[0] / spent[1]


def report(folder: Path, samples: int, only: str) -> None:
    """Write the table."""
    say(__doc__.split("Made by")[0])
    say("| network | from → to | samples | " + " | ".join(f"rho, {name}" for name in _RANKED) + " | sign | CPU |")
    say("| --- " * 8 + "|")
    for subject in subjects(folder, samples):
        if only not in subject.name:
            continue
        found = [
            finding
            for layers in (subject.layers, *_FURTHER.get(subject.name, ()))
            for finding in crp.evaluate(
                subject.model, subject.data[1::2], layers, measures=["edges"], progress=False
            ).findings
        ]
        for finding in found:
            cells = [finding.figure(name, "rank correlation") for name in _RANKED]
            texts = [f"{figure.mean:.2f} ± {figure.error:.2f}" for figure in cells]
            sign = finding.figure("relevance", "right sign").mean
            row = [subject.name, finding.place, str(cells[0].samples), *texts, f"{sign:.2f}"]
            say(f"| {' | '.join(row)} | {cost(subject, *finding.place.split(' → ')):.2f} |")


if __name__ == "__main__":
    chosen = networks_asked(samples=24)
    torch.set_num_threads(1)
    report(chosen.folder, chosen.samples, chosen.only)
