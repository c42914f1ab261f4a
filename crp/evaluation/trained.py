"""Whether a model looks trained at all: its predictions against those of copies with shuffled weights."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from crp.evaluation.evaluation import Figure, Finding
from crp.evaluation.passes import predictions, with_shuffled_weights
from crp.evaluation.subject import Subject
from crp.progress import progress_bar

# Copies, samples, and by how much a trained model exceeds the best copy. Fewer samples say too little.
_COPIES, _SAMPLES, _FACTOR, _LEAST = 19, 32, 1.5, 8
# Less information, in nats, is rounding.
_NOTHING = 1e-6

_MEANING = (
    "Explanations of an untrained network mean nothing, however good they look. The mutual information between sample "
    f"and predicted class (in nats, of the first {_SAMPLES} samples) is compared with that of {_COPIES} copies of the "
    "network, in which the entries of every weight tensor are shuffled. An untrained network is like its own copies; "
    f"a trained one has more than {_FACTOR} times the information of the best of them."
)


def measure_trained(subject: Subject) -> Iterator[Finding]:
    """Compare the information in predictions with that of copies whose weights are shuffled.

    Under the hypothesis that the weights of each tensor were drawn independently, model and copies are exchangeable:
    the model exceeds all 19 copies in 5 % of cases, and 1.5 times the best of them in fewer.
    """
    data = subject.everything[:_SAMPLES]
    own = predictions(subject.model.model, data)
    doubt = _doubt(subject, own)
    copies = range(0 if doubt else _COPIES)
    rows = {"this model": own}
    information = []
    with progress_bar("trained", len(copies), shown=subject.progress, unit="copy") as bar:
        for copy in copies:
            shuffled = with_shuffled_weights(subject.model.model, subject.seed + copy)
            information.append(predicted_information(predictions(shuffled, data)))
            bar.update()
    found = predicted_information(own) if not doubt else float("nan")
    best = max(information, default=float("nan"))
    rows = {"this model": found, "shuffled weights, mean": float(np.mean(information)) if information else best}
    rows["shuffled weights, best"] = best
    yield Finding(
        measure="trained",
        title="Is the network trained?",
        meaning=_MEANING,
        place="",
        verdict=_verdict(doubt, found, best),
        columns=("information",),
        rows={name: (Figure(value, float("nan"), len(data)),) for name, value in rows.items()},
    )


def looks_untrained(finding: Finding) -> bool:
    """Whether a finding of `measure_trained` says that the model looks like one with random weights."""
    own, best = (finding.figure(row, "information").mean for row in ("this model", "shuffled weights, best"))
    return own <= max(_FACTOR * best, _NOTHING)


def predicted_information(output: Tensor) -> float:
    r"""Compute the mutual information between sample and predicted class, :math:`H(\bar p) - \overline{H(p)}`, in nats.

    Parameters
    ----------
    output
        Logits `[N, classes]`; the samples are equally likely.
    """
    shares = output.double().softmax(1)
    return float(_entropy(shares.mean(0)) - _entropy(shares).mean())


def _entropy(shares: Tensor) -> Tensor:
    return torch.special.entr(shares).sum(-1)


def _doubt(subject: Subject, output: Tensor) -> str:
    """Say why nothing can be said, if so."""
    if output.ndim != 2 or output.shape[1] < 2:
        return "the output is not one of several classes"
    if len(subject.everything) < _LEAST:
        return f"{len(subject.everything)} samples are too few"
    if subject.labels is not None and len(set(subject.labels)) < 2:
        return "all samples have the same label"
    return ""


def _verdict(doubt: str, own: float, best: float) -> str:
    if doubt:
        return f"Cannot tell whether the network is trained: {doubt}."
    if own <= max(_FACTOR * best, _NOTHING):
        return (
            f"This network looks untrained: its predictions hold {own:.2g} nats of information about the samples, and "
            f"those of copies with shuffled weights up to {best:.2g}. A trained network holds more than {_FACTOR} "
            "times as much as its copies, unless the samples are all alike. Do not trust its explanations: they look "
            "like those of a random network."
        )
    return (
        f"The network is trained: its predictions hold {own:.2g} nats of information about the samples, and those of "
        f"copies with shuffled weights at most {best:.2g}."
    )
