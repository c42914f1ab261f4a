"""What becomes of the explained output without a concept: measured by `explain`, and by plain hooks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from zennit.canonizers import SequentialMergeBatchNorm
from zennit.composites import EpsilonPlusFlat

import crp
from crp.attribution.followed_pass import FollowedModel
from crp.attribution.starts import Difference, Given, Logit
from crp.explanations import ConceptPart, from_json, numbers, to_json
from crp.explanations.computation import explain

from .conftest import LAYERS, Pictures, network, noise


def without(model: nn.Module, image: Tensor, layer: str, concept: int, value: float = 0) -> Tensor:
    """The logits with one channel of a layer set to zero, or another value, by a hook."""

    def cleared(module: nn.Module, args: tuple, output: Tensor) -> Tensor:
        output = output.clone()
        output[:, concept] = value
        return output

    handle = model.get_submodule(layer).register_forward_hook(cleared)
    with torch.no_grad():
        logits = model(image[None])[0]
    handle.remove()
    return logits


def parts(explanation: crp.explanations.Explanation, layers: Sequence[str] = LAYERS) -> list[ConceptPart]:
    found = [part for layer in explanation.layers if layer.layer in layers for part in layer.ranked]
    assert len(found) >= 2 * len(layers)
    return found


def test_every_card_has_the_effect_of_removing_its_concept(model, library, image):
    for target in ("ant", "bee"):
        place = ["ant", "bee"].index(target)
        before = float(model(image[None]).detach()[0, place])
        for part in parts(explain(model, image, library, target=target)):
            logits = without(model, image, part.layer, part.concept)
            assert part.effect.before == pytest.approx(before, rel=1e-9)
            assert part.effect.after == pytest.approx(float(logits[place]), abs=1e-9)
            assert part.effect.probability == pytest.approx(float(logits.softmax(0)[place]), abs=1e-9)
            mean = library.means(part.layer).numbers[part.concept]
            logits = without(model, image, part.layer, part.concept, mean)
            assert part.effect.at_mean == pytest.approx(float(logits[place]), abs=1e-9)
            assert part.effect.mean_probability == pytest.approx(float(logits.softmax(0)[place]), abs=1e-9)
            assert part.effect.falls == (before - part.effect.after, before - part.effect.at_mean)


def test_numbers_that_start_have_no_effects(model, library, image):
    """They are the same without a concept, which would read as if no concept mattered."""
    said = "The start is given as fixed numbers, which do not change without a concept: no effects are measured."
    numbers_alone = Given(torch.tensor([[1.0, 0.5, 0.0]], dtype=image.dtype))
    for target in (numbers_alone, Difference(numbers_alone, Given(2.0)), Given(lambda output: torch.ones_like(output))):
        found = explain(model, image, library, target=target)
        assert all(part.effect is None for part in parts(found))
        assert said in found.provenance["settings"]["reason"]
        without_effects = explain(model, image, library, target=target, effects=False)
        assert said not in without_effects.provenance["settings"]["reason"]
    for target in (Given(), Difference(Logit(0), numbers_alone), Given(lambda output: -output)):
        found = explain(model, image, library, target=target)
        assert all(part.effect.falls[0] for part in parts(found))
        assert said not in found.provenance["settings"]["reason"]


def test_an_image_of_another_size_than_those_mined(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(8, 3),
    ).double()  # fmt: skip
    library = crp.mine(
        model, Pictures(torch.float64), layers=["0", "3"], path=tmp_path / "library.crp", k=2, patches=1,
        preprocessing=Pictures.preprocessing, progress=False,
    )  # fmt: skip
    image = torch.randn(3, 22, 14, generator=torch.Generator().manual_seed(0)).double()
    for part in parts(explain(model, image, library, target=1), ["0", "3"]):
        mean = library.means(part.layer).numbers[part.concept]
        wanted = [without(model, image, part.layer, part.concept, value)[1] for value in (0, mean)]
        assert [part.effect.after, part.effect.at_mean] == pytest.approx([float(value) for value in wanted], abs=1e-9)


def test_removals_cost_one_forward_pass_and_few_of_each_upper_part(model, library, image, monkeypatch):
    """With two targets there are three views of the same prediction, and what they share is measured once.

    Pairs of concepts are measured in the same pass.
    """
    ran = []
    run = FollowedModel.run
    monkeypatch.setattr(FollowedModel, "run", lambda self, data, step: ran.append(step) or run(self, data, step))
    assert any(len(layer.ranked) > 1 for layer in explain(model, image, library).layers)
    assert len(ran) == 1 + 2 * len(LAYERS)
    ran.clear()
    views = [explain(model, image, library, target="ant", against="cat", pairs=0)]
    shown = [{(part.layer, part.concept) for part in parts(view)} for view in (*views, *views[0].beside)]
    new = [{layer for layer, _ in here - set().union(*shown[:place])} for place, here in enumerate(shown)]
    assert len(ran) == 1 + len(LAYERS) + sum(map(len, new))
    assert len(ran) < 1 + 4 * len(LAYERS)


def test_a_library_without_means_has_effects_of_zero_alone_and_says_so(model, library, image, tmp_path):
    older = tmp_path / "older"
    shutil.copytree(library.path, older)
    manifest = json.loads((older / "manifest.json").read_bytes())
    for layer in manifest["layers"]:
        del layer["means"]
    (older / "manifest.json").write_text(json.dumps(manifest))
    explanation = explain(model, image, crp.open_library(older))
    assert all(part.effect.at_mean is None and len(part.effect.falls) == 1 for part in parts(explanation))
    said = explanation.provenance["settings"]["reason"]
    assert said.count("The library holds no means of concepts: concepts are only set to zero.") == 1


def test_the_effect_on_a_difference_has_no_probability(model, library, image):
    explanation = explain(model, image, library, target="ant", against="cat").beside[1]
    for part in parts(explanation):
        logits = without(model, image, part.layer, part.concept)
        assert part.effect.after == pytest.approx(float(logits[0] - logits[2]), abs=1e-9)
        assert part.effect.probability is None


def test_effects_can_be_left_out_and_survive_json(model, library, image):
    assert all(part.effect is None for part in parts(explain(model, image, library, effects=False)))
    explanation = explain(model, image, library)
    again = from_json(to_json(explanation))
    assert numbers(again) == numbers(explanation)
    assert [part.effect for part in parts(again)] == [part.effect for part in parts(explanation)]


def normed() -> nn.Module:
    model = network()
    torch.manual_seed(5)
    norm = nn.BatchNorm2d(6).double()
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    norm.weight.data.normal_()
    norm.bias.data.normal_()
    return nn.Sequential(model[0], norm, *model[1:])


def test_a_merged_batch_norm_is_part_of_the_layer_that_is_cleared(tmp_path):
    """The relevance of a concept is that of the normalised channel, and so is its effect."""
    model = normed().eval()
    options = {"layers": ["0"], "k": 3, "patches": 0, "preprocessing": Pictures.preprocessing, "progress": False}
    library = crp.mine(model, Pictures(torch.float64), path=tmp_path / "a.crp", **options)
    explanation = explain(model, noise(20), library, target=0)
    for part in parts(explanation, ["0"]):
        logits = without(model, noise(20), "1", part.concept)  # the batch norm
        assert part.effect.after == pytest.approx(float(logits[0]), abs=1e-9)


def test_layers_that_canonizers_change_have_no_effects_and_the_explanation_says_so(tmp_path):
    model = normed().eval()
    composite = EpsilonPlusFlat(canonizers=[SequentialMergeBatchNorm()])
    options = {"layers": ["0", "4"], "k": 3, "patches": 0, "preprocessing": Pictures.preprocessing, "progress": False}
    library = crp.mine(model, Pictures(torch.float64), path=tmp_path / "a.crp", composite=composite, **options)
    explanation = explain(model, noise(20), library, target=0, composite=composite)
    assert all(part.effect is None for part in parts(explanation, ["0"]))
    assert all(part.effect is not None for part in parts(explanation, ["4"]))
    assert "change the output of layer '0'" in explanation.provenance["settings"]["reason"]


def test_a_model_with_one_output_has_effects_without_probability(tmp_path):
    model = nn.Sequential(*network(), nn.Linear(3, 1).double())
    options = {"layers": ["3"], "k": 3, "patches": 0, "preprocessing": Pictures.preprocessing, "progress": False}
    library = crp.mine(model, Pictures(torch.float64), path=tmp_path / "a.crp", targets="prediction", **options)
    for part in parts(explain(model, noise(20), library), ["3"]):
        assert part.effect.probability is None
        assert part.effect.after == pytest.approx(float(without(model, noise(20), "3", part.concept)[0]), abs=1e-9)


def test_what_norms_hide_is_named(tmp_path):
    """Channel 0 dominates both norms: what they return hardly depends on its size, and very much on its presence."""
    torch.manual_seed(5)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 2)
    ).double()
    with torch.no_grad():
        model[1].weight.copy_(torch.eye(8))
        model[3].weight.copy_(torch.linalg.qr(torch.randn(8, 8)).Q)
        for linear in (model[1], model[3], model[5]):
            linear.bias.zero_()
        values = torch.tensor([20.0, 2.0, -1.5, 1.0, 0.8, -0.7, 0.5, 0.0], dtype=torch.float64)
        model[5].weight[0] = model[:5](values[None])[0] + 2 * torch.randn(8)
    image, data = values.view(2, 2, 2), torch.randn(6, 2, 2, 2, dtype=torch.float64)
    library = crp.mine(model, data, path=tmp_path / "mined.crp", layers=["1"], k=2, targets="prediction", patches=0)
    explanation = explain(model, image, library, concepts=2, target=0)
    layer = explanation.layers[0]
    before = explanation.target.logit
    falls = {channel: before - float(without(model, image, "1", channel)[0]) for channel in range(8)}

    assert layer.first_order
    assert abs(layer.relevance[0]) < 0.05 < 5 < falls[0]
    assert list(layer.overlooked) == [0]
    assert 0 not in [part.concept for part in layer.ranked]
    assert layer.overlooked[0].fall == pytest.approx(falls[0], abs=1e-9)
    assert falls[0] > before / 2 > max(abs(falls[part.concept]) for part in layer.ranked)
    assert from_json(to_json(explanation)).layers[0].overlooked == layer.overlooked
    assert not explain(model, image, library, concepts=8, target=0).layers[0].overlooked
