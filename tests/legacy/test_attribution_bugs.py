"""Where zennit-crp's `crp.attribution` was wrong: a test for each line of the migration guide."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from zennit.composites import EpsilonPlusFlat

from crp.attribution import CondAttribution
from crp.errors import InputError, ModelError
from tests.legacy import scripts
from tests.oracle.comparing import assert_relevance_close

COMPOSITE = EpsilonPlusFlat()


def test_bug_order_of_conditions_with_different_layers(model):
    """attribution.py:254. Theirs returned them grouped by their layers."""
    conditions = [{"conv3": [0], "y": [0]}, {"y": [1]}, {"conv3": [1], "y": [2]}]
    attribution = CondAttribution(model)
    together = attribution(scripts.data(), conditions, COMPOSITE).heatmap
    for row, condition in enumerate(conditions):
        assert_relevance_close(together[row], attribution(scripts.data(), [condition], COMPOSITE).heatmap[0], 1e-12)


def test_bug_pairs_with_different_layers_became_products(model):
    """attribution.py:258. Two samples and two conditions are two results."""
    conditions = [{"conv3": [0], "y": [0]}, {"y": [1]}]
    attribution = CondAttribution(model)
    together = attribution(scripts.data(2), conditions, COMPOSITE).heatmap
    assert len(together) == 2
    for row, condition in enumerate(conditions):
        alone = attribution(scripts.data(2)[row : row + 1], [condition], COMPOSITE).heatmap[0]
        assert_relevance_close(together[row], alone, 1e-12)


@pytest.mark.parametrize("exclude_parallel", [True, False])
def test_bug_y_in_some_conditions_only(model, exclude_parallel):
    """attribution.py:107. Targets went to the wrong rows."""
    conditions = [{"conv3": [0]}, {"conv3": [1], "y": [2]}]
    options = {"init_rel": lambda prediction: prediction, "exclude_parallel": exclude_parallel}
    attribution = CondAttribution(model)
    together = attribution(scripts.data(), conditions, COMPOSITE, **options).heatmap
    for row, condition in enumerate(conditions):
        alone = attribution(scripts.data(), [condition], COMPOSITE, **options).heatmap[0]
        assert_relevance_close(together[row], alone, 1e-12)


@pytest.mark.parametrize("exclude_parallel", [True, False])
def test_bug_a_misspelt_layer_only_warned(model, exclude_parallel):
    """attribution.py:498. With parallel ways open the map was then unconditioned."""
    with pytest.raises(InputError, match=r"^The model has no layer 'conv_3': did you mean 'conv3'"):
        CondAttribution(model)(
            scripts.data(), [{"conv_3": [0], "y": [1]}], COMPOSITE, exclude_parallel=exclude_parallel
        )


def test_bug_a_layer_that_is_never_called_looked_irrelevant(model):
    """attribution.py:523. Zeros now mean that no relevance arrives."""
    model.spare = nn.Conv2d(1, 1, 1)
    with pytest.raises(ModelError, match=r"^The model never calls 'spare', or calls"):
        CondAttribution(model)(scripts.data(), [{"y": [1]}], COMPOSITE, ["spare"])


def test_bug_a_module_called_twice_was_recorded_once():
    """attribution.py:460. The last call was recorded, and both were masked."""

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.shared, self.head = nn.Linear(3, 3), nn.Linear(3, 2)

        def forward(self, data):
            return self.head(self.shared(self.shared(data)))

    with pytest.raises(ModelError, match=r"^Layer 'shared' is called more than once in one forward pass"):
        CondAttribution(Twice())(torch.ones(1, 3), [{"shared": [0], "y": [1]}], COMPOSITE)


@pytest.mark.parametrize("kind", [CondAttribution, scripts.Doubled])
def test_bug_weighted_masks_were_squared(model, kind):
    """attribution.py:56. With parallel ways excluded the mask ran twice on the same relevance."""

    def half(row, ids, layer):
        def mask(relevance):
            relevance[row] = relevance[row] / 2
            return relevance

        return mask

    conditions = [{"conv3": [0], "conv2": [1], "y": [1]}]
    found = kind(model)(scripts.data(), conditions, COMPOSITE, mask_map=half).heatmap
    whole = kind(model)(scripts.data(), conditions, COMPOSITE, mask_map=lambda row, ids, layer: lambda part: part)
    assert_relevance_close(found, whole.heatmap / 4, 1e-12)


@pytest.mark.parametrize("kind", [CondAttribution, scripts.Doubled])
@pytest.mark.parametrize("exclude_parallel", [True, False])
def test_bug_relevance_at_a_masked_layer_was_recorded_after_its_mask(model, kind, exclude_parallel):
    """zennit-crp's own tests want what arrives; torch 2 changed what its hooks record."""
    options = {"exclude_parallel": exclude_parallel}
    masked = kind(model)(scripts.data(), [{"conv3": [0], "y": [1]}], COMPOSITE, **options).relevances["conv3"]
    free = kind(model)(scripts.data(), [{"y": [1]}], COMPOSITE, ["conv3"], **options).relevances["conv3"]
    assert free[:, 1:].any()
    assert_relevance_close(masked, free, 1e-12)


def test_bug_a_table_lost_its_heatmap():
    """attribution.py:119. Input [N, F] was summed to one number."""
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    assert CondAttribution(model)(torch.ones(1, 3), [{"y": [0]}], COMPOSITE).heatmap.shape == (1, 3)


@pytest.mark.parametrize("kind", [CondAttribution, scripts.Doubled])
def test_bug_generate_without_y(model, kind):
    """attribution.py:434. An IndexError at the last batch."""
    conditions = [{"conv3": [0]}, {"conv3": [1]}, {"conv3": [2]}]
    parts = list(
        kind(model).generate(scripts.data(), conditions, COMPOSITE, init_rel=1, batch_size=2, verbose=False)
    )
    whole = kind(model)(scripts.data(), conditions, COMPOSITE, init_rel=1).heatmap
    assert_relevance_close(torch.cat([part.heatmap for part in parts]), whole, 1e-12)


def test_bug_a_layer_that_gives_a_tuple_crashed():
    """attribution.py:459. It is refused with a sentence."""
    model = nn.Sequential(nn.LSTM(3, 4, batch_first=True))
    with pytest.raises(ModelError, match=r"^Layer '0' gives a tuple, not a tensor; its relevance cannot be read\.$"):
        CondAttribution(model)(torch.ones(1, 2, 3), [{"y": [0]}], None, ["0"])


@pytest.mark.parametrize("kind", [CondAttribution, scripts.Doubled])
def test_bug_parameters_lost_requires_grad_and_grad(model, kind):
    """attribution.py:42 and 539."""
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    data = scripts.data()
    attribution = kind(model)
    attribution(data, [{"conv3": [0], "y": [1]}], COMPOSITE)
    list(attribution.generate(data, [{"conv3": [0], "y": [1]}], COMPOSITE, verbose=False))
    assert all(parameter.requires_grad and bool((parameter.grad == 1).all()) for parameter in model.parameters())
    assert data.grad is None


@pytest.mark.parametrize("kind", [CondAttribution, scripts.Doubled])
def test_bug_an_abandoned_generator_left_hooks_on_the_model(model, kind):
    """attribution.py:347 and 452."""
    parts = kind(model).generate(scripts.data(), [{"y": [c]} for c in range(3)], COMPOSITE, batch_size=1, verbose=False)
    next(parts)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    parts.close()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("kind", [CondAttribution, scripts.Doubled])
def test_bug_results_kept_the_graph(model, kind):
    """attribution.py:56, 349 and 447: the prediction was not detached."""
    result = kind(model)(scripts.data(), [{"conv3": [0], "y": [1]}], COMPOSITE, ["conv1"])
    tensors = [result.heatmap, result.prediction, *result.activations.values(), *result.relevances.values()]
    assert not any(tensor.requires_grad for tensor in tensors)


@pytest.mark.parametrize("kind", [CondAttribution, scripts.Doubled])
def test_bug_on_device_was_ignored_for_generated_heatmaps(model, kind):
    """attribution.py:441. The device "meta" shows where a tensor went."""
    parts = kind(model).generate(
        scripts.data(), [{"conv3": [0], "y": [1]}], COMPOSITE, ["conv1"], on_device="meta", verbose=False
    )
    (result,) = parts
    tensors = [result.heatmap, *result.activations.values(), *result.relevances.values()]
    assert {str(tensor.device) for tensor in tensors} == {"meta"}


def test_bug_generate_took_one_sample_only(model):
    """attribution.py:396. Of several samples, each batch holds sample by sample its conditions."""
    conditions = [{"conv3": [c], "y": [1]} for c in range(3)]
    attribution = CondAttribution(model)
    parts = list(attribution.generate(scripts.data(2), conditions, COMPOSITE, batch_size=3, verbose=False))
    assert_relevance_close(parts[0].heatmap, attribution(scripts.data(2), conditions, COMPOSITE).heatmap, 1e-12)
