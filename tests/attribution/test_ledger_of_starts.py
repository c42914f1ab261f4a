"""The ledger closes for every start, in float64, with the rules that the package picks."""

import pytest
import torch
from torch import nn
from torch.nn.functional import gelu, normalize

from crp.attribution import RelevanceFlow, composite_for, select_output
from crp.attribution.starts import (
    ClassInMask,
    Difference,
    Distance,
    Logit,
    LogOdds,
    Similarity,
    Sum,
    Token,
)


class Embedding(nn.Module):
    """Pictures to embeddings of length 1, as CLIP's."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 6, 3), nn.Linear(6, 5)

    def forward(self, data):
        return normalize(self.head(self.conv(data).relu().mean((2, 3))), dim=-1)


class Tokens(nn.Module):
    """Pictures to tokens `[N, 16, 4]`, with a position embedding."""

    def __init__(self):
        super().__init__()
        self.cut, self.place, self.head = nn.Conv2d(3, 8, 4, 4), nn.Parameter(torch.randn(16, 8)), nn.Linear(8, 4)

    def forward(self, data):
        return self.head(gelu(self.cut(data).flatten(2).transpose(1, 2) + self.place))


def small(*layers):
    return nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), *layers)


def segmentation(name, **options):
    from torchvision.models import segmentation as models

    model = getattr(models, name)(weights=None, weights_backbone=None, num_classes=4, **options)
    return select_output(model, "out")


def classifier(outputs):
    return small(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, outputs))


MASK = torch.zeros(16, 16)
MASK[4:12, 2:9] = 1

CASES = {
    "log-odds": (lambda: classifier(4), LogOdds(2)),
    "classes": (lambda: classifier(4), Difference(Sum([Logit(0), Logit(2)]), Logit(1))),
    "distance": (lambda: classifier(1), Distance(-0.75)),
    "similarity": (Embedding, Similarity(torch.linspace(-1, 1, 5), "photo 3.jpg")),
    "dot product": (Embedding, Similarity(torch.linspace(-1, 1, 5), cosine=False)),
    "token": (Tokens, Token(5, 1)),
    "mask": (lambda: small(nn.Conv2d(6, 4, 1)), ClassInMask(3, MASK)),
    "where predicted": (lambda: small(nn.Conv2d(6, 4, 1)), Difference(ClassInMask(1), ClassInMask(2, MASK))),
    "lraspp_mobilenet_v3_large": (lambda: segmentation("lraspp_mobilenet_v3_large"), ClassInMask(1, MASK)),
    "deeplabv3_mobilenet_v3_large": (lambda: segmentation("deeplabv3_mobilenet_v3_large"), ClassInMask(1, MASK)),
    "fcn_resnet50": (lambda: segmentation("fcn_resnet50"), ClassInMask(1, MASK)),
}


@pytest.mark.parametrize("case", CASES)
def test_the_ledger_closes(case):
    make, start = CASES[case]
    torch.manual_seed(0)
    model = make().double().eval()
    data = torch.randn(1, 3, 16, 16, dtype=torch.float64)
    with RelevanceFlow(model, composite_for(model, data).composite, data) as flow:
        started = flow.output_relevance(start)
        assert started.abs().sum() > 0
        ledger = flow.ledger(started)
        assert ledger.started == pytest.approx(float(start.relevance(model(data).detach()).sum()), rel=1e-9)
        assert abs(ledger.unaccounted) < 1e-9 * float(started.abs().sum())
        assert float(flow.down(started).sum()) == pytest.approx(ledger.arrived, rel=1e-9, abs=1e-12)
