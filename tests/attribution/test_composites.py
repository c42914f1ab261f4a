"""What is picked for which model, that the picture of the model stays right, and how well relevance is conserved."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torchvision import models
from zennit.composites import EpsilonPlusFlat
from zennit.torchvision import ResNetCanonizer

from crp.attribution import RelevanceFlow
from crp.attribution.composites import composite_for
from crp.attribution.observation import observe
from crp.errors import ModelError
from tests.oracle import nets, photos
from tests.oracle.comparing import assert_relevance_close

PLUS = "flat at the first layer, z+ at the other convolutions and epsilon at the fully connected layers"
WITHOUT_BIASES = (
    "flat at the first layer, z+ at the other convolutions with their biases left out of the denominators, "
    "where they would absorb nearly all relevance, and epsilon at the fully connected layers"
)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 20), nn.ReLU(), nn.Dropout(), nn.Linear(20, 5))


def conv1d() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(2, 6, 3), nn.BatchNorm1d(6), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(6, 5)
    )


def depthwise_segmentation() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3, groups=6), nn.ReLU(), nn.Conv2d(6, 2, 1))


def depthwise(after: nn.Module) -> nn.Module:
    """A depthwise convolution of three values in each of two channels, in float64."""
    model = nn.Sequential(
        nn.Conv1d(2, 2, 1, bias=False), nn.Conv1d(2, 2, 3, groups=2, bias=False), after, nn.Flatten(),
        nn.Linear(2, 1, bias=False),
    ).double()  # fmt: skip
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(2)[..., None])
        model[1].weight.copy_(torch.tensor([[[1.0, -1.0, 0.5]], [[1.0, -2.0, 0.0]]]))
        model[4].weight.fill_(1.0)
    return model


def narrow(build: Callable[..., nn.Module]) -> nn.Module:
    """torchvision's VGG with 32 units in place of 4096 in its classifier, which would take most of the time."""
    with torch.device("meta"):
        model = build(num_classes=10, init_weights=False)
        model.classifier = nn.Sequential(
            nn.Linear(512 * 49, 32), nn.ReLU(), nn.Dropout(), nn.Linear(32, 32), nn.ReLU(), nn.Dropout(),
            nn.Linear(32, 10),
        )  # fmt: skip
    model.to_empty(device="cpu")
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
    return model


# model, shape of one sample, name, reason
PICKED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str, str]] = {
    "vgg11": (lambda: narrow(models.vgg11), (3, 64, 64), "epsilon-plus-flat", f"A VGG of torchvision: {PLUS}."),
    "vgg11_bn": (
        lambda: narrow(models.vgg11_bn),
        (3, 64, 64),
        "epsilon-plus-flat",
        f"A VGG of torchvision: {PLUS}.",
    ),
    "resnet18": (
        models.resnet18,
        (3, 64, 64),
        "epsilon-plus-flat",
        f"A ResNet of torchvision: {PLUS}.",
    ),
    "squeezenet1_1": (
        models.squeezenet1_1,
        (3, 64, 64),
        "epsilon-plus-flat, epsilon on classifier.1",
        "A SqueezeNet of torchvision: flat at the first layer, z+ at the other convolutions and epsilon at the last "
        "one, 'classifier.1', which acts as the classifier: z+ there would leave no negative relevance.",
    ),
    "mobilenet_v2": (
        models.mobilenet_v2,
        (3, 64, 64),
        "epsilon-plus-flat, without biases of convolutions",
        f"A MobileNetV2 of torchvision: {WITHOUT_BIASES}.",
    ),
    "mobilenet_v1": (
        nets.mobilenet_v1,
        (3, 128, 128),
        "epsilon-plus-flat, without biases of convolutions",
        f"A convolutional net in 2-d with depthwise convolutions: {WITHOUT_BIASES}.",
    ),
    "depthwise, and a convolution as its classifier": (
        depthwise_segmentation,
        (3, 8, 8),
        "epsilon-plus-flat, epsilon on 3, without biases of convolutions",
        "A convolutional net in 2-d with depthwise convolutions: flat at the first layer, z+ at the other convolutions "
        "with their biases left out of the denominators, where they would absorb nearly all relevance, and epsilon at "
        "the last one, '3', which acts as the classifier: z+ there would leave no negative relevance.",
    ),
    "resnet20": (
        nets.ResNet20,
        (3, 32, 32),
        "epsilon-plus-flat",
        f"A convolutional net in 2-d: {PLUS}.",
    ),
    "mlp": (
        mlp,
        (3, 4, 4),
        "epsilon",
        "A net without convolutions: epsilon in all layers, because flat at a fully connected first layer would spread "
        "relevance evenly over the input.",
    ),
    "conv1d": (conv1d, (2, 9), "epsilon-plus-flat", f"A convolutional net in 1-d: {PLUS}."),
}


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    """A model with weights from seed 0, batch norms as after training, in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build().eval()
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                nn.init.uniform_(module.running_mean, -0.1, 0.1)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -0.2, 0.2)
    return model


def noise(shape: tuple[int, ...], count: int = 2) -> torch.Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", PICKED)
def test_what_is_picked(kind):
    build, _, name, reason = PICKED[kind]
    fitting = composite_for(build(), rules="epsilon-plus-flat")
    assert fitting.name == name
    assert fitting.reason == reason
    by_purpose = composite_for(build())
    assert by_purpose.name == composite_for(build(), rules="by-purpose-gamma").name
    if name != "epsilon":
        net, maps = reason.split(": ", 1)
        if "biases" not in name and kind != "conv1d":  # no depthwise convolutions, and others than the first
            name, maps = name.replace("plus", "gamma"), maps.replace(": z+ there would leave no negative relevance", "")
            maps = maps.replace("z+", "gamma (0.25)")
        name = f"epsilon; maps: {name}"
        reason = (
            f"{net}: relevance of concepts by epsilon in all layers; heatmaps by {maps} The heatmaps of a layer's "
            "concepts add up to the heatmap of what arrives at the layer, not to that of the prediction."
        )
    assert by_purpose.name == name
    assert by_purpose.reason == reason


@pytest.mark.parametrize("norm", [nn.LayerNorm([4, 4, 4]), nn.GroupNorm(2, 4), nn.BatchNorm2d(4)])
def test_the_reason_says_what_norms_change(norm):
    """Relevance of concepts is a first-order effect, and heatmaps hide what goes through the scale of a norm."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
    fitting, batched = composite_for(model), isinstance(norm, nn.BatchNorm2d)
    assert fitting.name == f"{'epsilon' if batched else 'first-order'}; maps: epsilon-plus-flat"
    assert ("first-order effect" in fitting.reason) == (not batched)
    assert ("In heatmaps, scales of norms and weights of attention are constants" in fitting.reason) == (not batched)
    single = composite_for(model, rules="epsilon-plus-flat")
    assert single.name == "epsilon-plus-flat"
    assert ("Scales of norms and weights of attention are constants" in single.reason) == (not batched)


@pytest.mark.parametrize("kind", PICKED)
def test_the_outputs_stay_as_they_are(kind):
    build, shape, *_ = PICKED[kind]
    model, data = seeded(build), noise(shape)
    with torch.no_grad():
        expected = model(data)
    with RelevanceFlow(model, composite_for(model).composite, data) as flow:
        assert_relevance_close(flow.prediction, expected, 5e-5)


@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [
        ("vgg11", 0.99, 1.001),  # without biases nothing is lost but to epsilon and rounding
        ("squeezenet1_1", 0.95, 1.01),
        ("resnet18", 0.4, 1.0),
        ("resnet20", 0.5, 0.7),
    ],
)
def test_conservation_of_random_nets(kind, low, high):
    build, shape, *_ = PICKED[kind]
    model, data = seeded(build), noise(shape)
    targets = model(data).argmax(1).tolist()
    conserved = composite_for(model).conservation(model, data, targets)
    assert conserved.shape == (2,)
    assert low < float(conserved.min()) <= float(conserved.max()) < high, conserved


def test_conservation_is_one_without_biases():
    model = seeded(mlp).double()
    for module in (model[1], model[4]):
        nn.init.zeros_(module.bias)
    conserved = composite_for(model).conservation(model, noise((3, 4, 4)).double(), [0, 3])
    assert_relevance_close(conserved, torch.ones(2), 1e-4)


def test_conservation_by_hand():
    # logit 3 * 2 + 2 = 8, of which the bias takes 2
    model = nn.Sequential(nn.Linear(1, 1)).double()
    nn.init.constant_(model[0].weight, 3.0)
    nn.init.constant_(model[0].bias, 2.0)
    assert composite_for(model).conservation(model, torch.tensor([[2.0]]).double(), [0]).item() == pytest.approx(0.75)


def test_a_residual_net_has_the_relevance_that_zennits_canonizer_gives():
    """zennit leaves eps in merged norms; without it the heatmaps are equal."""
    model = seeded(lambda: models.resnet18(num_classes=10)).double()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var += module.eps
            module.eps = 0.0
    data = noise((3, 64, 64)).double()
    heatmaps = []
    rules = composite_for(model, rules="epsilon-plus-flat").composite
    for composite in (rules, EpsilonPlusFlat(canonizers=[ResNetCanonizer()])):
        with RelevanceFlow(model, composite, data) as flow:
            heatmaps.append(flow.down(flow.output_relevance([1, 2])))
    assert_relevance_close(*heatmaps, 1e-10)


def test_relevance_of_a_sum_is_shared_by_hand():
    class Doubled(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(2, 2, bias=False)
            self.head = nn.Linear(2, 1, bias=False)

        def forward(self, data):
            return self.head(data + self.inner(data))

    model = Doubled().double()
    with torch.no_grad():
        model.inner.weight.copy_(torch.tensor([[3.0, 0.0], [0.0, 1.0]]))
        model.head.weight.copy_(torch.tensor([[1.0, 1.0]]))
    data = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    with RelevanceFlow(model, composite_for(model).composite, data, ["inner"]) as flow:
        started = flow.output_relevance([0])
        # sums 4 and 4; the inner branch gives 3 of the one and 2 of the other
        assert_relevance_close(flow.down(started, to="inner"), torch.tensor([[[3.0, 2.0]]]), 1e-5)
        assert_relevance_close(flow.down(started), torch.tensor([[[4.0, 4.0]]]), 1e-5)


def test_a_mean_over_space_is_shared_by_what_was_active():
    class Averaged(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(1, 1, bias=False)

        def forward(self, data):
            return self.head(data.mean(dim=(2, 3)))

    model = Averaged().double()
    nn.init.ones_(model.head.weight)
    data = torch.tensor([[[[0.0, 1.0], [0.0, 3.0]]]], dtype=torch.float64)
    with RelevanceFlow(model, composite_for(model).composite, data) as flow:
        heatmap = flow.down(flow.output_relevance([0]))[0]
    assert_relevance_close(heatmap, data / 4, 1e-5)


def test_negative_outputs_of_a_depthwise_convolution_are_explained_by_negative_contributions():
    """z+ would give the relevance of the second channel, -3, to the input that speaks against it."""
    model, data = depthwise(nn.Identity()), torch.tensor([[[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]]).double()
    with RelevanceFlow(model, composite_for(model, rules="epsilon-plus-flat").composite, data, ["0"]) as flow:
        assert flow.linear
        arriving = flow.down(flow.output_relevance([0]), to="0")[0]
    # outputs 1 - 2 + 1.5 and 1 - 4
    assert_relevance_close(arriving, torch.tensor([[[0.2, 0.0, 0.3], [0.0, -3.0, 0.0]]]), 1e-5)


def test_below_a_relu_a_depthwise_convolution_has_the_relevance_of_z_plus():
    model = depthwise(nn.ReLU())
    data = torch.randn(16, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    heatmaps = []
    for composite in (composite_for(model, rules="epsilon-plus-flat").composite, EpsilonPlusFlat()):
        with RelevanceFlow(model, composite, data, ["0"]) as flow:
            heatmaps.append(flow.down(flow.output_relevance([0] * 16), to="0"))
    assert float(heatmaps[0].abs().sum()) > 1
    assert_relevance_close(*heatmaps, 1e-12)


def test_a_batch_norm_of_its_own_never_amplifies_beside_depthwise_convolutions():
    """Epsilon would give 4 / (4 - 2) of the relevance of the first channel, and 1 / (1 - 2) of the second."""

    class Normed(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.norm = depthwise(nn.Identity()), nn.BatchNorm1d(2, eps=0.0)

        def forward(self, data):
            self.inner[1](data)  # a network with depthwise convolutions
            data = self.inner[0](data)
            return self.inner[4](self.norm(data + 0 * data)[..., 0])

    model, data = Normed().double().eval(), torch.tensor([[[4.0], [1.0]]]).double()
    model.inner[1].padding = (1,)
    model.norm.running_mean += 2
    composite = composite_for(model, data, rules="epsilon-plus-flat").composite
    with RelevanceFlow(model, composite, data, ["inner.0"]) as flow:
        arriving = flow.down(flow.output_relevance([0]), to="inner.0")[0]
    # outputs 4 - 2, all of it from the data, and 1 - 2, which the shift makes negative
    assert_relevance_close(arriving, torch.tensor([[[2.0], [0.0]]]), 1e-5)


def test_a_model_without_a_place_for_rules_is_refused():
    message = "Flatten has no linear or convolutional module to put a rule on."
    with pytest.raises(ModelError, match=f"^{re.escape(message)}$"):
        composite_for(nn.Flatten())


def test_the_model_is_as_before():
    model = seeded(nets.ResNet20)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modules = list(model.named_modules())
    fitting = composite_for(model)
    fitting.conservation(model, noise((3, 32, 32)), [0, 1])
    assert [name for name, _ in model.named_modules()] == [name for name, _ in modules]
    assert all(now is then for (_, now), (_, then) in zip(model.named_modules(), modules, strict=True))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all("forward" not in vars(module) for module in model.modules())


def test_squeezenet_has_relevance_of_both_signs(real_data):
    """Epsilon at the last convolution; with z+ there, nothing negative is left at any layer."""
    model = nets.trained_squeezenet(real_data)
    file = photos.samples(real_data)[0]["file"]
    data = photos.for_squeezenet(real_data / "imagenet_samples" / file)[None]
    fitting = composite_for(model)
    negative = {}
    for name, composite in (("fitting", fitting.composite), ("z+ everywhere", EpsilonPlusFlat())):
        with RelevanceFlow(model, composite, data, ["features.12"]) as flow:
            arriving = flow.down(flow.output_relevance([int(flow.prediction.argmax())]), to="features.12")
        per_channel = arriving.sum((-2, -1))
        negative[name] = float(-per_channel.clamp(max=0).sum() / per_channel.abs().sum())
    assert negative["z+ everywhere"] == 0
    assert 0.1 < negative["fitting"] < 0.5
    assert 0.97 < fitting.conservation(model, data, [1]).item() < 1.0


def test_conservation_of_trained_nets(real_data):
    cifar, labels = photos.cifar10(real_data, 8)
    resnet = nets.trained_resnet20(real_data)
    conserved = composite_for(resnet).conservation(resnet, cifar, resnet(cifar).argmax(1).tolist())
    assert 0.04 < float(conserved.min()) <= float(conserved.max()) < 0.8
    assert len(labels) == 8

    mobilenet = nets.trained_mobilenet(real_data)
    chosen = photos.samples(real_data)[:6]
    data = torch.stack([photos.for_mobilenet(real_data / "imagenet_samples" / sample["file"]) for sample in chosen])
    targets = mobilenet(data).argmax(1).tolist()
    with_biases = EpsilonPlusFlat()
    fitting = composite_for(mobilenet).conservation(mobilenet, data, targets)
    with RelevanceFlow(mobilenet, with_biases, data) as flow:
        started = flow.output_relevance(targets)
        plain = flow.down(started).flatten(2).sum(2)[0] / started[0].sum(1)
    assert 1e-3 < float(fitting.min()) <= float(fitting.max()) < 0.05
    assert float((fitting / plain).min()) > 100


@pytest.mark.parametrize(("outputs", "depthwise"), [(2, False), (4, False), (8, True)])
def test_a_transposed_convolution_is_depthwise_if_an_output_reads_one_input(outputs: int, depthwise: bool) -> None:
    """Its weight is `[inputs, outputs of a group, ...]`: one output in each group says nothing."""
    groups = 8 if depthwise else outputs
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ConvTranspose2d(8, outputs, 3, groups=groups))
    assert [call.depthwise for call in observe(model, torch.ones(1, 3, 6, 6)).linear] == [False, depthwise]
