"""Networks that the tests explain: two small ones with a numpy twin, and two with real trained weights."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional
from zennit.layer import Sum


def plain_net() -> nn.Sequential:
    """Two convolutions (stride, padding, bias) and two linear layers with max pooling; input `[N, 2, 8, 8]`."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(2, 4, 3, padding=1),
            relu1=nn.ReLU(),
            pool=nn.MaxPool2d(2),
            conv2=nn.Conv2d(4, 5, 3, stride=2, padding=1),
            relu2=nn.ReLU(),
            flatten=nn.Flatten(),
            linear1=nn.Linear(20, 6),
            relu3=nn.ReLU(),
            linear2=nn.Linear(6, 3),
        )
    )


class SkipNet(nn.Module):
    """A convolution, then a block `relu(sum(x, conv2(x)))`, then a convolution and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 4, 3, padding=1)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.sum = Sum()
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(4, 3, 2, stride=2)
        self.relu3 = nn.ReLU()
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(48, 3)

    def forward(self, data: Tensor) -> Tensor:
        identity = self.relu1(self.conv1(data))
        total = self.sum(torch.stack([identity, self.conv2(identity)], dim=-1))
        return self.linear(self.flatten(self.relu3(self.conv3(self.relu2(total)))))


def with_random_weights(model: nn.Module, seed: int) -> nn.Module:
    """`model` in float64 and evaluation mode, weights and biases drawn from a generator of its own."""
    generator = torch.Generator().manual_seed(seed)
    model = model.double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            spread = 1 / max(1, parameter[0].numel()) ** 0.5
            parameter.copy_(spread * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


class _Block(nn.Module):
    """Basic block of the CIFAR ResNets, with parameter-free shortcuts (He et al. 2016, section 4.2, option A)."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.relu1 = nn.ReLU()
        self.relu2 = nn.ReLU()
        self.stride = stride
        self.padding = (after - before) // 2

    def forward(self, data: Tensor) -> Tensor:
        shortcut = data
        if self.padding:
            shortcut = functional.pad(data[:, :, :: self.stride, :: self.stride], (0,) * 4 + (self.padding,) * 2)
        out = self.relu1(self.bn1(self.conv1(data)))
        out = self.bn2(self.conv2(out))
        return self.relu2(out + shortcut)


class ResNet20(nn.Module):
    """ResNet-20 for CIFAR (He et al., "Deep residual learning for image recognition", 2016); input `[N, 3, 32, 32]`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.layer1 = nn.Sequential(_Block(16, 16, 1), _Block(16, 16, 1), _Block(16, 16, 1))
        self.layer2 = nn.Sequential(_Block(16, 32, 2), _Block(32, 32, 1), _Block(32, 32, 1))
        self.layer3 = nn.Sequential(_Block(32, 64, 2), _Block(64, 64, 1), _Block(64, 64, 1))
        self.linear = nn.Linear(64, 10)

    def forward(self, data: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(data)))
        out = self.layer3(self.layer2(self.layer1(out)))
        return self.linear(out.mean((2, 3)))


def mobilenet_v1() -> nn.Sequential:
    """MobileNet v1, width 0.25, batch norms already folded in (Howard et al. 2017); input `[N, 3, 128, 128]`."""
    widths = [8, 16, 32, 32, 64, 64, 128, 128, 128, 128, 128, 128, 256, 256]
    halving = {2, 4, 6, 12}
    modules: OrderedDict[str, nn.Module] = OrderedDict()

    def add(name: str, convolution: nn.Conv2d) -> None:
        if convolution.stride == (2, 2):
            modules[f"{name}_pad"] = nn.ZeroPad2d((0, 1, 0, 1))
        modules[name] = convolution
        modules[f"{name}_relu"] = nn.ReLU6()

    add("conv0", nn.Conv2d(3, 8, 3, stride=2))
    for index in range(1, 14):
        before, after = widths[index - 1], widths[index]
        stride = 2 if index in halving else 1
        add(f"dw{index}", nn.Conv2d(before, before, 3, stride=stride, padding=2 - stride, groups=before))
        add(f"pw{index}", nn.Conv2d(before, after, 1))
    modules["pool"] = nn.AdaptiveAvgPool2d(1)
    modules["flatten"] = nn.Flatten()
    modules["fc"] = nn.Linear(256, 1000)
    return nn.Sequential(modules)


def trained(model: nn.Module, weights: Path) -> nn.Module:
    """`model` with the real weights in a file, in evaluation mode."""
    model.load_state_dict(load_file(weights), strict=True)
    return model.eval()


def trained_resnet20(folder: Path) -> nn.Module:
    """ResNet-20 as trained on CIFAR-10; `folder` is that of the real data."""
    return trained(ResNet20(), folder / "resnet20_cifar10.safetensors")


def trained_mobilenet(folder: Path) -> nn.Module:
    """MobileNet v1 0.25 as trained on ImageNet."""
    return trained(mobilenet_v1(), folder / "mobilenet_v1_025_128_imagenet.safetensors")


def trained_squeezenet(folder: Path) -> nn.Module:
    """torchvision's SqueezeNet 1.1 as trained on ImageNet."""
    # imported here, after the workaround of crp.attribution
    from torchvision.models import squeezenet1_1

    return trained(squeezenet1_1(weights=None), folder / "squeezenet1_1_imagenet.safetensors")
