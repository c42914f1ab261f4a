"""A model in bfloat16 is mined, opened again and explained, nearly as the same model in float32."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import crp
from crp.concepts import ChannelConcept, Directions, NonNegative, PositionConcept
from crp.visualization import Atlas

DATA = torch.rand(12, 3, 16, 16, generator=torch.Generator().manual_seed(1)).bfloat16()


class Convolutional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2))
        self.block, self.head = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()), nn.Linear(8, 3)

    def forward(self, data: torch.Tensor) -> torch.Tensor:
        return self.head(self.block(self.stem(data)).mean((2, 3)))


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 3)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu", norm_first=True)

    def forward(self, data: torch.Tensor) -> torch.Tensor:
        return self.head(self.block(self.stem(data).flatten(2).mT).mean(1))


KINDS = {
    "channels": ChannelConcept(),
    "positions": PositionConcept(),
    "directions": Directions(torch.eye(8)[:3] + 0.1),
    "factors": Directions(torch.eye(8)[:3] + 0.1, NonNegative()),
}


@pytest.mark.parametrize("concept", KINDS)
@pytest.mark.parametrize("kind", [Convolutional, Transformer])
def test_mined_opened_and_explained(kind, concept, tmp_path):
    shares, outputs, maps = {}, {}, {}
    for dtype in (torch.float32, torch.bfloat16):
        torch.manual_seed(0)
        model = kind().bfloat16().to(dtype).eval()  # of the same weights
        path, given = tmp_path / f"{dtype}.crp", {"concept": KINDS[concept]}
        crp.mine(model, TensorDataset(DATA.to(dtype), torch.arange(12) % 3), layers=["stem", "block"], path=path, k=4,
                 patches=2, progress=False, **given)  # fmt: skip
        library = crp.open_library(path)
        found = crp.explain(model, DATA[0].to(dtype), library, **given)
        assert crp.verify(library, model, TensorDataset(DATA.to(dtype), torch.arange(12) % 3), **given).wrong == []
        Atlas(found).save(tmp_path / f"{dtype}.html")
        Atlas(found).save(tmp_path / f"{dtype}.json")
        shares[dtype] = [{each.concept: each.share for each in layer.supporting} for layer in found.layers]
        outputs[dtype], maps[dtype] = found.best.logit, found.heatmap
    assert outputs[torch.bfloat16] == pytest.approx(outputs[torch.float32], abs=0.02)
    for exact, coarse in zip(*shares.values(), strict=True):
        both = exact.keys() & coarse.keys()
        assert 2 * len(both) >= len(exact)
        for index in both:
            assert coarse[index] == pytest.approx(exact[index], abs=0.02)
    assert np.corrcoef(maps[torch.float32].ravel(), maps[torch.bfloat16].ravel())[0, 1] > 0.99
