"""Fitting the last layer again: a class that was known by the tag is known by its shape, with labels or without."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from crp import InputError, ModelError
from crp.correction import measure_fix, reactive, refit, suppress
from crp.correction.counterfactuals import COPIES, Counterfactuals
from crp.correction.presence import find_presence
from crp.correction.refitting import _Examples
from tests.crp.correction.planted import TAG, planted_data, planted_model


def pasted_and_cleaned() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Other samples of class 1 without the tag, of class 0 with it, and of class 0 without it."""
    data, labels = planted_data(seed=5)
    cleaned, pasted, plain = data[labels == 1].clone(), data[labels == 0].clone(), data[labels == 0]
    cleaned[:, TAG] = 0
    pasted[:, TAG, 0, 3] = 1
    return cleaned, pasted, plain


def called(model: nn.Module, data: torch.Tensor, target: int) -> float:
    with torch.no_grad():
        return float((model(data).argmax(1) == target).double().mean())


@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("first", [None, suppress, reactive])
def test_the_shape_decides_afterwards(first: object, labelled: bool) -> None:
    model, (data, labels) = planted_model(), planted_data()
    cleaned, pasted, plain = pasted_and_cleaned()
    assert (called(model, cleaned, 1), called(model, pasted, 1), called(model, plain, 0)) == (0.0, 1.0, 1.0)
    after = None if first is None else first(model, data, "conv", 0)
    found = refit(model, data, "conv", 0, labels=labels if labelled else None, after=after)
    assert called(found.model, cleaned, 1) > 0.95
    assert called(found.model, pasted, 1) < 0.05
    assert called(found.model, plain, 0) > 0.95
    assert found.in_weights == (first is not reactive)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, found.model.state_dict()[
        name if first is not reactive else name.replace("conv.", "conv.0.")])}  # fmt: skip
    assert changed - {"conv.weight", "conv.bias"} == {"logits.weight", "logits.bias"}


def test_figures_say_what_the_edited_pictures_say() -> None:
    model, (data, _) = planted_model(), planted_data()
    held_out, truth = planted_data(seed=3)
    found = refit(model, data, "conv", 0)
    figures = measure_fix(model, found, held_out, "conv", 0, labels=truth)
    assert (figures.target, figures.having, figures.lacking) == (1, 54, 66)
    before, after = figures.before, figures.after
    assert (before.right_with, before.right_taken_out, before.pulled) == (1.0, 0.0, 1.0)
    assert before.right == pytest.approx(114 / 120)  # six of class 1 have no tag
    assert after.right_taken_out > 0.95
    assert after.pulled < 0.05
    assert after.right > 0.98
    with torch.no_grad():
        assert after.right == pytest.approx(float((found.model(held_out).argmax(1) == truth).double().mean()))


def test_variants_exchange_the_region_and_nothing_else() -> None:
    model, (data, _) = planted_model(), planted_data()
    presence = find_presence(model, data, "conv", 0, reach=1, kind=_channels(), progress=False)
    made = Counterfactuals(model, data, presence)
    found = {one.name: one for one in made.run(features=True, progress=False)}
    with torch.no_grad():
        features = model[:4](data)
    torch.testing.assert_close(found["as they are"].features, features)
    # the mean of the tag's channel: one position of 64 is 1
    assert bool((found["taken out"].features[:, TAG] == 0).all())
    assert bool((found["put in"].features[:, TAG] == 1 / 64).all())
    region = 9 * 1.6 / 64  # at most nine positions change, by at most 1.05 and the tag's neighbours' noise
    assert float((found["put in"].features[:, 1:] - features[found["put in"].samples, 1:]).abs().max()) < region


def _channels() -> object:
    from crp import ChannelConcept

    return ChannelConcept()


def test_too_few_samples_or_no_last_layer_are_refused() -> None:
    model, (data, _) = planted_model(), planted_data()
    with pytest.raises(InputError, match="at least 10 of each are needed"):
        refit(model, data[:16], "conv", 0)
    with pytest.raises(ModelError, match="not that of a linear layer"):
        refit(nn.Sequential(*model, nn.Softmax(1)), data, "0", 0)
    with pytest.raises(InputError, match=r"Labels are whole numbers \[120\], given \[3\]"):
        refit(model, data, "conv", 0, labels=torch.arange(3))
    with pytest.raises(InputError, match=r"Labels are a tensor of whole numbers \[120\], given \[0, 1, 0"):
        refit(model, data, "conv", 0, labels=[0, 1] * 60)
    for wrong in (2, -1):
        labels = torch.full((120,), wrong)
        sentence = f"A sample has the label {wrong}, but the model has the classes 0 to 1"
        with pytest.raises(InputError, match=sentence):
            refit(model, data, "conv", 0, labels=labels, progress=False)
        with pytest.raises(InputError, match=sentence):
            measure_fix(model, refit(model, data, "conv", 0, progress=False), data, "conv", 0, labels=labels)


def test_with_any_boost_the_concept_says_nothing_about_the_class() -> None:
    def weights(having: list[bool], weight: float) -> torch.Tensor:
        some = torch.zeros(len(having))
        return _Examples(some[:, None], some, weight, some, torch.tensor(having), some, True).weights(6)

    # two samples have the concept, and three lack it, in which it is put
    as_they_are, taken_out, put_in = (
        weights([True, False, True, False, False], 1),
        weights([True] * 2 * COPIES, 1 / COPIES),
        weights([False] * 3, 1),
    )
    assert float(as_they_are[[0, 2]].sum()) == 12
    assert float(taken_out.sum()) == pytest.approx(12)
    assert float(as_they_are[[1, 3, 4]].sum()) == float(put_in.sum()) == 3
