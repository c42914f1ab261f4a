"""Small networks for sounds, signals and volumes: convolutions with ReLU and max pooling, a hidden layer, logits.

The last convolution is followed by its largest value everywhere, so that a class can depend on one place.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise

from torch import nn

from .calls import STFT

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_POOLINGS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_LARGEST = (nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d)
CLASSES = 3


def _network(axes: int, channels: tuple[int, ...], kernel: int, poolings: tuple[int, ...]) -> nn.Sequential:
    """Build `conv1`, `relu1`, `pool1` ... with `poolings[i]` below 2 for no pooling after convolution i."""
    convolution, pooling, largest = (kind[axes - 1] for kind in (_CONVOLUTIONS, _POOLINGS, _LARGEST))
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    for number, ((below, above), pooled) in enumerate(zip(pairwise(channels), poolings, strict=True), start=1):
        modules[f"conv{number}"] = convolution(below, above, kernel, padding=kernel // 2)
        modules[f"relu{number}"] = nn.ReLU()
        if pooled > 1:
            modules[f"pool{number}"] = pooling(pooled)
    modules["largest"] = largest(1)
    modules["flatten"] = nn.Flatten()
    modules["hidden"] = nn.Linear(channels[-1], 24)
    modules["relu"] = nn.ReLU()
    modules["logits"] = nn.Linear(24, CLASSES)
    return nn.Sequential(modules)


def build_spectrogram() -> nn.Sequential:
    """Build the network for `Calls`: `[N, 1, 64, 122]` -> logits `[N, 3]`."""
    return _network(2, (1, 8, 12, 16, 16), 3, (2, 1, 2, 1))


def build_waveform() -> nn.Sequential:
    """Build the network for `Waveforms`: the transform as a convolution, then the network for `Calls`."""
    return nn.Sequential(OrderedDict(stft=STFT.layer(), net=build_spectrogram()))


def build_heartbeat() -> nn.Sequential:
    """Build the network for `Heartbeats`: `[N, 3, 600]` -> logits `[N, 3]`."""
    return _network(1, (3, 12, 16, 20, 20), 5, (2, 1, 1, 1))


def build_scan() -> nn.Sequential:
    """Build the network for `Scans`: `[N, 1, 24, 32, 32]` -> logits `[N, 3]`."""
    return _network(3, (1, 6, 10, 10), 3, (2, 1, 1))
