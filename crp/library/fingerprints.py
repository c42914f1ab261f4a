"""Which weights and which samples a library belongs to, as SHA-256 digests."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

# Enough to tell data sets apart, few enough to read again whenever a library is used with one.
SAMPLED = 64


def weights_fingerprint(model: nn.Module) -> str:
    """SHA-256 over the `state_dict`: names in sorted order, each with dtype, shape and bytes.

    Two models with this fingerprint compute the same, whatever the file their weights came from.
    """
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name}\n".encode())
        _update(digest, value)
    return digest.hexdigest()


def sample_digest(data: Tensor) -> str:
    """SHA-256 over dtype, shape and bytes of one sample."""
    digest = hashlib.sha256()
    _update(digest, data)
    return digest.hexdigest()


def sampled_indices(length: int) -> list[int]:
    """Up to 64 evenly spaced indices, the first and the last among them, in increasing order."""
    count = min(SAMPLED, length)
    return [index * (length - 1) // max(count - 1, 1) for index in range(count)]


def data_fingerprint(length: int, digests: Mapping[int, str]) -> str:
    """SHA-256 over the length of the data set and the digests of its `sampled_indices`."""
    lines = [f"{length}", *(f"{index} {digest}" for index, digest in sorted(digests.items()))]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _update(digest: hashlib._Hash, value: Tensor) -> None:
    import torch  # whoever holds a tensor has loaded it; opening a library does without

    digest.update(f"{value.dtype} {list(value.shape)}\n".encode())
    digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
