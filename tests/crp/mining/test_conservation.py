"""Where the relevance of the first samples goes: by hand, with skipped samples, in words."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import crp
from crp.library.summary import described_in_words
from crp.mining import mine

# The first output is x + y + 1 (the second is 0): the bias holds 1 of 4, and 1 of -4.
SAMPLES = [(1.0, 2.0), (-3.0, -2.0), (3.0, 0.0), (2.0, 1.0)]


def model() -> nn.Module:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0, 1.0], [0.0, 0.0]]))
        net[0].bias.copy_(torch.tensor([1.0, 0.0]))
        net[1].weight.copy_(torch.eye(2))
    return net.double()


def mined(path: Path, samples: list[tuple[float, float]], **options: object) -> crp.Library:
    data = [(torch.tensor(sample, dtype=torch.float64), 0) for sample in samples]
    return mine(model(), data, layers=["0"], path=path, patches=0, k=1, progress=False, **options)


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([SAMPLES[0], SAMPLES[2]], (0.75, [["0", 0.25]])),
        ([SAMPLES[1]], (1.25, [["0", -0.25]])),
        # sizes add up, whatever the sign: (3 + 5) / 8 and (1 - 1) / 8
        (SAMPLES[:2], (1.0, [])),
        ([SAMPLES[0]] * 8 + [SAMPLES[1]] * 5, (0.75, [["0", 0.25]])),
    ],
    ids=["positive", "negative", "both", "the first eight"],
)
def test_by_hand(tmp_path: Path, samples: list, expected: tuple) -> None:
    found = mined(tmp_path / "library", samples).manifest["conservation"]
    assert found["samples"] == min(len(samples), 8)
    assert found["arrived"] == pytest.approx(expected[0], abs=1e-6)
    assert [name for name, _ in found["absorbed"]] == [name for name, _ in expected[1]]
    assert [part for _, part in found["absorbed"]] == pytest.approx([part for _, part in expected[1]], abs=1e-6)
    assert found["unaccounted"] == 0


def test_in_words(tmp_path: Path) -> None:
    library = mined(tmp_path / "library", [SAMPLES[0], SAMPLES[3]])
    assert (
        "conserved   75 % of the relevance that starts arrives at the input; constants such as biases absorb the rest "
        "(0 25 %); measured on 2 samples\n"
    ) in described_in_words(library)


def test_more_in_words(tmp_path: Path) -> None:
    assert (
        "conserved   125 % of the relevance that starts arrives at the input; constants such as biases have added "
        "to it (0 25 %); measured on 1 sample\n"
    ) in described_in_words(mined(tmp_path / "library", [SAMPLES[1]]))


def test_skipped_samples_do_not_count(tmp_path: Path) -> None:
    class Reading(list):
        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            if index == 1:
                raise OSError("broken")
            return torch.tensor(super().__getitem__(index), dtype=torch.float64), 0

    library = mine(
        model(), Reading(SAMPLES[:3]), layers=["0"], path=tmp_path / "library", patches=0, k=1, progress=False,
        skip_bad=True,
    )  # fmt: skip
    assert library.manifest["conservation"]["samples"] == 2
    assert library.manifest["conservation"]["arrived"] == pytest.approx(0.75, abs=1e-6)


def test_no_relevance_starts(tmp_path: Path) -> None:
    library = mined(tmp_path / "library", [(1.0, -2.0)])
    assert library.manifest["conservation"] == {}
    assert "conserved   not measured" in described_in_words(library)
