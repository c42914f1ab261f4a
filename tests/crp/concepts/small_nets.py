"""Small networks in float64 for the contract of concept kinds: layers `low` and `high` have equal shapes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Convolutions(nn.Module):
    """Layers `[N, 5, 4, 4]`."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.low = nn.Conv2d(3, 5, 3, stride=2, padding=1), nn.ReLU()
        self.second, self.high = nn.Conv2d(5, 5, 3, padding=1), nn.ReLU()
        self.head = nn.Linear(5, 3)

    def forward(self, data: Tensor) -> Tensor:
        return self.head(self.high(self.second(self.low(self.first(data)))).mean((2, 3)))


class ChannelsLast(nn.Module):
    """Layers `[N, 2, 4, 5]`: a grid of 2 x 4 positions with 5 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.low = nn.Conv2d(3, 5, (4, 2), stride=(4, 2)), nn.LayerNorm(5)
        self.second, self.high = nn.Linear(5, 5), nn.ReLU()
        self.head = nn.Linear(5, 3)

    def forward(self, data: Tensor) -> Tensor:
        found = self.low(self.first(data).permute(0, 2, 3, 1))
        return self.head((found + self.high(self.second(found))).mean((1, 2)))


class Attention(nn.Module):
    """Self-attention with two heads."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        batch, count, width = tokens.shape
        query, key, value = self.qkv(tokens).reshape(batch, count, 3, 2, width // 2).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(1, 2).reshape(batch, count, width))


class Transformer(nn.Module):
    """Layers `[N, 5, 6]`: a class token in front of a grid of 2 x 2."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.token = nn.Conv2d(3, 6, 4, stride=4), nn.Parameter(torch.randn(1, 1, 6))
        self.norm, self.attention, self.low = nn.LayerNorm(6), Attention(6), nn.Identity()
        self.mlp, self.high = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 6)), nn.Identity()
        self.head = nn.Linear(6, 3)

    def forward(self, data: Tensor) -> Tensor:
        tokens = self.embed(data).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(data), -1, -1), tokens], 1)
        tokens = self.low(tokens + self.attention(self.norm(tokens)))
        return self.head(self.high(tokens + self.mlp(tokens)).mean(1))


def made(kind: type[nn.Module]) -> nn.Module:
    """Make a network, always with the same weights."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(3)
        return kind().double().eval()


def data(count: int) -> Tensor:
    """Return the first samples of an endless data set, `[count, 3, 8, 8]`."""
    seeded = (torch.Generator().manual_seed(number) for number in range(count))
    return torch.stack([torch.randn(3, 8, 8, generator=generator).double() for generator in seeded])
