"""Directions: encoders, files, and what is learned from activations."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from crp.analysis.learned_directions import filter_directions, layer_activations, nmf_directions, pattern_directions
from crp.concepts import (
    ChannelConcept,
    Directions,
    Groups,
    HeadConcept,
    Layout,
    NonNegative,
    SparseAutoencoder,
    parts_of,
)
from crp.concepts.direction_files import directions_of_autoencoder, load_directions, save_directions
from crp.errors import InputError
from crp.models import described_kind
from crp.sources.kinds import kind_named
from tests.crp.concepts.small_nets import Convolutions, data, made


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_non_negative_coefficients_are_those_of_scipy():
    optimize = pytest.importorskip("scipy.optimize")
    directions, activation = normal(4, 6).abs().double(), normal(20, 6, seed=1).double()
    found = NonNegative()(activation, directions)
    expected = [optimize.nnls(directions.T.numpy(), row.numpy())[0] for row in activation]
    np.testing.assert_allclose(found, expected, atol=1e-11)


def nearest_of_all_choices(activation: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """The best of the least squares solutions for each set of directions that are not negative there."""
    best, smallest = torch.zeros(len(directions), dtype=activation.dtype), float(activation.square().sum())
    for count in range(1, len(directions) + 1):
        for chosen in map(list, itertools.combinations(range(len(directions)), count)):
            found = torch.linalg.lstsq(directions[chosen].T, activation[:, None]).solution[:, 0]
            left = float((activation - found @ directions[chosen]).square().sum())
            if bool((found >= 0).all()) and left < smallest:
                best, smallest = torch.zeros_like(best), left
                best[chosen] = found
    return best


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4), (torch.bfloat16, 1e-2)]
)
@pytest.mark.parametrize("alike", [0.0, 0.9])
def test_non_negative_coefficients_are_the_best_ones(alike, dtype, tolerance):
    """Also of directions that are much alike, for which each step is short, and in a batch with others."""
    directions = ((1 - alike) * normal(6, 20).abs() + alike * normal(1, 20, seed=2).abs()).double()
    activation = normal(16, 20, seed=1).relu().double()
    activation[3] = 0
    expected = torch.stack([nearest_of_all_choices(row, directions) for row in activation])
    found = NonNegative()(activation.to(dtype), directions.to(dtype))
    assert found.dtype == dtype
    assert float((found.double() - expected).abs().max()) <= tolerance * float(expected.max()) * (1 + 10 * alike)
    kind, layout = Directions(directions, NonNegative()), Layout((20,))
    parts, relevance = parts_of(kind, activation, layout), normal(16, 20, seed=3).double()
    carried = parts.carried(relevance, [*range(6)]).sum(0)
    torch.testing.assert_close(carried + parts.rest(relevance), relevance, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["least squares", "non-negative"])
def test_what_depends_on_the_directions_alone_is_computed_once(name, monkeypatch):
    calls = []
    for function in ("pinv", "eigvalsh"):
        own = getattr(torch.linalg, function)
        monkeypatch.setattr(torch.linalg, function, lambda matrix, own=own: calls.append(1) or own(matrix))
    bank = BANKS[name]
    kind, layout = Directions(bank.matrix.clone(), bank.encoder), Layout((5, 2))
    before = described_kind(kind)
    activation = normal(3, 5, 2, seed=4)
    first = kind.values(activation, layout)
    kind.parts(activation, [0], layout)
    assert len(calls) == 1
    torch.testing.assert_close(kind.values(activation.double(), layout).float(), first)
    assert len(calls) == 2  # another dtype
    assert described_kind(kind) == before
    expected = bank.encoder(activation.movedim(1, -1), kind.matrix).movedim(-1, 1)
    assert torch.equal(first, expected)
    with torch.no_grad():
        kind.matrix[0] *= 2
    changed = bank.encoder(activation.movedim(1, -1), kind.matrix).movedim(-1, 1)
    assert torch.equal(kind.values(activation, layout), changed)
    assert not torch.equal(changed, first)


BANKS = {
    "least squares": Directions(normal(3, 5), names=("a", "b", "c")),
    "non-negative": Directions(normal(3, 5).abs(), NonNegative(steps=7)),
    "autoencoder": Directions(normal(7, 5), SparseAutoencoder(normal(5, 7), normal(7), normal(5))),
    "TopK": Directions(normal(7, 5), SparseAutoencoder(normal(5, 7), normal(7), normal(5), k=2)),
}


@pytest.mark.parametrize("bank", BANKS)
def test_a_bank_is_the_same_after_its_file(tmp_path, bank):
    save_directions(BANKS[bank], tmp_path / "bank.safetensors")
    found = load_directions(tmp_path / "bank.safetensors")
    assert described_kind(found) == described_kind(BANKS[bank])
    assert found.names == BANKS[bank].names
    layout, activation = Layout((5, 2)), normal(3, 5, 2, seed=4)
    torch.testing.assert_close(found.values(activation, layout), BANKS[bank].values(activation, layout))


def test_two_banks_and_two_options_of_a_kind_have_two_fingerprints():
    kinds = [*BANKS.values(), HeadConcept(2), HeadConcept(3), Groups(ChannelConcept(), {"a": [0]}),
             Groups(ChannelConcept(), {"a": [1]}), Directions(normal(3, 5, seed=1))]  # fmt: skip
    assert len({described_kind(kind)["fingerprint"] for kind in kinds}) == len(kinds)


def test_published_checkpoints_are_read(tmp_path):
    weight, decoder, bias, shift = normal(5, 7), normal(7, 5, seed=1), normal(7, seed=2), normal(5, seed=3)
    activation, layout = normal(2, 5, 3), Layout((5, 3))
    rows = activation.transpose(1, 2)
    expected = torch.relu((rows - shift) @ weight + bias).transpose(1, 2)
    named = {"W_enc": weight, "W_dec": decoder, "b_enc": bias, "b_dec": shift}
    linear = {"encoder.weight": weight.T, "encoder.bias": bias, "decoder.weight": decoder.T, "decoder.bias": shift}
    for tensors in (named, linear):
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, tmp_path / "sae.safetensors")
        found = load_directions(tmp_path / "sae.safetensors")
        torch.testing.assert_close(found.values(activation, layout), expected)
        torch.testing.assert_close(found.matrix, decoder)
    with pytest.raises(InputError, match=r"^An autoencoder's tensors are W_enc"):
        directions_of_autoencoder({"W_enc": weight})
    # those of JumpReLU and TopK checkpoints, whose latents are not relu(...)
    for name in ("threshold", "k"):
        with pytest.raises(InputError, match=rf"^A sparse autoencoder with ReLU has no tensors '{name}': its "):
            directions_of_autoencoder({"W_enc": weight, "W_dec": weight.T, name: torch.ones(7)})


def test_files_that_hold_no_directions_are_refused(tmp_path):
    np.save(tmp_path / "bank.npy", normal(3, 5).numpy())
    assert load_directions(tmp_path / "bank.npy").matrix.shape == (3, 5)
    (tmp_path / "text.safetensors").write_text("directions")
    for name in ("text.safetensors", "missing.safetensors"):
        with pytest.raises(InputError, match=rf"{name}' cannot be read as directions"):
            load_directions(tmp_path / name)
    with pytest.raises(InputError, match=r"^The directions have 5 channels, but a layer of shape \[4, 2\] has 4\.$"):
        load_directions(tmp_path / "bank.npy").size(Layout((4, 2)))


def test_patterns_ignore_noise_that_both_sets_share_and_filters_do_not():
    signal, distractor = torch.tensor([1.0, 0, 0, 0]), torch.tensor([1.0, 3.0, 0, 0])
    noise = normal(4000, 1, seed=1) * distractor + 0.1 * normal(4000, 4, seed=2)
    examples = {"signal": (noise[:2000] + signal, noise[2000:])}
    pattern, filtered = pattern_directions(examples).matrix[0], filter_directions(examples).matrix[0]
    means = noise[:2000].mean(0) + signal - noise[2000:].mean(0)
    torch.testing.assert_close(pattern, means / means.norm(), rtol=1e-5, atol=1e-6)
    assert float(pattern[0]) > 0.97
    # the plane that separates the two sets is turned away from the distractor
    assert float(filtered[1]) < -0.25


def test_nmf_finds_the_directions_that_made_the_activations():
    pytest.importorskip("sklearn")
    truth = torch.eye(3, 6).repeat_interleave(1, 0) + torch.eye(3, 6).roll(3, 1)
    sparse = normal(400, 3).clamp(min=0) * (normal(400, 3, seed=1) > 0)
    found = nmf_directions(sparse @ truth, 3).matrix
    cosines = found @ (truth / truth.norm(dim=1, keepdim=True)).T
    assert sorted(cosines.argmax(1).tolist()) == [0, 1, 2]
    assert float(cosines.amax(1).min()) > 0.99
    with pytest.raises(InputError, match=r"^NMF needs activations that are not negative"):
        nmf_directions(normal(10, 3), 2)


def test_activations_are_those_of_all_positions_in_some_order():
    model, samples = made(Convolutions), data(3)
    found = layer_activations(model, samples, "high", 2)
    with torch.no_grad():
        expected = model.high(model.second(model.low(model.first(samples[:2])))).movedim(1, -1).flatten(0, 2)
    torch.testing.assert_close(found[found[:, 0].argsort()].sum(0), expected.sum(0))
    assert found.shape == (32, 5)


@pytest.mark.parametrize("wrong", ["channel", "heads", "heads:0", "tokens:3", "directions", ""])
def test_kinds_are_named_by_strings(wrong):
    assert kind_named("heads:12") == HeadConcept(12)
    assert isinstance(kind_named("channels"), ChannelConcept)
    with pytest.raises(InputError, match=rf"^There is no kind of concept '{wrong}'"):
        kind_named(wrong)
