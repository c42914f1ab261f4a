"""The kinds of input of `crp demo`: a row for each.

To add one, write a module with three functions and a row of `KINDS`:

==============================  =====================================================================================
`data(network, samples)`        the labelled data set to mine, with `class_names` and `preprocessing`, and `targets` if
                                labels are not classes (`crp.mining.ObjectSamples`)
`example(folder)`               writes the input that is explained into a folder, and returns an `Example`
`story(model, explanation)`     sentences that compare the explanation with the known truth
==============================  =====================================================================================

The networks of a row are names for `crp.demo.demo_model`. Nothing is imported before a kind is chosen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType, ModuleType

DEMO_SAMPLES = 1000  # that `crp demo` mines


@dataclass(frozen=True)
class DemoKind:
    """One kind of input.

    Attributes
    ----------
    word
        What one input is called.
    networks
        The layers that are mined, by name of the network; the first one is the default.
    home
        The module with `data`, `example` and `story`.
    """

    word: str
    networks: Mapping[str, Sequence[str]]
    home: str

    @property
    def network(self) -> str:
        """The default network."""
        return next(iter(self.networks))

    @property
    def functions(self) -> ModuleType:
        """The module with `data`, `example` and `story`."""
        return import_module(self.home)


KINDS: Mapping[str, DemoKind] = MappingProxyType(
    {
        "scenes": DemoKind(
            "Scene", {"cnn": ("conv4", "conv5"), "vit": ("blocks.1", "blocks.2")}, "crp.demo.scenes_demo"
        ),
        "audio": DemoKind(
            "Call", {"spectrogram": ("conv3", "conv4"), "waveform": ("net.conv3", "net.conv4")}, "crp.demo.calls_demo"
        ),
        "signal": DemoKind("Heartbeat", {"heartbeat": ("conv3", "conv4")}, "crp.demo.heartbeats_demo"),
        "volume": DemoKind("Scan", {"scan": ("conv2", "conv3")}, "crp.demo.scans_demo"),
        "objects": DemoKind("Scene", {"segmenter": ("features.conv5", "features.conv6")}, "crp.demo.objects_demo"),
    }
)
KIND_OF: Mapping[str, DemoKind] = MappingProxyType({name: kind for kind in KINDS.values() for name in kind.networks})
