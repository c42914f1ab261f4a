"""Models without a concept: what is computed by hand, the original for inputs without it, and unchanged callers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import crp
from crp import InputError, ModelError
from crp.attribution import RelevanceFlow
from crp.attribution.upper_part import UpperPart
from crp.concepts import ChannelConcept, Directions, HeadConcept, NonNegative, SparseAutoencoder, parts_of
from crp.correction import Correction, project, reactive, suppress
from crp.correction.presence import around, find_presence, observed_layers
from crp.layout import Layout
from crp.library.fingerprints import weights_fingerprint
from tests.crp.correction.planted import SECOND, TAG, planted_data, planted_model


class Tokens(nn.Module):
    """A small network with tokens `[N, 4, 6]`, which are normalised and projected."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm, self.proj = nn.Linear(5, 6), nn.LayerNorm(6), nn.Linear(6, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, data: Tensor) -> Tensor:
        tokens = self.embed(data)
        tokens = tokens + self.proj(self.norm(tokens))
        return self.head(tokens.mean(1))


def convolutional() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3, padding=1, groups=2),
        nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 8), nn.ReLU(), nn.Linear(8, 3),
    )  # fmt: skip
    for value in (model[1].weight.data, model[1].running_var, model[1].bias.data):
        value.uniform_(0.3, 1)
    return model.double().eval()


def tokens() -> Tokens:
    torch.manual_seed(1)
    return Tokens().double().eval()


PLACES = {
    "convolution": (convolutional, "0", ChannelConcept(), True),
    "grouped convolution": (convolutional, "3", ChannelConcept(), True),
    "batch norm": (convolutional, "1", ChannelConcept(), True),
    "linear": (convolutional, "7", ChannelConcept(), True),
    "after a ReLU": (convolutional, "2", ChannelConcept(), False),
    # explanations merge the batch norm into the convolution: directions are those of normed channels
    "direction behind a norm": (convolutional, "0", Directions(torch.tensor([[0.6, 0.0, 0.8, 0.0]])), False),
    "direction": (convolutional, "7", Directions(torch.eye(8)[:1] * 0.6 + torch.eye(8)[2:3] * 0.8), True),
    "direction, grouped": (convolutional, "3", Directions(torch.ones(1, 6)), False),
    "tokens": (tokens, "proj", ChannelConcept(), True),
    "layer norm": (tokens, "norm", ChannelConcept(), True),
    "head at an input": (tokens, "proj..input", HeadConcept(3), True),
}


def samples(model: nn.Module) -> Tensor:
    torch.manual_seed(2)
    return torch.rand(6, 4, 5) if isinstance(model, Tokens) else torch.rand(6, 2, 6, 6)


@pytest.mark.parametrize("fill", ["zero", "mean"])
@pytest.mark.parametrize("place", PLACES)
def test_a_suppressed_concept_is_what_removal_by_hand_gives(place: str, fill: str) -> None:
    make, layer, kind, in_weights = PLACES[place]
    model = make()
    data, before = samples(model).double(), weights_fingerprint(model)
    concept = 0
    found = suppress(model, data, layer, concept, kind=kind, fill=fill)
    layer, layout = observed_layers(model, data, [layer])[layer]
    upper = UpperPart(model, data, layer)
    part = parts_of(kind, upper.activation, layout, layer).part([[concept]])[0]
    mean = layout.split(part).movedim(1, -1).flatten(0, 1).mean(0)
    filled = layout.joined(mean[:, None].expand(len(mean), layout.positions))
    replaced = upper.activation - part + (filled if fill == "mean" else 0)
    with torch.no_grad():
        torch.testing.assert_close(found.model(data), upper.outputs(replaced[None])[0], rtol=1e-9, atol=1e-9)
        assert float((found.model(data) - model(data)).abs().max()) > 1e-5
    assert found.in_weights == in_weights
    assert (list(found.model.state_dict()) == list(model.state_dict())) == in_weights
    assert weights_fingerprint(model) == before


def test_tied_weights_are_not_edited() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)).double().eval()
    model[2].weight = model[0].weight
    found = suppress(model, torch.rand(6, 4).double(), "0", int(model[0].bias.argmax()))
    assert not found.in_weights
    assert torch.equal(found.model[2].weight, model[2].weight)


def test_a_model_that_reads_weights_past_the_module_is_refused() -> None:
    class Past(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, data: Tensor) -> Tensor:
            return self.last(self.first(data).relu()) + self.first.weight.sum()

    torch.manual_seed(0)
    with pytest.raises(ModelError, match="does not give what changing the output of 'first' gives"):
        suppress(Past(), torch.rand(6, 4), "first", 0)


def by_hand(correction: Correction, data: Tensor, model: nn.Sequential) -> tuple[Tensor, Tensor]:
    """The channels `[N, P, C]` after the ReLU of the planted model, and after the correction's change of them."""
    with torch.no_grad():
        before = model[:2](data)
        return before.flatten(2).movedim(1, -1), correction.change(before).flatten(2).movedim(1, -1)


@pytest.mark.parametrize("direction", ["pattern", "filter"])
def test_projected_channels_have_the_mean_without_the_concept_along_its_direction(direction: str) -> None:
    model, (data, _) = planted_model(), planted_data()
    found = project(model, data, "conv", 0, direction=direction)
    assert found.layer == "relu"
    assert not found.in_weights
    before, after = by_hand(found, data, model)
    tagged = before[:, :, 0] > 0.2
    with_it, without_it = before[tagged].mean(0), before[~around(tagged, Layout((3, 8, 8)), 2)].mean(0)
    vector = torch.nn.functional.normalize(before[0] - after[0], dim=1)[(before[0] - after[0]).norm(dim=1).argmax()]
    # one direction, along which every position has the same value
    along = after @ vector
    torch.testing.assert_close(along, torch.full_like(along, float(without_it @ vector)), rtol=1e-4, atol=1e-5)
    across = (before - after) @ (torch.eye(3) - torch.outer(vector, vector))
    assert float(across.abs().max()) < 1e-5
    if direction == "pattern":
        pattern = torch.nn.functional.normalize(with_it - without_it, dim=0)
        assert float((vector @ pattern).abs()) > 0.999


def test_reactive_changes_nothing_without_the_concept_and_erases_around_it() -> None:
    model, (data, _) = planted_model(), planted_data()
    found = reactive(model, data, "conv", 0, reach=1)
    tagged = data[:, 0].flatten(1).any(1)
    with torch.no_grad():
        assert torch.equal(found.model(data[~tagged]), model(data[~tagged]))
        changed = found.change(model.conv(data[tagged]))
        given = model.conv(data[tagged])
    near = around(data[tagged, 0].flatten(1) > 0, Layout((3, 8, 8)), 1)
    assert 0 < int(near.sum()) < near.numel() / 4
    channels, original = changed.flatten(2).movedim(1, -1), given.flatten(2).movedim(1, -1)
    torch.testing.assert_close(channels[~near], original[~near], rtol=0, atol=0)
    elsewhere = torch.cat([original[~near], model.conv(data[~tagged]).detach().flatten(2).movedim(1, -1).flatten(0, 1)])
    torch.testing.assert_close(channels[near], elsewhere.mean(0).expand(int(near.sum()), 3), rtol=1e-4, atol=1e-5)


def test_positions_around_one_are_those_of_the_grid() -> None:
    where = torch.zeros(1, 1 + 12, dtype=torch.bool)
    where[0, [0, 1 + 5]] = True  # the class token, and row 1, column 1 of three rows of four
    wide = around(where, Layout((13, 2), last=True, grid=(3, 4), prefix=1), 1)
    assert wide[0].nonzero().flatten().tolist() == [1, 2, 3, 5, 6, 7, 9, 10, 11]


def test_what_cannot_be_taken_out_is_refused_in_a_sentence() -> None:
    model, (data, _) = planted_model(), planted_data()
    bank = Directions(torch.eye(3)[:2] + 0.1, NonNegative())
    with pytest.raises(InputError, match="The parts of Directions are no linear function of the channels"):
        suppress(model, data, "conv", 0, kind=bank)
    with pytest.raises(InputError, match="Concept 0 of layer 'conv' is active in none of the 4 samples"):
        project(model, data[::2][:4], "conv", 0)
    with pytest.raises(InputError, match="Layer 'flatten' has no positions to react at"):
        reactive(model, data, "flatten", 0)
    with pytest.raises(InputError, match="There is no fill 'nought'"):
        suppress(model, data, "conv", 0, fill="nought")
    with pytest.raises(InputError, match="There is no direction 'svm'"):
        project(model, data, "conv", 0, direction="svm")


def test_a_latent_is_watched_as_it_is_encoded() -> None:
    """Latent 0 counts only where it is the largest of all: fewer positions than those at which channel 0 is active."""
    model, (data, _) = planted_model(), planted_data()
    latents = Directions(torch.eye(3), SparseAutoencoder(torch.eye(3), torch.zeros(3), torch.zeros(3), 1))
    data = data.clone()
    data[1::2, TAG, 3, 3], data[1::2, SECOND, 3, 3] = 0.9, 2.0
    found = reactive(model, data, "conv", 0, kind=latents, reach=0)
    with torch.no_grad():
        given = model.conv(data)
        changed = (found.change(given) != given).any(1)
    first = given.argmax(1) == 0
    assert torch.equal(changed, (given[:, 0] > 0.2 * given[:, 0][first].max()) & first)
    assert 40 < int(changed.sum()) < int((given[:, 0] > 0.2).sum())


def test_means_of_the_library_are_those_that_explanations_put_in_place(tmp_path: Path) -> None:
    """A channel at its mean over the mined data: the same as the page's measured effect at the mean."""
    torch.manual_seed(4)
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3)).eval()
    data = torch.rand(8, 3, 9, 9)
    library = crp.mine(model, data, layers=["0"], path=tmp_path / "a.crp", patches=0, progress=False,
                       targets="prediction")  # fmt: skip
    found = suppress(model, data[:2], "0", [1, 3], fill="mean", means=library.means("0"))
    with torch.no_grad(), RelevanceFlow(model, None, data, ["0"]) as flow:
        expected = flow.without("0", [[1, 3]], by=library.means("0"))[0]
        torch.testing.assert_close(found.model(data), expected)
        other = suppress(model, data[:2], "0", [1, 3], fill="mean").model(data)
    assert float((other - expected).abs().max()) > 1e-5  # means over two samples are others
    assert found.in_weights


def test_a_channel_is_taken_out_behind_the_norm_that_explanations_merge_into_its_layer() -> None:
    """Zero before the norm would be a constant after it, and no concept is active there."""
    torch.manual_seed(5)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, 3),
    ).eval()  # fmt: skip
    with torch.no_grad():
        model[1].running_mean.normal_()
        model[1].bias.fill_(0.7)
    data = torch.rand(20, 3, 9, 9)
    with torch.no_grad(), RelevanceFlow(model, crp.composite_for(model).composite, data, ["0"]) as flow:
        expected = flow.without("0", [2])[0]
    found = suppress(model, data, "0", 2)
    torch.testing.assert_close(found.model(data).detach(), expected)
    assert torch.equal(found.model[0].weight, model[0].weight)
    assert found.in_weights
    presence = find_presence(model, data, "0", 2, ChannelConcept(), progress=False)
    assert presence.layer == "1"
    with torch.no_grad():
        normed = model[1](model[0](data))[:, 2].flatten(1)
    assert torch.equal(presence.active, normed > 0.2 * normed.max())
