"""What `explain` and `compose` refuse, and with which sentence."""

import math
import re

import pytest
import torch
from torch import nn
from zennit.composites import LayerMapComposite
from zennit.rules import Epsilon
from zennit.types import Linear

import crp
from crp.errors import InputError, LibraryError, ModelError
from crp.explanations.computation import explain
from crp.graphs.composition import compose

from .conftest import network

REFUSED = {
    "layer": ({"layers": ["4"]}, InputError, r"^The library does not hold layer '4': "),
    "class name": ({"target": "bea"}, InputError, r"^There is no class 'bea': did you mean 'bee'\?$"),
    "class": ({"target": 3}, InputError, r"^There is no class 3: the model's output has the classes 0 to 2\.$"),
    "negative class": ({"target": -1}, InputError, r"^There is no class -1: "),
    "the same class": (
        {"target": "bee", "against": 1},
        InputError,
        r"^target and against are the same class, 'bee'\.$",
    ),
    "other class": ({"target": 0, "against": "ent"}, InputError, r"^There is no class 'ent': did you mean 'ant'\?$"),
    "concepts": ({"concepts": 0}, InputError, r"^concepts is 0; it must be a whole number of at least 1\.$"),
    "cells": ({"cells": 0}, InputError, r"^cells is 0; it must be a whole number of at least 1\.$"),
    "two images": (
        {"image": torch.ones(2, 3, 12, 16)},
        InputError,
        r"^One image is a tensor \[c, H, W\] or \[1, c, H, W\], given \[2, 3, 12, 16\]\.$",
    ),
    "number": ({"image": 3}, InputError, r"^An image is a tensor, a picture, an array or a file's name, given int\.$"),
    "other weights": ({"model": network(1)}, LibraryError, r" was mined with other weights \("),
    "other composite": (
        {"composite": LayerMapComposite([(Linear, Epsilon())])},
        LibraryError,
        r"^This is not the composite of the library",
    ),
}


@pytest.mark.parametrize(("change", "error", "sentence"), REFUSED.values(), ids=REFUSED)
def test_refused(model, library, image, change, error, sentence):
    with pytest.raises(error, match=sentence):
        explain(**{"model": model, "image": image, "library": library, **change})


def test_an_input_that_no_picture_becomes_is_warned_of(tmp_path, caplog):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)).eval()
    data = torch.rand(4, 3, 8, 8)
    how = crp.Preprocessing(mean=0.5, std=0.5)  # pictures become values of -1 to 1
    settings = {"layers": ["0"], "targets": "prediction", "patches": 1, "preprocessing": how, "progress": False}
    library = crp.mine(net, data * 2 - 1, path=tmp_path / "a.crp", **settings)
    explain(net, data[0] * 2 - 1, library, graph=False, effects=False)
    explain(net, data[0] * 6 - 3, library, graph=False, effects=False)  # a strong change of a picture
    assert caplog.messages == []
    explain(net, torch.cat([data[0, :, :4] * 0, data[0, :, 4:] * 0 + 255], 1), library, graph=False, effects=False)
    told = "The input has values of 0 to 255, and pictures become values of -1 to 1: is it scaled as pictures are?"
    assert caplog.messages == [told]
    crp.mine(net, data * 255, path=tmp_path / "b.crp", **settings)
    assert any(message.startswith("Of the first sample: The input has values of") for message in caplog.messages[1:])


def test_a_prepared_model_is_refused_as_the_model_itself(model, library, image):
    with pytest.raises(LibraryError, match=r" was mined with other weights \("):
        explain(crp.prepared(network(1)), image, library)
    with pytest.raises(LibraryError, match=r"^This is not the composite of the library"):
        explain(crp.prepared(model, LayerMapComposite([(Linear, Epsilon())])), image, library)
    with pytest.raises(InputError, match=r"^A prepared model has its composite already: give it to crp\.prepared\.$"):
        explain(crp.prepared(model), image, library, composite=LayerMapComposite([(Linear, Epsilon())]))


class Explosion(torch.autograd.Function):
    """Gives its input, and an infinite gradient."""

    @staticmethod
    def forward(context, data):
        return data.clone()

    @staticmethod
    def backward(context, gradient):
        return gradient * math.inf


class Exploding(nn.Flatten):
    """A flatten whose gradient is not finite, as relevance is after many layers without a fitting rule."""

    def forward(self, data):
        return Explosion.apply(super().forward(data))


@pytest.mark.parametrize(
    ("layers", "where"),
    [
        (["0", "3", "6"], "at layer '3', but it is at layer '6'"),
        (["0", "3"], "at layer '3', but it is at the output"),
        (["6"], "at the input, but it is at layer '6'"),
    ],
)
def test_relevance_that_is_not_finite_is_refused_at_the_uppermost_layer(library, image, layers, where):
    model = network()
    model[5] = Exploding()
    message = (
        f"Relevance is not finite (NaN or infinite) {where}: give model and input in float64, or a composite with "
        "other rules for the layers in between."
    )
    with pytest.raises(ModelError, match=f"^{re.escape(message)}$"):
        explain(model, image, library, layers=layers)


def test_a_graph_refuses_relevance_that_is_not_finite(image):
    model = network()
    model[5] = Exploding()
    with pytest.raises(ModelError, match=r"^Relevance is not finite \(NaN or infinite\) at layer '3', but it is at "):
        compose(model, image[None], ["3", "6"], target=0)
