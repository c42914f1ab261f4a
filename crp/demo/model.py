"""The trained demo networks and their weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

from safetensors.torch import load_file
from torch import nn

from crp.errors import InputError, nearest

from .cnn import build_cnn
from .networks import build_heartbeat, build_scan, build_spectrogram, build_waveform
from .object_net import ObjectSegmenter, build_detector
from .vit import DemoTransformer

NETWORKS: MappingProxyType[str, Callable[[], nn.Module]] = MappingProxyType(
    {
        "cnn": build_cnn,
        "vit": DemoTransformer,
        "segmenter": ObjectSegmenter,
        "detector": build_detector,
        "spectrogram": build_spectrogram,
        "waveform": build_waveform,
        "heartbeat": build_heartbeat,
        "scan": build_scan,
    }
)
# Networks with the same weights.
_WEIGHTS = {"segmenter": "objects", "detector": "objects", "waveform": "spectrogram"}


def weights_path(name: str) -> Path:
    """Return the file with the trained weights of a demo network."""
    return Path(__file__).with_name(f"{_WEIGHTS.get(name, name)}.safetensors")


def demo_model(name: str = "cnn") -> nn.Module:
    """Return a trained demo network in evaluation mode on the CPU, for inputs of `Scenes` or `ObjectScenes`.

    Parameters
    ----------
    name
        "cnn" for the convolutional network, "vit" for the vision transformer (`vit.DemoTransformer`); for scenes with
        several objects "segmenter" or "detector" (`object_net`); "spectrogram" and "waveform" for `Calls` and
        `Waveforms`, "heartbeat" for `Heartbeats`, "scan" for `Scans`.

    Raises
    ------
    InputError
        If there is no such network.
    """
    if name not in NETWORKS:
        raise InputError(f"There is no demo network {name!r}; {nearest(str(name), tuple(NETWORKS))}")
    model = NETWORKS[name]()
    if name == "waveform":
        # the transform has no trained weights
        model.net.load_state_dict(load_file(weights_path(name)))
        return model.eval()
    # the transformer's are stored in float16, and copied into float32
    model.load_state_dict(load_file(weights_path(name)))
    return model.eval()
