"""Ours against what zennit-crp 0.6.0 gave (tests/golden/make_golden.py) on VGG16 and ResNet-18."""

from __future__ import annotations

import copy
import functools
from importlib.metadata import version

import pytest
import torch

from crp.attribution import CondAttribution
from tests.golden import cases
from tests.golden.recorded import recorded
from tests.oracle.comparing import assert_relevance_close

# Both in float64; the recording is kept in float32. It was made with zennit 0.5.1, which leaves the epsilon of merged
# batch norms in place; zennit 1.0 does not.
TOLERANCE = 3e-7 if version("zennit") == "0.5.1" else 1e-3
# VGG16 in float64 takes seconds a case, and has nothing that ResNet-18 and the nets of tests/oracle have not.
SLOW = {"vgg16": [pytest.mark.slow], "resnet18": []}
# Masks at one convolution; "chained" has such masks at two, one below the other.
CONTAINED = ("one channel", "several channels")
ALL = [
    pytest.param(
        name,
        case,
        id=f"{name}-{case.name}",
        marks=[pytest.mark.slow] if case.name.removesuffix(", around") in CONTAINED else SLOW[name],
    )
    for name, entries in cases.ATTRIBUTIONS.items()
    for case in entries
]


@pytest.fixture(scope="module")
def models():
    """Each model once, in float64; freed after this file."""
    return functools.cache(lambda name: CondAttribution(cases.model(name)))


@pytest.mark.parametrize(("name", "case"), ALL)
def test_ours_gives_what_zennit_crp_gave(models, name, case):
    attribution = models(name)
    expected = recorded(name, attribution.model)
    data, composite = cases.images(case.samples), cases.composite(name)
    if case.batch_size:
        parts = list(
            attribution.generate(
                data,
                case.conditions,
                composite,
                record_layer=case.record,
                batch_size=case.batch_size,
                exclude_parallel=case.exclude_parallel,
                verbose=False,
            )
        )
        assert [len(part.heatmap) for part in parts] == [2, 2, 1]
        heatmap = torch.cat([part.heatmap for part in parts])
        relevances = {layer: torch.cat([part.relevances[layer] for part in parts]) for layer in case.record}
    else:
        result = attribution(
            data,
            case.conditions,
            composite,
            record_layer=case.record,
            start_layer=case.start_layer,
            init_rel=case.init(),
            exclude_parallel=case.exclude_parallel,
        )
        heatmap, relevances = result.heatmap, result.relevances
    key = f"{name}/{case.name}"
    # each row by itself: a strong condition must not hide a weak one
    for row, expected_row in zip(heatmap, expected[f"{key}/heatmap"], strict=True):
        assert float(expected_row.abs().max()) > 0
        assert_relevance_close(row, expected_row, TOLERANCE)
    for layer in case.record:
        assert_relevance_close(relevances[layer].flatten()[::7], expected[f"{key}/{layer}"], TOLERANCE)


def heatmap_of_zennit(model, data, name, layer, ids):
    """By zennit alone, masked as zennit-crp does, on the gradient."""
    kept = torch.zeros(512, 1, 1, dtype=data.dtype)
    kept[ids] = 1

    def mask(module, args, output):
        output.register_hook(lambda relevance: relevance * kept)

    with cases.composite(name).context(model):
        handle = model.get_submodule(layer).register_forward_hook(mask)
        data = data.clone().requires_grad_()
        output = model(data)
        handle.remove()
        start = torch.zeros_like(output)
        start[0, 7] = output[0, 7].detach()
        (relevance,) = torch.autograd.grad(output, data, start)
    return relevance.sum(1)


@pytest.mark.parametrize("name", [pytest.param(name, marks=SLOW[name]) for name in cases.MODELS])
def test_float32_is_as_exact_as_zennit_in_float32(models, name):
    """Rounding depends on the machine, so the error of zennit's own float32 is measured beside ours."""
    layer, ids = {"vgg16": ("features.26", [1, 5, 200]), "resnet18": ("layer4", [3, 4, 100])}[name]
    double, data = models(name).model, cases.images(1)
    exact = heatmap_of_zennit(copy.deepcopy(double), data, name, layer, ids)  # zennit 1.0 leaves merged norms behind
    model, data = copy.deepcopy(double).float(), data.float()
    rounding = (heatmap_of_zennit(model, data, name, layer, ids) - exact).abs().max() / exact.abs().max()
    assert 1e-8 < rounding < 1e-3
    result = CondAttribution(model)(data, [{"y": [7], layer: ids}], cases.composite(name))
    assert_relevance_close(result.heatmap, exact, 4 * rounding)
