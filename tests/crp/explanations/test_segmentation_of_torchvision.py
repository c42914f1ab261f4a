"""Torchvision's segmentation models, whose output is a dict at the size of the input: explained in a mask."""

import numpy as np
import pytest
import torch

import crp
from crp.attribution import RelevanceFlow, composite_for
from crp.attribution.starts import ClassInMask

NAMES = ["sky", "road", "tree", "car"]
LAYER = "backbone.12"
MODELS = ["lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large"]
MASK = np.zeros((40, 48), dtype=bool)
MASK[10:30, 5:25] = True


@pytest.mark.slow  # ten seconds each; a small segmentation in a mask is explained in test_starts.py
@pytest.mark.parametrize("name", MODELS)
def test_a_class_in_a_mask(name, tmp_path):
    from torchvision.models import segmentation

    torch.manual_seed(0)
    whole = getattr(segmentation, name)(weights=None, weights_backbone=None, num_classes=4).double().eval()
    data = [torch.rand(3, 40, 48, generator=torch.Generator().manual_seed(seed)).double() for seed in range(3)]
    start = ClassInMask(1, MASK, "the crossing")
    model = crp.select_output(whole, "out")
    library = crp.mine(
        model,
        data[:2],
        layers=[LAYER],
        path=tmp_path / "roads.crp",
        targets=start,
        class_names=NAMES,
        patches=0,
        progress=False,
    )
    assert library.class_names == ("road inside the crossing",)
    ready = crp.prepared(model, data=data[2][None], library=library)
    atlas = crp.atlas(ready, data[2], library, target=start, graph=False, effects=False, concepts=2, cells=4)
    explanation = atlas.explanation
    with torch.no_grad():
        logits = whole(data[2][None])["out"][0]
    # by hand: the sum of the logits of 'road' over the mask
    assert explanation.target.name == "road inside the crossing"
    assert explanation.target.value == pytest.approx(float(logits[1][torch.from_numpy(MASK)].sum()), rel=1e-9)
    with RelevanceFlow(model, composite_for(model, data[2][None]).composite, data[2][None]) as flow:
        started = flow.output_relevance(start)
        ledger = flow.ledger(started)
        assert abs(ledger.unaccounted) < 1e-9 * float(started.abs().sum())
        heatmap = flow.down(started)[0, 0].sum(0)
    np.testing.assert_allclose(explanation.heatmap, heatmap, rtol=1e-4, atol=1e-6 * float(heatmap.abs().max()))
    assert "road inside the crossing" in atlas.html()
    # a class by name is explained where it is predicted
    predicted = int(logits.argmax(0).flatten().mode().values)
    best = crp.explain(
        ready, data[2], library, target=NAMES[predicted], graph=False, concepts=2, cells=2, effects=False
    )
    inside = logits.argmax(0) == predicted
    assert best.target.name == f"{NAMES[predicted]} where it is predicted"
    assert best.target.value == pytest.approx(float(logits[predicted][inside].sum()), rel=1e-9)
