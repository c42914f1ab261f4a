"""Receptive fields compared with what a gradient really sees."""

import pytest
import torch
from torch import nn

from crp.attribution.receptive_fields import receptive_boxes, receptive_sizes
from crp.errors import InputError


class Branches(nn.Module):
    """Concatenation of kernels of different size, functional pooling, padding, slicing, an addition in place."""

    def __init__(self) -> None:
        super().__init__()
        self.small, self.large = nn.Conv2d(2, 3, 1), nn.Conv2d(2, 3, 5, padding=2, dilation=1)
        self.wide = nn.Conv2d(6, 4, 3, padding=2, dilation=2)
        self.end = nn.Conv2d(4, 4, 2, stride=2)

    def forward(self, data):
        both = torch.cat([self.small(data), self.large(data)], 1)
        pooled = nn.functional.max_pool2d(both.relu(), 3, 2, 1)
        wide = self.wide(pooled)
        wide += pooled[:, :4]
        padded = nn.functional.pad(wide, (1, 0, 0, 2))
        return self.end(padded[:, :, ::2, 1:])


class Moved(nn.Module):
    """A block of a ConvNeXt: its norm and its linear layers have the channels behind the space."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.deep = nn.Conv2d(2, 4, 2, stride=2), nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.norm, self.up, self.down = nn.LayerNorm(4), nn.Linear(4, 6), nn.Linear(6, 4)
        self.scale, self.end = nn.Parameter(torch.rand(4)), nn.Conv2d(4, 3, 3)

    def forward(self, data):
        data = self.norm(self.stem(data).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        inner = torch.permute(self.deep(data), (0, 2, 3, 1))
        inner = self.scale * self.down(nn.functional.gelu(self.up(self.norm(inner))))
        return self.end(data + inner.permute(0, 3, 1, -2))


class Shifted(nn.Module):
    """Moves the channels, does something to the positions, and moves them back."""

    def __init__(self, function) -> None:
        super().__init__()
        self.low, self.end, self.function = nn.Conv2d(1, 4, 1), nn.Identity(), function

    def forward(self, data):
        return self.end(self.function(self.low(data).permute(0, 2, 3, 1)).permute(0, 3, 1, 2))


AVERAGE = nn.AvgPool2d(2)
NETS = {
    "strides": (nn.Sequential(nn.Conv2d(2, 3, 3, 2, 1), nn.ReLU(), nn.Conv2d(3, 3, 3)), "2", (2, 15, 12)),
    "pooling": (nn.Sequential(nn.Conv2d(2, 3, 3), nn.MaxPool2d(3, 2, ceil_mode=True), AVERAGE), "2", (2, 14, 14)),
    "branches": (Branches(), "end", (2, 24, 20)),
    "moved channels": (Moved(), "end", (2, 20, 16)),
    "signal": (nn.Sequential(nn.Conv1d(2, 3, 5, padding="same"), nn.MaxPool1d(2), nn.Conv1d(3, 2, 3)), "2", (2, 21)),
    "volume": (nn.Sequential(nn.Conv3d(1, 2, 3, stride=2), nn.BatchNorm3d(2)), "1", (1, 7, 6, 5)),
}


def seen(model: nn.Module, layer: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Boxes of what changes a position, by the gradient of many random nets of that shape."""
    torch.manual_seed(0)
    outputs = []
    dict(model.named_modules())[layer].register_forward_hook(lambda module, args, output: outputs.append(output))
    support = 0
    for _ in range(40):
        for parameter in model.parameters():
            nn.init.normal_(parameter)
        data = torch.randn(1, *shape, requires_grad=True)
        outputs.clear()
        model.eval()(data)
        flat = outputs[0][0].sum(0).flatten()
        rows = [torch.autograd.grad(value, data, retain_graph=True)[0][0].abs().sum(0) for value in flat]
        support = support + (torch.stack(rows) != 0)
    boxes = []
    for mask in support:
        indices = mask.nonzero()
        boxes.append([*indices.amin(0).tolist(), *(indices.amax(0) + 1).tolist()])
    return torch.tensor(boxes)


@pytest.mark.parametrize(("model", "layer", "shape"), NETS.values(), ids=NETS)
def test_receptive_boxes_are_what_the_gradient_sees(model, layer, shape):
    assert torch.equal(receptive_boxes(model, shape, layer), seen(model, layer, shape))


def test_layer_without_space_sees_everything():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 6, 3))
    assert receptive_boxes(model, (1, 4, 5), "2").tolist() == [[0, 0, 4, 5]]


def test_after_an_operation_without_places_everything_is_seen():
    """Upsampling is not followed: the box is the whole input rather than too small."""
    model = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Upsample(scale_factor=2), nn.Conv2d(1, 1, 1))
    assert receptive_boxes(model, (1, 5, 5), "2").unique(dim=0).tolist() == [[0, 0, 5, 5]]


def test_unknown_layer():
    with pytest.raises(InputError, match=r"^The model has no layer '1\.2': did you mean"):
        receptive_boxes(nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU(), nn.ReLU())), (2,), "1.2")


@pytest.mark.parametrize(
    "function",
    [
        lambda data: data.roll(1, 1),
        lambda data: data.flip(2),
        lambda data: data.softmax(1),
        lambda data: nn.functional.layer_norm(data, data.shape[1:]),
        lambda data: data + data.transpose(1, 2),
        lambda data: data.permute(0, 2, 1, 3),
    ],
)
def test_behind_moved_channels_other_operations_see_everything(function):
    boxes = receptive_boxes(Shifted(function), (1, 4, 4), "end")
    assert boxes.tolist() == [[0, 0, 4, 4]] * 16


class Between(nn.Module):
    """Something between two convolutions, of the same size."""

    def __init__(self, function) -> None:
        super().__init__()
        self.low, self.function, self.end = nn.Conv2d(2, 4, 3, padding=1), function, nn.Conv2d(4, 3, 1)

    def forward(self, data):
        return self.end(self.function(self.low(data)))


def written(data):
    """Rows written over others, in a view."""
    data = data.clone()
    data[:, :, :5].copy_(data[:, :, 5:])
    return data


SQUARE = torch.randn(10, 10, generator=torch.Generator().manual_seed(0))
MOVING = {
    "flip": lambda x: x.flip(-1),
    "roll": lambda x: x.roll(3, 2),
    "transpose": lambda x: x.transpose(2, 3),
    "rotation": lambda x: x.rot90(1, (2, 3)),
    "rows by index": lambda x: x[:, :, torch.arange(9, -1, -1)],
    "columns by index": lambda x: x[..., torch.arange(9, -1, -1)],
    "gather": lambda x: x.gather(3, torch.arange(9, -1, -1).expand(1, 4, 10, 10)),
    "mixed columns": lambda x: x @ SQUARE,
    "linear in columns": lambda x: nn.functional.linear(x, SQUARE),
    "einsum": lambda x: torch.einsum("nchw,hk->nckw", x, SQUARE),
    "running sum": lambda x: x.cumsum(-1),
    "weights over columns": lambda x: x * x.softmax(-1),
    "transposed convolution": lambda x: nn.functional.conv_transpose2d(
        x, SQUARE[:4, :4, None, None].expand(4, 4, 3, 3), padding=1
    ),
    "sampled": lambda x: nn.functional.grid_sample(
        x, nn.functional.affine_grid(torch.tensor([[[0.0, 1, 0], [1, 0, 0]]]), x.shape, align_corners=False),
        align_corners=False,
    ),
    "assignment": lambda x: (y := x.clone(), y.__setitem__((slice(None), slice(None), slice(0, 5)), x[:, :, 5:]))[0],
    "copy into a view": written,
}  # fmt: skip


@pytest.mark.parametrize("name", MOVING)
def test_what_moves_positions_sees_everything(name):
    """The size does not tell: before, such a layer was taken for one that keeps its positions in place."""
    torch.manual_seed(0)
    model, data = Between(MOVING[name]), torch.randn(1, 2, 10, 10, requires_grad=True)
    assert (receptive_boxes(model, (2, 10, 10), "end") == torch.tensor([0, 0, 10, 10])).all()
    top, left, bottom, right = receptive_boxes(model, (2, 10, 10), "low")[12]
    (gradient,) = torch.autograd.grad(model(data)[0, :, 1, 2].sum(), data)
    gradient[..., top:bottom, left:right] = 0
    assert gradient.any()  # it reads what the position below does not


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.cat([x.softmax(1).flip(1), x.clone().mul_(2)], 1)[:, 2:6],
        lambda x: x - x.mean(1, keepdim=True).expand(-1, 4, -1, -1),
        lambda x: torch.where(x > 0, x, 0.5).chunk(2, dim=1)[1].repeat_interleave(2, 1),
        lambda x: nn.functional.normalize(x, dim=1) / (x.amax(1, keepdim=True) + 3),
    ],
)
def test_what_mixes_channels_keeps_positions(function):
    model = Between(function)
    assert torch.equal(receptive_boxes(model, (2, 6, 6), "end"), receptive_boxes(model, (2, 6, 6), "low"))


@pytest.mark.parametrize("mode", ["circular", "reflect", "replicate"])
def test_padding_that_repeats_the_input(mode):
    model = nn.Sequential(nn.Conv1d(2, 3, 5, padding=2, padding_mode=mode), nn.Conv1d(3, 2, 3, padding=1))
    assert torch.equal(receptive_boxes(model, (2, 11), "1"), seen(model, "1", (2, 11)))


def test_sizes_of_several_layers_in_one_pass():
    sizes = receptive_sizes(Moved(), (2, 20, 16), ["stem", "end"])
    # 2, then 3 and 3 positions of stride 2
    assert sizes == {"stem": (2, 2), "end": (10, 10)}
