"""Operators of torchvision in Python, for machines where its compiled part cannot be loaded."""

import contextlib
import sys
from collections.abc import Iterator

import pytest
import torch

OPERATORS = torch.library.Library("torchvision", "FRAGMENT")


def suppressed(boxes, scores, threshold):
    """The definition of box suppression, `torchvision.ops.nms`."""
    from torchvision.ops import box_iou

    kept, clear = [], box_iou(boxes, boxes) <= threshold
    for index in scores.argsort(descending=True).tolist():
        if bool(clear[index, kept].all()):
            kept.append(index)
    return torch.tensor(kept, dtype=torch.long)


@contextlib.contextmanager
def operators() -> Iterator[None]:
    """Give the operators an implementation, unless they have one."""
    from torchvision import extension

    if extension._has_ops():
        yield
        return
    module = sys.modules["torchvision.ops.roi_align"]
    if not hasattr(torch.ops.torchvision, "roi_align"):
        OPERATORS.define(
            "roi_align(Tensor input, Tensor rois, float spatial_scale, int pooled_height, int pooled_width, "
            "int sampling_ratio, bool aligned) -> Tensor"
        )
    OPERATORS.impl("roi_align", module._roi_align.__wrapped__, "CompositeImplicitAutograd")
    OPERATORS.impl("nms", suppressed, "CPU")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("torchvision.ops.roi_align", "torchvision.ops.boxes"):
            patch.setattr(sys.modules[name], "_assert_has_ops", lambda: None)
        patch.setattr(module, "_has_ops", lambda: True)
        yield
