"""Signals [c, T] and volumes [c, D, H, W], mined and explained: numbers worked out by hand.

The network adds up what is positive in its input and takes away what is negative (two concepts: the input, and minus
the input, both through a ReLU). Without biases, and under the epsilon rule, each value's relevance is the value.
"""

import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset
from zennit.composites import LayerMapComposite
from zennit.rules import Epsilon, Pass
from zennit.types import Activation, Convolution, Linear

import crp
from crp.errors import InputError, LibraryError
from crp.explanations import from_json, to_json
from crp.library.patches import StoredPatch, encode_values, read_patches, write_patches
from crp.mining.crops import patch_box, resized
from crp.preprocessing import shown_input
from crp.visualization import Atlas

SIGNALS = torch.tensor([[[0, 2, 0, -3, 1, 0, 0, 4]], [[0, 0, 5, 0, 0, 0, -1, 0]]], dtype=torch.float32)


def network(kernel: type[nn.Module], axes: int, size: int) -> nn.Sequential:
    layers = nn.Sequential(
        kernel(1, 2, 3, padding=1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(2 * size, 2, bias=False)
    )
    with torch.no_grad():
        layers[0].weight.zero_()
        layers[0].weight[(slice(None), 0, *[1] * axes)] = torch.tensor([1.0, -1.0])
        layers[3].weight[0] = torch.cat([torch.ones(size), -torch.ones(size)])
        layers[3].weight[1] = -layers[3].weight[0]
    return layers


def composite() -> LayerMapComposite:
    return LayerMapComposite([(Activation, Pass()), (Convolution, Epsilon(1e-12)), (Linear, Epsilon(1e-12))])


@pytest.fixture(scope="module")
def signals(tmp_path_factory):
    net, data = network(nn.Conv1d, 1, 8).double(), TensorDataset(SIGNALS.double(), torch.zeros(2, dtype=torch.int64))
    path = tmp_path_factory.mktemp("signals") / "signals.crp"
    return net, crp.mine(net, data, layers=["0"], path=path, composite=composite(), k=2, progress=False)


@pytest.fixture(scope="module")
def explanation(signals):
    net, library = signals
    return crp.explain(net, SIGNALS[0].double(), library, target=0, cells=4, composite=composite())


def test_a_signal_is_explained_value_by_value(explanation):
    assert explanation.target.logit == pytest.approx(7 - 3)
    np.testing.assert_allclose(explanation.heatmap, SIGNALS[0, 0], atol=1e-6)
    np.testing.assert_array_equal(explanation.picture, SIGNALS[0])
    (layer,) = explanation.layers
    supporting, opposing = layer.supporting[0], layer.opposing[0]
    assert (supporting.concept, opposing.concept) == (0, 1)
    assert (supporting.share, opposing.share) == pytest.approx((0.7, -0.3))
    np.testing.assert_allclose(supporting.heatmap, [0, 2, 0, 0, 1, 0, 0, 4], atol=1e-6)
    np.testing.assert_allclose(opposing.heatmap, [0, 0, 0, -3, 0, 0, 0, 0], atol=1e-6)


def test_the_map_of_a_signal_has_one_row_of_cells(explanation):
    concept_map = explanation.layers[0].concept_map
    assert concept_map.shape == (1, 8)
    np.testing.assert_allclose(concept_map.table[0], [[2, 0], [0, -3], [1, 0], [4, 0]], atol=1e-6)
    assert concept_map.concept.tolist() == [[0, -1, 0, 0]]
    ranking = concept_map.ranking(np.array([[True, True, False, False]]))
    assert ranking == ((1, pytest.approx(-3)), (0, pytest.approx(2)))


def test_a_patch_of_a_signal_is_a_window(signals):
    _, library = signals
    first, second = library.patches("0", 0, "relevance")
    # sample 1: 5 / (5 + 1); sample 0: 7 / (7 + 3)
    assert [patch.sample for patch in (first, second)] == [1, 0]
    assert [patch.score for patch in (first, second)] == pytest.approx([5 / 6, 0.7])
    # each value sends its relevance to itself alone: the window is where the concept was strongest
    assert [patch.box for patch in (first, second)] == [(2, 3), (7, 8)]
    assert [patch.position for patch in (first, second)] == [(2,), (7,)]
    assert [patch.picture.tolist() for patch in (first, second)] == [[[5.0]], [[4.0]]]
    assert [patch.heatmap.tolist() for patch in (first, second)] == [[1.0], [1.0]]


def test_json_keeps_a_signal(explanation):
    again = from_json(json.loads(json.dumps(to_json(explanation))))
    np.testing.assert_array_equal(again.picture, explanation.picture)
    assert again.picture.dtype == np.float32
    patch = again.layers[0].supporting[0].relevance_patches[0]
    assert (patch.box, patch.picture.tolist()) == ((2, 3), [[5.0]])
    assert to_json(explanation)["input"] == {"shape": [8]}


def test_a_signal_has_a_page_figures_and_numbers(explanation, tmp_path):
    atlas = Atlas(explanation)
    for suffix in ("svg", "json", "html"):
        assert atlas.save(tmp_path / f"atlas.{suffix}").stat().st_size > 1000
    assert "<iframe" in atlas._repr_html_()


def test_a_volume_is_explained_value_by_value(tmp_path):
    net = network(nn.Conv3d, 3, 12).double()
    data = torch.zeros(1, 1, 3, 2, 2, dtype=torch.float64)
    data[0, 0, 0, 1, 0], data[0, 0, 2, 0, 1] = 3, -1
    options = dict(layers=["0"], composite=composite(), progress=False)
    library = crp.mine(net, TensorDataset(data, torch.tensor([0])), path=tmp_path / "b.crp", **options)
    explanation = crp.explain(net, data[0], library, target=0, composite=composite())
    np.testing.assert_allclose(explanation.heatmap, data[0, 0], atol=1e-6)
    (layer,) = explanation.layers
    assert (layer.supporting[0].share, layer.opposing[0].share) == pytest.approx((0.75, -0.25))
    assert (layer.concept_map.grid, layer.concept_map.shape) == ((3, 2, 2), (6, 2))
    np.testing.assert_allclose(layer.concept_map.table[..., 0].reshape(3, 2, 2), data[0, 0].clip(min=0), atol=1e-6)
    (patch,) = layer.supporting[0].relevance_patches
    # what the concept sends to the input is one value, and the box is its cell
    assert (patch.box, patch.picture.tolist(), patch.heatmap.tolist()) == ((0, 1, 0, 1, 2, 1), [[[[3]]]], [[[1]]])
    for suffix in ("svg", "json", "html"):
        assert Atlas(explanation).save(tmp_path / f"atlas.{suffix}").stat().st_size > 1000
    np.testing.assert_allclose(explanation.graph.node("0", 1).heatmap, data[0, 0].clip(max=0), atol=1e-6)
    with pytest.raises(InputError, match=r"^One volume is a tensor \[c, D, H, W\] or .* given \[2, 2\]\.$"):
        crp.explain(net, data[0, 0, 0], library, composite=composite())


def test_a_batch_of_one_is_one_signal(signals, explanation):
    net, library = signals
    again = crp.explain(net, SIGNALS[:1].double(), library, target=0, cells=4, composite=composite())
    np.testing.assert_array_equal(again.heatmap, explanation.heatmap)
    with pytest.raises(InputError, match=r"^One signal is a tensor \[c, T\] or \[1, c, T\], given \[2, 1, 8\]\.$"):
        crp.explain(net, SIGNALS.double(), library, composite=composite())


def test_signals_are_shrunk_along_time_alone():
    values = np.array([[0, 2, 4, 6], [1, 1, 3, 3]], dtype=np.float32)
    assert resized(values, 2, axes=1).tolist() == [[1, 5], [1, 3]]
    assert resized(values, 4, axes=1).tolist() == values.tolist()


@pytest.mark.parametrize(
    ("heatmap", "field", "expected"),
    [
        ([0, 9, 1, 0.8, 0, 0], (0, 6), (1, 3)),  # above a tenth of 9
        ([0, 9, 0, 0, 1, 0], (2, 6), (4, 5)),  # inside the field alone
        ([0, -1, -2, 0], (1, 4), (1, 4)),  # nothing positive: the field
    ],
)
def test_the_window_is_where_the_heatmap_exceeds_a_tenth(heatmap, field, expected):
    assert patch_box(np.array(heatmap, dtype=np.float32), np.array(field)) == expected


def test_a_damaged_window_is_refused(tmp_path, signals):
    _, library = signals
    values = np.array([[1, 2, 3]], dtype=np.float32)
    patch = StoredPatch(0, 1.0, 0, 0, (0, 3), encode_values(values)[:-1], np.ones(3, dtype=np.int8))
    write_patches(tmp_path / "patches", {0: {"relevance": (patch,), "activation": ()}})
    (stored,) = read_patches(tmp_path / "patches")[0]["relevance"]
    assert (stored.box, stored.heatmap.tolist()) == ((0, 3), [1, 1, 1])
    write_patches(library.file("0", "patches"), {0: {"relevance": (patch,), "activation": ()}})
    with pytest.raises(LibraryError, match=r"a signal of 11 bytes has a heatmap of 3 values"):
        library.patches("0", 0, "relevance")


def test_what_is_drawn_of_an_input():
    assert shown_input(torch.ones(2, 5, dtype=torch.float64)).dtype == np.float32
    assert shown_input(torch.ones(2, 3, 4, 5)).shape == (2, 3, 4, 5)
    grey = shown_input(torch.arange(6.0).view(1, 2, 3))
    assert grey[..., 0].tolist() == grey[..., 2].tolist() == [[0, 51, 102], [153, 204, 255]]
