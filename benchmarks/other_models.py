"""Networks that are no image classifiers of torchvision or timm: segmentation, detection, video, volumes, transformers.

Each builder returns a network with random weights and the shape of its input.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from crp.attribution import select_output

Built = tuple[nn.Module, tuple[int, ...]]


def _segmentation(name: str) -> Built:
    models = importlib.import_module("torchvision").models
    model = models.get_model(name, weights=None, weights_backbone=None, num_classes=5)
    return select_output(model, "out"), (3, 64, 64)


def _video(name: str, shape: tuple[int, ...]) -> Built:
    models = importlib.import_module("torchvision").models
    return models.get_model(name, weights=None, num_classes=10), shape


def _unet_2d() -> Built:
    package = importlib.import_module("segmentation_models_pytorch")
    return package.Unet("resnet18", encoder_weights=None, classes=3), (3, 64, 64)


def _unet_3d() -> Built:
    nets = importlib.import_module("monai.networks.nets")
    return nets.UNet(3, 1, 3, (8, 16, 32), (2, 2), num_res_units=2), (1, 32, 32, 32)


def _densenet_3d() -> Built:
    return importlib.import_module("monai.networks.nets").DenseNet121(3, 1, 4), (1, 32, 32, 32)


def _scores(output: Any) -> Tensor:
    """Return the scores of the classes, `[N, classes, anchors]`, of a detector that gives boxes and scores."""
    return output[0][:, 4:]


def _yolo() -> Built:
    tasks = importlib.import_module("ultralytics.nn.tasks")
    return select_output(tasks.DetectionModel("yolov8n.yaml", verbose=False), _scores), (3, 64, 64)


def _transformers(family: str, shape: tuple[int, ...], **options: Any) -> Built:
    package = importlib.import_module("transformers")
    config = getattr(package, f"{family}Config")(**options, num_labels=10)
    return select_output(getattr(package, f"{family}ForImageClassification")(config), "logits"), shape


_SMALL: dict[str, Any] = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}

# (package, name) -> builder
BUILDERS: dict[tuple[str, str], Callable[[], Built]] = {
    ("torchvision", "fcn_resnet50"): lambda: _segmentation("fcn_resnet50"),
    ("torchvision", "fcn_resnet101"): lambda: _segmentation("fcn_resnet101"),
    ("torchvision", "deeplabv3_resnet50"): lambda: _segmentation("deeplabv3_resnet50"),
    ("torchvision", "deeplabv3_resnet101"): lambda: _segmentation("deeplabv3_resnet101"),
    ("torchvision", "deeplabv3_mobilenet_v3_large"): lambda: _segmentation("deeplabv3_mobilenet_v3_large"),
    ("torchvision", "lraspp_mobilenet_v3_large"): lambda: _segmentation("lraspp_mobilenet_v3_large"),
    ("torchvision", "r3d_18"): lambda: _video("r3d_18", (3, 8, 32, 32)),
    ("torchvision", "mc3_18"): lambda: _video("mc3_18", (3, 8, 32, 32)),
    ("torchvision", "r2plus1d_18"): lambda: _video("r2plus1d_18", (3, 8, 32, 32)),
    ("torchvision", "s3d"): lambda: _video("s3d", (3, 16, 224, 224)),
    ("torchvision", "swin3d_t"): lambda: _video("swin3d_t", (3, 4, 64, 64)),
    ("segmentation_models_pytorch", "Unet"): _unet_2d,
    ("monai", "UNet"): _unet_3d,
    ("monai", "DenseNet121"): _densenet_3d,
    ("ultralytics", "yolov8n"): _yolo,
    ("transformers", "ViT"): lambda: _transformers("ViT", (3, 64, 64), image_size=64, **_SMALL),
    ("transformers", "Dinov2"): lambda: _transformers("Dinov2", (3, 56, 56), image_size=56, **_SMALL),
    ("transformers", "ConvNext"): lambda: _transformers(
        "ConvNext", (3, 64, 64), hidden_sizes=[16, 32, 64, 128], depths=[1, 1, 3, 1]
    ),
    ("transformers", "Swin"): lambda: _transformers(
        "Swin", (3, 64, 64), image_size=64, embed_dim=32, depths=[2, 2], num_heads=[2, 4], window_size=4
    ),
}
