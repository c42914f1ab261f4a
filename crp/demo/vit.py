"""A small vision transformer for the scenes.

Pre-norm, with a class token, learned positions and GELU; its modules have the names of timm's `VisionTransformer`. A
scene is cut into patches of 12 pixels, an 8 x 8 grid of tokens; the tag, 18 pixels wide, covers up to nine of them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from .drawing import CLASSES, SIZE

PATCH = 12
DIM = 64
DEPTH = 4
HEADS = 4
HIDDEN = 192


class Attention(nn.Module):
    """Self-attention; the input of `proj` is the outputs of the heads, side by side, `DIM // HEADS` values each."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(DIM, 3 * DIM)
        self.proj = nn.Linear(DIM, DIM)

    def forward(self, tokens: Tensor) -> Tensor:
        """Mix tokens, `[N, T, D]` -> `[N, T, D]`."""
        query, key, value = self.qkv(tokens).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two linear layers with GELU in between, applied to each token."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(DIM, HIDDEN)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(HIDDEN, DIM)

    def forward(self, tokens: Tensor) -> Tensor:
        """Transform each token, `[N, T, D]` -> `[N, T, D]`."""
        return self.fc2(self.act(self.fc1(tokens)))


class Block(nn.Module):
    """Attention and MLP, each on normalised tokens and added to them."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(DIM)
        self.attn = Attention()
        self.norm2 = nn.LayerNorm(DIM)
        self.mlp = Mlp()

    def forward(self, tokens: Tensor) -> Tensor:
        """Transform tokens, `[N, T, D]` -> `[N, T, D]`."""
        tokens = tokens + self.attn(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))


class DemoTransformer(nn.Module):
    """The demo vision transformer with random weights: `[N, 3, 96, 96]` -> logits `[N, 10]`.

    The outputs of its blocks (`blocks.0`, ...) are tokens `[N, 65, 64]`; the first is the class token, the others are
    the patches, row by row.
    """

    def __init__(self) -> None:
        super().__init__()
        grid = SIZE // PATCH
        self.patch_embed = nn.Conv2d(3, DIM, PATCH, stride=PATCH)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, DIM))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + grid * grid, DIM))
        self.blocks = nn.Sequential(*(Block() for _ in range(DEPTH)))
        self.norm = nn.LayerNorm(DIM)
        self.head = nn.Linear(DIM, len(CLASSES))

    def forward(self, inputs: Tensor) -> Tensor:
        """Classify scenes, `[N, 3, 96, 96]` -> logits `[N, 10]`."""
        return self.head(self.tokens(inputs)[:, 0])

    def tokens(self, inputs: Tensor) -> Tensor:
        """Compute the tokens that the classifier reads the first of, `[N, 3, 96, 96]` -> `[N, 65, 64]`."""
        patches = self.patch_embed(inputs).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1) + self.pos_embed
        return self.norm(self.blocks(tokens))
