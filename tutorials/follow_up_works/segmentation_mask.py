"""Relevance that starts from a segmentation mask, as in L-CRP: an explanation for each instance.

A segmentation net returns `[N, classes, H, W]`. The thing to explain is not a class of the whole picture but one
detected object, so relevance starts from the logits of its class inside its mask. The method to override is
`relevance_init`.

    python segmentation_mask.py
"""

import torch
from torch import nn

# crp first: it makes zennit importable with a CPU build of torch (docs/install.md)
# isort: off
from crp.attribution import CondAttribution
from crp.concepts import ChannelConcept
from zennit.composites import EpsilonPlus


class SegmentationAttribution(CondAttribution):
    """`init_rel` is a mask `[H, W]`: 1 where the instance is. "y" names its class, as usual."""

    def relevance_init(self, prediction, target_list, init_rel):
        """Start with the logits inside the mask."""
        return super().relevance_init(prediction, target_list, lambda logits: logits * init_rel)


def stripes_net():
    """Make a net that segments vertical (0) and horizontal (1) bars: `[N, 1, H, W]` -> `[N, 2, H, W]`."""
    edges = nn.Conv2d(1, 2, 3, padding=1, bias=False)
    across = torch.tensor([[-1.0, 2.0, -1.0]] * 3)
    edges.weight = nn.Parameter(torch.stack([across, across.T])[:, None])
    classes = nn.Conv2d(2, 2, 1, bias=False)
    classes.weight = nn.Parameter(torch.tensor([[1.0, -0.5], [-0.5, 1.0]])[..., None, None])
    return nn.Sequential(edges, nn.ReLU(), classes).eval()


def bars():
    """Draw two vertical bars and a horizontal one, `[1, 1, 12, 12]`."""
    picture = torch.zeros(1, 1, 12, 12)
    picture[..., 1:6, 2] = picture[..., 1:6, 8] = picture[..., 9, 2:10] = 1
    return picture


def main():
    """Explain the two vertical bars separately; return their heatmaps and the shares of the channels."""
    model, data = stripes_net(), bars().requires_grad_()
    found = model(data).argmax(1)[0].eq(0) & model(data).amax(1)[0].gt(0)
    left, right = found.clone(), found.clone()
    left[:, 6:] = right[:, :6] = False
    attribution = SegmentationAttribution(model)
    results = {}
    for name, mask in {"left": left, "right": right}.items():
        attr = attribution(data, [{"y": [0]}], EpsilonPlus(), record_layer=["0"], init_rel=mask)
        shares = ChannelConcept().attribute(attr.relevances["0"])[0]
        results[name] = attr.heatmap[0], shares
        inside = float(attr.heatmap[0][:, :6].sum() / attr.heatmap.sum())
        print(f"{name} bar: {100 * inside:.0f} % of its relevance in the left half, channels {shares.tolist()}")
    return results


if __name__ == "__main__":
    main()
