"""A custom canonizer for a block that no existing canonizer handles.

The gate of a squeeze-and-excitation block multiplies channels by factors computed from the same input. LRP has no rule
for such a product; the usual solution (PCX, for EfficientNet) is to treat the gate as a constant factor.
The canonizer replaces the block's `forward` during the attribution.

    python own_canonizer.py
"""

import torch
from torch import nn

# crp first: it makes zennit importable with a CPU build of torch (docs/install.md)
# isort: off
from crp.attribution import CondAttribution
from zennit.canonizers import AttributeCanonizer
from zennit.composites import EpsilonPlus


class Gated(nn.Module):
    """Channels weighted by a gate that depends on all of them."""

    def __init__(self, channels):
        super().__init__()
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, channels, 1), nn.Sigmoid())

    def forward(self, data):
        """Weight the channels of `[N, C, H, W]`."""
        return data * self.gate(data)


class GateCanonizer(AttributeCanonizer):
    """Treats the gate as a constant."""

    def __init__(self):
        super().__init__(self._attributes)

    @staticmethod
    def _attributes(name, module):
        return {"forward": passing.__get__(module)} if isinstance(module, Gated) else None


def passing(block, data):
    """Run the block with a constant gate; replaces `forward` during the attribution."""
    return Weigh.apply(data, block.gate(data).detach())


class Weigh(torch.autograd.Function):
    """A product that passes all of its relevance to the first factor."""

    generate_vmap_rule = True  # several conditions are propagated at once

    @staticmethod
    def forward(data, gate):
        """Multiply."""
        return data * gate

    @staticmethod
    def setup_context(ctx, inputs, output):
        """Store nothing: the backward pass needs no tensors."""

    @staticmethod
    def backward(ctx, relevance):
        """Pass relevance to the data, none to the gate."""
        return relevance, None


def net():
    """Make a small gated net: `[N, 1, 8, 8]` -> `[N, 3]`."""
    torch.manual_seed(4)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.ReLU(), Gated(4), nn.Flatten(), nn.Linear(144, 3, bias=False)
    ).eval()


def main():
    """Compare the relevance at the input without and with the canonizer; return the logit and both sums."""
    model, data = net(), torch.rand(1, 1, 8, 8).requires_grad_()
    logits = model(data).detach()
    target = int(logits.argmax())
    sums = {}
    for name, canonizers in {"without": [], "with": [GateCanonizer()]}.items():
        attr = CondAttribution(model)(data, [{"y": [target]}], EpsilonPlus(canonizers=canonizers))
        sums[name] = float(attr.heatmap.sum())
        print(f"{name} canonizer: {sums[name]:.3f} of {float(logits[0, target]):.3f} arrives at the input")
    return float(logits[0, target]), sums


if __name__ == "__main__":
    main()
