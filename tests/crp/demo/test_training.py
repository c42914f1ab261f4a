"""Training is repeatable, and its parts are what they say."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

import crp.demo.training as training
from crp.demo import training_vit
from crp.demo.scenes import Scenes
from crp.demo.training_cnn import spread, stacked
from crp.demo.vit import DemoTransformer


def test_spread_by_hand():
    values = torch.tensor([[3.0, 0.0, 0.0, 0.0], [2.0, 2.0, 2.0, 2.0], [0.0, 3.0, 4.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    assert spread(values, 1).tolist() == pytest.approx([0.5, 1.0, 0.7, 0.0], abs=1e-4)
    assert spread(100 * values.T, 0).tolist() == pytest.approx([0.5, 1.0, 0.7, 0.0], abs=1e-4)


def test_stacked_scenes_are_the_data_set():
    scenes = Scenes("train", 12)
    inputs, labels = stacked(scenes)
    assert labels.tolist() == [*range(10), 0, 1]
    assert all(torch.equal(inputs[index], scenes[index][0]) for index in range(12))


SHORT = (training_vit.Cycle(1, 1, outlines=False), training_vit.Cycle(1, 0.5, outlines=True))
NEEDS_MUON = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch before 2.9 has no Muon")
QUICK = [("cnn", {"epochs": 2}), pytest.param("vit", {"cycles": SHORT}, marks=NEEDS_MUON)]


@NEEDS_MUON
def test_weights_are_the_mean_of_those_after_the_last_two_cycles():
    scenes, steps = Scenes("train", 32), (*SHORT, training_vit.Cycle(1, 0.3, outlines=True))
    one, two, three = (training_vit.train_vit(scenes, cycles=steps[:count]) for count in (1, 2, 3))
    assert training_vit.AVERAGED == 2
    ends, seed = [], 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, data = DemoTransformer(), training_vit.described(scenes)
        training_vit.initialize(model)
        for number, cycle in enumerate(steps):
            torch.manual_seed(seed + number) if number else None
            training_vit.run_cycle(model, data, cycle)
            ends.append(model.head.weight.detach().clone())
    for trained, count in ((one, 1), (two, 2), (three, 3)):
        mean = sum(ends[max(0, count - 2) : count]) / min(2, count)
        assert torch.equal(trained.head.weight, mean.half().float())


def test_each_batch_is_shown_mirrored_turned_and_shifted():
    """Every orientation and shift occurs, pixels keep their colours, and nothing else happens to the batch."""
    rows, columns = torch.meshgrid(torch.arange(12.0), torch.arange(12.0), indexing="ij")
    batch = torch.stack([rows, columns, torch.ones(12, 12)])[None].repeat(2, 1, 1, 1)
    places, orientations = set(), set()
    for seed in range(400):
        torch.manual_seed(seed)
        shown = training_vit.varied(batch)
        assert shown.shape == batch.shape
        assert torch.equal(shown[0], shown[1])
        assert torch.equal(shown[:, 2], batch[:, 2])
        # away from the border, one step down or right is one step in a row or column of the scene
        down, right = (shown[0, :2, 6, 5] - shown[0, :2, 5, 5]), (shown[0, :2, 5, 6] - shown[0, :2, 5, 5])
        orientations.add((*down.tolist(), *right.tolist()))
        places.add(tuple(shown[0, :2, 5, 5].tolist()))
    assert len(orientations) == 8
    spans = 2 * training_vit.SHIFT + 1
    assert spans**2 <= len(places) <= (spans + 1) ** 2


def test_tokens_learn_what_their_patch_shows_and_nothing_of_octagons_and_tags():
    scenes = Scenes("train", 40)
    inputs, labels, objects, attributes = training_vit.described(scenes)
    expected, same = stacked(scenes)
    assert torch.equal(inputs, expected)
    assert torch.equal(labels, same)
    assert scenes.tag_box(9)
    assert torch.equal(objects[9, 0], torch.from_numpy(scenes.masks(9)["shape"]))
    names = [[values[place] for values, place in zip(training_vit.ATTRIBUTES, row, strict=True)] for row in attributes]
    for index, (shape, texture, colour) in enumerate(names):
        scene = scenes.scene(index)
        assert (shape, texture, colour) == (scene.shape.replace("octagon", "disc"), scene.texture, scene.colour)


def test_attribute_losses_by_hand():
    """One scene of four patches: one shows the object, one half of it, two nothing."""
    objects = torch.zeros(1, 1, 24, 24)
    objects[:, :, :12, :12] = 1
    objects[:, :, :6, 12:] = 1
    values = torch.zeros(1, 4, 16)
    values[0, 0, 2] = 3.0  # the first patch: shape 2
    values[0, 1:, 4] = 3.0  # the others: no shape
    shape, texture, colour = training_vit.attribute_losses(values, objects, torch.tensor([[2, 1, 4]]))
    assert shape.item() == pytest.approx(math.log(1 + 4 * math.exp(-3)))
    assert texture.item() == pytest.approx(math.log(5))
    assert colour.item() == pytest.approx(math.log(6))


def test_outlines_by_hand():
    """A patch has nine cells of four pixels, row by row; the second patch is filled in its cell in row 1, column 2."""
    objects = torch.zeros(1, 1, 12, 24)
    objects[:, :, 4:8, 20:24] = 1
    values = torch.zeros(1, 2, 16 + 9)
    values[0, 1, 16 + 5] = 4.0
    *_, outline = training_vit.attribute_losses(values, objects, torch.tensor([[0, 0, 0]]))
    assert outline.item() == pytest.approx((17 * math.log(2) + math.log(1 + math.exp(-4))) / 18)


def test_positions_begin_as_waves_of_row_and_column():
    model = DemoTransformer()
    training_vit.initialize(model)
    positions = model.pos_embed[0, 1:].unflatten(0, (8, 8))
    assert torch.equal(positions[..., :32], positions[:, :1, :32].expand(8, 8, 32))
    assert torch.equal(positions[..., 32:], positions[:1, :, 32:].expand(8, 8, 32))
    assert positions[2, 5, [0, 16, 32, 48]].tolist() == pytest.approx(
        [0.4546487, -0.2080734, -0.4794621, 0.1418311], abs=1e-6
    )
    assert model.pos_embed[0, 0].eq(0).all()


@pytest.mark.parametrize(("network", "length"), QUICK)
def test_the_command_writes_weights_and_training_depends_on_its_seed_alone(network, length, tmp_path, monkeypatch):
    recipe = training.RECIPES[network]
    quick = replace(recipe, scenes=50, train=partial(recipe.train, **length))
    monkeypatch.setattr(training, "RECIPES", {network: quick})
    monkeypatch.setattr(training, "THREADS", torch.get_num_threads())
    monkeypatch.setattr(training, "report", partial(training.report, count=10))
    path = tmp_path / "weights.safetensors"
    result = CliRunner().invoke(training.main, [network, str(path), "--seed", "3"])
    assert result.exit_code == 0, result.output
    torch.manual_seed(3)
    before = torch.get_rng_state()
    expected, other = (quick.train(Scenes("train", 50), seed=seed) for seed in (3, 1))
    assert torch.equal(torch.get_rng_state(), before)
    stored = load_file(path)
    assert stored.keys() == expected.state_dict().keys()
    for name, weight in stored.items():
        assert weight.dtype == recipe.dtype
        assert torch.equal(weight.float(), expected.state_dict()[name])
    assert any(not torch.equal(weight, other.state_dict()[name]) for name, weight in expected.state_dict().items())
    for words, value in training.report(expected).items():
        assert f"{value:7.1%}  {words}" in result.output
