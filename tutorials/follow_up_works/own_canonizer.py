"""A canonizer of one's own for a block that no canonizer knows.

The gate of a squeeze-and-excitation block multiplies channels by numbers that come from the same input. LRP knows no
rule for such a product; the usual way (PCX, for EfficientNet) is to let the gate pass relevance as a constant factor.
Its canonizer gives the block another `forward` while relevance flows.

    python own_canonizer.py
"""

import torch
from torch import nn

# crp before zennit, which it lets be imported beside a CPU build of torch (docs/install.md)
# isort: off
from crp.attribution import CondAttribution
from zennit.canonizers import AttributeCanonizer
from zennit.composites import EpsilonPlus


class Gated(nn.Module):
    """Channels weighted by a gate that looks at all of them."""

    def __init__(self, channels):
        super().__init__()
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, channels, 1), nn.Sigmoid())

    def forward(self, data):
        return data * self.gate(data)


class GateCanonizer(AttributeCanonizer):
    """Takes the gate for a constant."""

    def __init__(self):
        super().__init__(self._attributes)

    @staticmethod
    def _attributes(name, module):
        return {"forward": passing.__get__(module)} if isinstance(module, Gated) else None


def passing(block, data):
    """What the block does while relevance flows."""
    return Weigh.apply(data, block.gate(data).detach())


class Weigh(torch.autograd.Function):
    """A product whose relevance goes to the first factor, whole."""

    generate_vmap_rule = True  # several conditions go down at a time

    @staticmethod
    def forward(data, gate):
        return data * gate

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, relevance):
        return relevance, None


def net():
    """A small gated net: `[N, 1, 8, 8]` -> `[N, 3]`."""
    torch.manual_seed(4)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.ReLU(), Gated(4), nn.Flatten(), nn.Linear(144, 3, bias=False)
    ).eval()


def main():
    """Compare what arrives at the input without and with the canonizer; returns logit and both sums."""
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
