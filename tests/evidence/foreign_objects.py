"""Segmentations and detectors that nobody here wrote: a page of one object, and a ledger that closes.

    python -m tests.evidence.foreign_objects

Weights are random, because the check is of the arithmetic. Batch norms are given the mean and variance of one picture,
so that activations neither vanish nor explode on their way. The U-Net needs `pip install segmentation-models-pytorch`.
What is written are the parts of the relevance that arrive at the input and that the ledger does not account for, and
the size of the page.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

import crp
from crp.attribution import RelevanceFlow
from crp.attribution.detectors import box_logits, detect
from crp.attribution.starts import ClassInMask
from crp.mining import AttributionTarget
from crp.models import prepared
from crp.visualization import Atlas
from tests.torchvision_operators import operators

SIDE = 96
CLASSES = 5


def segmentation(name: str) -> nn.Module:
    """Return a segmentation of torchvision."""
    from torchvision.models import segmentation as models

    return crp.select_output(models.__dict__[name](weights=None, weights_backbone=None, num_classes=CLASSES), "out")


def unet() -> nn.Module:
    """Return a U-Net of segmentation-models-pytorch."""
    import segmentation_models_pytorch

    return segmentation_models_pytorch.Unet("resnet18", encoder_weights=None, classes=CLASSES)


def detection(name: str) -> nn.Module:
    """Return a detector of torchvision that finds a few boxes."""
    from torchvision.models import detection as models

    small = {} if name.startswith("ssd") else {"min_size": SIDE, "max_size": SIDE}
    few = "box_score_thresh" if "rcnn" in name else "score_thresh"
    most = "box_detections_per_img" if "rcnn" in name else "detections_per_img"
    options = {few: 0.0, most: 3, **small}
    return models.__dict__[name](weights=None, weights_backbone=None, num_classes=CLASSES, **options)


MODELS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "deeplabv3_mobilenet_v3_large": (lambda: segmentation("deeplabv3_mobilenet_v3_large"), "backbone.16"),
    "deeplabv3_resnet50": (lambda: segmentation("deeplabv3_resnet50"), "backbone.layer4"),
    "lraspp_mobilenet_v3_large": (lambda: segmentation("lraspp_mobilenet_v3_large"), "backbone.16"),
    "fcn_resnet50": (lambda: segmentation("fcn_resnet50"), "backbone.layer4"),
    "U-Net, resnet18 (smp)": (unet, "encoder.layer4"),
    "fasterrcnn_mobilenet_v3_large_320_fpn": (
        lambda: detection("fasterrcnn_mobilenet_v3_large_320_fpn"), "backbone.body.16",
    ),
    "fasterrcnn_resnet50_fpn": (lambda: detection("fasterrcnn_resnet50_fpn"), "backbone.body.layer4"),
    "retinanet_resnet50_fpn": (lambda: detection("retinanet_resnet50_fpn"), "backbone.body.layer4"),
    "fcos_resnet50_fpn": (lambda: detection("fcos_resnet50_fpn"), "backbone.body.layer4"),
    "ssdlite320_mobilenet_v3_large": (lambda: detection("ssdlite320_mobilenet_v3_large"), "backbone.features.1"),
}  # fmt: skip


def page_of(name: str, folder: Path) -> tuple[float, float, int]:
    """Explain one object with a model, in float64.

    Returns
    -------
    tuple of float, float and int
        The parts of the relevance that started which arrive at the input, and which are not accounted for; the size of
        the page.
    """
    make, layer = MODELS[name]
    torch.manual_seed(0)
    model = make().double().eval()
    data = [torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)).double() for seed in range(2)]
    calibrate(model, data[0][None])
    detects = _is_detector(model)
    mined = box_logits(model) if detects else model
    library = crp.mine(
        mined, data, layers=[layer], path=folder / f"{len(name)}.crp", targets=_any, class_names=["thing"] * CLASSES,
        block_size=1, patches=0, k=1, progress=False, overwrite=True,
    )  # fmt: skip
    if detects:
        found = detect(model, data[0])
        model, start = found.model, found.boxes[0].start
    else:
        with torch.no_grad():
            predicted = int(model(data[0][None])[0].argmax(0).flatten().mode().values)
        start = ClassInMask(predicted)
    ready = prepared(model, data=data[0][None], library=library)
    explanation = crp.explain(ready, data[0], library, target=start, graph=False, concepts=2, cells=2, effects=False)
    assert explanation.place is not None
    with RelevanceFlow(ready.replica, None, data[0][None]) as flow:
        started = flow.output_relevance(start)
        ledger = flow.ledger(started)
    total = float(started.abs().sum())
    return ledger.arrived / total, abs(ledger.unaccounted) / total, len(Atlas(explanation).html())


def calibrate(model: nn.Module, data: torch.Tensor) -> None:
    """Give every batch norm the mean and variance of its input in one pass."""

    def measure(module: nn.Module, given: tuple[torch.Tensor]) -> None:
        others = [0, *range(2, given[0].ndim)]
        module.running_mean.copy_(given[0].mean(others))
        module.running_var.copy_(given[0].var(others, unbiased=False) + 1e-3)

    norms = [module for module in model.modules() if getattr(module, "running_var", None) is not None]
    hooks = [module.register_forward_pre_hook(measure) for module in norms]
    with torch.no_grad():
        model(data)
    for hook in hooks:
        hook.remove()


def _any(prediction: torch.Tensor, labels: torch.Tensor) -> list[AttributionTarget]:
    """Start the whole output, so that any model can be mined in the same way."""
    return [AttributionTarget([0] * len(prediction), prediction)]


def _is_detector(model: nn.Module) -> bool:
    from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

    return isinstance(model, GeneralizedRCNN) or hasattr(model, "anchor_generator")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as work, operators():
        for each in sys.argv[1:] or MODELS:
            begun = time.perf_counter()
            arrived, lost, size = page_of(each, Path(work))
            seconds = time.perf_counter() - begun
            parts = f"arrives {arrived:8.1e}, not accounted for {lost:.1e}"
            sys.stdout.write(f"{each:<38} {parts}, page {size / 1e3:.0f} kB, {seconds:.0f} s\n")
            sys.stdout.flush()
