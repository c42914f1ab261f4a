"""Architectures of torchvision, small members: the model's own output, and every part of the relevance accounted for.

`python -m benchmarks.models` does the same for published networks.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from benchmarks.models import Result, measure, randomized  # imports crp.attribution, which must precede torchvision

torchvision = pytest.importorskip("torchvision")
models = torchvision.models

# squeeze-and-excitation and hard gates; shifted windows and a padded map; a class token; channels split and shuffled
BUILDERS: dict[str, Callable[[], nn.Module]] = {
    "mobilenet_v3_small": lambda: models.mobilenet_v3_small(num_classes=10, width_mult=0.5),
    "swin": lambda: models.SwinTransformer([4, 4], 16, [1, 2], [2, 4], [3, 3], num_classes=10),
    "vit": lambda: models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=10),
    "shufflenet_v2": lambda: models.ShuffleNetV2([2, 2, 2], [8, 16, 32, 64, 64], num_classes=10),
}


@pytest.mark.parametrize("name", BUILDERS)
def test_outputs_are_equal_and_the_ledger_closes(name: str) -> None:
    torch.manual_seed(0)
    data = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    found = Result("torchvision", name)
    measure(randomized(BUILDERS[name]().double(), data), data, found)
    assert found.notes == ()
    assert found.output < 1e-12
    assert found.closing < 1e-9


def test_a_network_that_does_not_close_is_seen() -> None:
    class Products(nn.Module):
        def forward(self, data: torch.Tensor) -> torch.Tensor:
            return torch.cumprod(data, 1)  # its gradient does not conserve relevance, and it has no rule

    torch.manual_seed(0)
    data = torch.randn(1, 4, dtype=torch.float64)
    found = Result("", "products")
    measure(nn.Sequential(nn.Linear(4, 4), Products(), nn.Linear(4, 3)).double(), data, found)
    assert found.output < 1e-12
    assert found.closing > 1e-3
    assert not found.closes
    assert len(found.notes) == 1
