"""Exchanged activations: only what lies above the layer is run again, with the result of running the whole model."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from crp.concepts import ChannelConcept
from crp.correction import Correction, project, reactive, refit
from crp.correction.counterfactuals import NAMES, Counterfactuals
from crp.correction.presence import find_presence


class Residual(nn.Module):
    """What is added to a block's output bypasses the layers inside it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.inner, self.act = nn.Conv2d(6, 6, 3, padding=1), nn.ReLU()
        self.outer = nn.Conv2d(6, 6, 1)
        self.logits = nn.Linear(6, 4)

    def forward(self, data: Tensor) -> Tensor:
        below = torch.relu(self.stem(data))
        block = below + self.outer(self.act(self.inner(below)))
        return self.logits(torch.relu(block).mean((2, 3)))


@pytest.fixture(scope="module")
def model() -> Residual:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return Residual().eval()


@pytest.fixture(scope="module")
def data() -> Tensor:
    draw = torch.Generator().manual_seed(4)
    found = torch.rand(70, 3, 8, 8, generator=draw)
    found[::3, :, 5:, 5:] += 3
    return found


def whole(
    model: nn.Module, made: Counterfactuals, data: Tensor, name: str, correction: Correction | None
) -> tuple[Tensor, Tensor]:
    """Run the whole model on every variant, with hooks that exchange and correct: outputs and features."""
    rows, drawn = made._plans[name]
    presence, calls, layer = made._presence, {}, model.get_submodule(made._presence.layer)
    changed = None if correction is None or correction.change is None else correction
    hooks = [layer.register_forward_hook(lambda _, given, output: calls.update(read=output.clone()))]
    if changed and changed.layer != presence.layer:
        place = model.get_submodule(changed.layer)
        hooks.append(place.register_forward_hook(lambda _, given, output: changed.change(output)))
    if drawn is not None:
        donors = made._donors[name]
        model(data[donors])
        other = calls["read"][drawn].flatten(2)
        having = rows if name == "taken out" else donors[drawn]
        region = presence.near[having][:, None]
        hooks.append(
            layer.register_forward_hook(
                lambda _, given, output: torch.where(region, other, output.flatten(2)).reshape(output.shape)
            )
        )
    if changed and changed.layer == presence.layer:
        hooks.append(layer.register_forward_hook(lambda _, given, output: changed.change(output)))
    hooks.append(model.logits.register_forward_hook(lambda _, given, output: calls.update(features=given[0].clone())))
    output = model(data[rows])
    for hook in hooks:
        hook.remove()
    if correction is not None and correction.last is not None:
        output = correction.last(calls["features"])
    return output, calls["features"]


@torch.no_grad()
def test_variants_are_those_of_the_whole_model(model: Residual, data: Tensor) -> None:
    presence = find_presence(model, data, "inner", 0, ChannelConcept(), active=0.6, reach=1, progress=False)
    made = Counterfactuals(model, data, presence)
    with torch.enable_grad():
        corrections = {
            "none": None,
            "at the layer": reactive(model, data, "inner", 0, active=0.6, reach=1, progress=False),
            "above it": project(model, data, "inner", 0, active=0.6, reach=1, progress=False),
            "last": refit(model, data, "inner", 0, active=0.6, reach=1, progress=False),
        }
    assert [corrections[name].layer for name in ("at the layer", "above it")] == ["inner", "act"]
    for correction in corrections.values():
        found = {one.name: one for one in made.run(correction, features=True, progress=False)}
        plain = made.run(correction, names=("put in", "as they are"), progress=False)
        assert [one.name for one in plain] == ["put in", "as they are"]
        for name in NAMES:
            outputs, features = whole(model, made, data, name, correction)
            torch.testing.assert_close(found[name].outputs, outputs)
            torch.testing.assert_close(found[name].features, features)
            assert torch.equal(found[name].samples, made._plans[name][0])
        for one in plain:
            torch.testing.assert_close(one.outputs, found[one.name].outputs)
    assert not torch.allclose(found["taken out"].outputs, found["as they are"].outputs[found["taken out"].samples])


def test_the_layer_is_run_once_for_each_sample_and_donor(
    model: Residual, data: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the part above the layer is run for each of three exchanges; whole passes would run it 3 or 2 times."""
    presence = find_presence(model, data, "inner", 0, ChannelConcept(), active=0.6, reach=1, progress=False)
    made, rows = Counterfactuals(model, data, presence), []
    own = model.stem.forward
    monkeypatch.setattr(model.stem, "forward", lambda values: (rows.append(len(values)), own(values))[1])
    made.run(progress=False)
    donors = min(64, len(made.having)) + min(64, len(made.lacking))
    assert sum(rows) == len(data) + donors
