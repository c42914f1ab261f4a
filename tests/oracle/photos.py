"""Real pictures as the real networks take them, preprocessed here by hand, independently of `crp.preprocessing`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
DEVIATION = torch.tensor([0.229, 0.224, 0.225])[:, None, None]


def cifar10(folder: Path, count: int) -> tuple[Tensor, Tensor]:
    """The first `count` test images, normalised `[count, 3, 32, 32]`, and their labels."""
    with np.load(folder / "cifar10_test.npz") as stored:
        images, labels = stored["images"][:count], stored["labels"][:count]
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    return (pixels - MEAN) / DEVIATION, torch.from_numpy(labels)


def photo(path: Path) -> Image.Image:
    """The 224 x 224 centre crop of a photo."""
    with Image.open(path) as image:
        # halves are rounded to the even pixel, as torchvision's CenterCrop does
        left, top = round((image.width - 224) / 2), round((image.height - 224) / 2)
        return image.convert("RGB").crop((left, top, left + 224, top + 224))


def for_squeezenet(path: Path) -> Tensor:
    """`[3, 224, 224]`, normalised as torchvision's networks take it."""
    return (torch.from_numpy(np.array(photo(path))).permute(2, 0, 1) / 255 - MEAN) / DEVIATION


def for_mobilenet(path: Path) -> Tensor:
    """`[3, 128, 128]` within -1 and 1."""
    pixels = np.array(photo(path).resize((128, 128), Image.Resampling.BILINEAR), np.float32)
    return torch.from_numpy((pixels - 128) / 128).permute(2, 0, 1)


def samples(folder: Path) -> list[dict]:
    """The index of `imagenet_samples`: dicts with `file` and `class_index`."""
    return json.loads((folder / "imagenet_samples" / "index.json").read_text())
