"""Networks of volumes, videos, EEG and sounds that nobody here wrote: a page, and a ledger that closes.

    python -m tests.evidence.foreign_inputs

Weights are random, because the check is of the arithmetic; batch norms are given the mean and variance of two inputs.
MONAI's networks need `pip install monai`, those of braindecode `pip install braindecode`. What is written are the parts
of the relevance that arrive at the input and that the ledger does not account for, functions without a rule, and the
size of the page.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

import crp
from crp.attribution import RelevanceFlow
from crp.attribution.starts import ClassInMask
from crp.media import Medium
from crp.mining import AttributionTarget
from crp.models import prepared
from crp.visualization import Atlas
from tests.evidence.foreign_objects import calibrate

CLASSES = 3


def video() -> nn.Module:
    """Return torchvision's 3-D ResNet for videos."""
    from torchvision.models.video import r3d_18

    return r3d_18(weights=None, num_classes=CLASSES)


def monai(name: str) -> nn.Module:
    """Return a network of MONAI for volumes."""
    from monai.networks import nets

    common = {"spatial_dims": 3, "in_channels": 1, "out_channels": CLASSES}
    unet = {"channels": (8, 16, 32), "strides": (2, 2), "num_res_units": 1} if name == "UNet" else {}
    return getattr(nets, name)(**common, **unet)


def braindecode(name: str) -> nn.Module:
    """Return a network of braindecode for 8 channels of EEG."""
    from braindecode import models

    more = {"sfreq": 128, "resampling_freq": 128} if name == "EEGSimpleConv" else {}
    return getattr(models, name)(n_chans=8, n_outputs=CLASSES, n_times=256, **more)


class SpectrogramNet(nn.Module):
    """Computes a log-magnitude spectrogram with `torch.stft`, and convolves it."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3), nn.ReLU())
        self.classifier = nn.Linear(16, CLASSES)
        self.register_buffer("window", torch.hann_window(64))

    def forward(self, samples: Tensor) -> Tensor:
        """Map samples `[N, 1, T]` to logits."""
        spectrum = torch.stft(samples[:, 0], 64, 16, window=self.window, return_complex=True)
        return self.classifier(self.features(spectrum.abs().log1p()[:, None]).mean((2, 3)))


EEG, SCAN = Medium.signal(128, channels=[f"C{number}" for number in range(8)], unit="µV"), Medium.volume()
MODELS: dict[str, tuple[Callable[[], nn.Module], Medium, tuple[int, ...], str]] = {
    "r3d_18": (video, Medium.video(8), (3, 8, 48, 48), "layer3"),
    "DenseNet121, 3-D (MONAI)": (lambda: monai("DenseNet121"), SCAN, (1, 32, 32, 32), "features.transition2"),
    "UNet, 3-D (MONAI)": (lambda: monai("UNet"), SCAN, (1, 32, 32, 32), "model.1.submodule.1"),
    "EEGNet (braindecode)": (lambda: braindecode("EEGNet"), EEG, (8, 256), "conv_separable_point"),
    "EEGSimpleConv, 1-D ResNet (braindecode)": (lambda: braindecode("EEGSimpleConv"), EEG, (8, 256), "blocks.1"),
    "torch.stft inside": (SpectrogramNet, Medium.audio(2000), (1, 2000), "features.3"),
}


def page_of(name: str, folder: Path) -> tuple[float, float, str, int]:
    """Explain one input with a model, in float64.

    Returns
    -------
    tuple of float, float, str and int
        The parts of the relevance that started which arrive at the input, and which are not accounted for; what is said
        of functions without a rule; the size of the page.
    """
    make, medium, shape, layer = MODELS[name]
    torch.manual_seed(0)
    model = make().double().eval()
    data = [torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double() for seed in range(2)]
    if not name.startswith("DenseNet"):  # its last maps have one place: as good as no variance
        calibrate(model, torch.stack(data))
    library = crp.mine(
        model, data, layers=[layer], path=folder / f"{len(name)}.crp", targets=_any, class_names=["thing"] * CLASSES,
        preprocessing=medium, block_size=1, patches=1, k=1, progress=False, overwrite=True,
    )  # fmt: skip
    with torch.no_grad():
        output = model(data[0][None])[0]
    start = int(output.argmax()) if output.ndim == 1 else ClassInMask(int(output.argmax(0).flatten().mode().values))
    ready = prepared(model, data=data[0][None], library=library)
    explanation = crp.explain(ready, data[0], library, target=start, graph=False, concepts=2, effects=False, patches=1)
    with RelevanceFlow(ready.replica, None, data[0][None]) as flow:
        started = flow.output_relevance([start] if isinstance(start, int) else start)
        ledger = flow.ledger(started)
        notes = " ".join(note for note in flow.notes if "rule" in note)
    total = float(started.abs().sum())
    return ledger.arrived / total, abs(ledger.unaccounted) / total, notes, len(Atlas(explanation).html())


def _any(prediction: Tensor, labels: Tensor) -> list[AttributionTarget]:
    """Start the whole output, so that any model can be mined in the same way."""
    return [AttributionTarget([0] * len(prediction), prediction)]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as work:
        for each in sys.argv[1:] or MODELS:
            begun = time.perf_counter()
            arrived, lost, notes, size = page_of(each, Path(work))
            seconds = time.perf_counter() - begun
            parts = f"arrives {arrived:8.1e}, not accounted for {lost:.1e}"
            sys.stdout.write(f"{each:<40} {parts}, page {size / 1e3:.0f} kB, {seconds:.0f} s {notes}\n")
            sys.stdout.flush()
