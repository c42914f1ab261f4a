import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import example_explanations as examples
from crp.visualization import colours as palette
from crp.visualization import encoding as images
from crp.visualization import wording
from crp.visualization.figures import artists
from crp.visualization.figures.overview import PLACES, atlas_figure
from crp.visualization.figures.renderers.marks import OUTWEIGHED
from crp.visualization.map_cells import outweighed, winner_shares


@pytest.fixture(scope="module")
def explanation():
    return examples.explanation()


@pytest.fixture(scope="module")
def axes(explanation):
    figure = atlas_figure(explanation)
    by_label = {axes.get_label(): axes for axes in figure.axes}
    assert len(by_label) == len(figure.axes)
    return by_label


def texts(axes):
    return [text.get_text().replace("\N{NO-BREAK SPACE}", " ") for text in axes.texts]


def test_headline_and_footer_are_those_of_the_page(explanation, axes):
    sentence = "".join(text for text, _ in wording.headline(explanation))
    assert texts(axes["headline"]) == [" ".join(sentence.split())]
    assert "torch 2.13.0" in texts(axes["footer"])[0]


def test_input_and_heatmap_show_their_data(explanation, axes):
    np.testing.assert_array_equal(axes["input"].images[0].get_array(), explanation.picture)
    expected = images.overlay(explanation.picture, explanation.heatmap)
    np.testing.assert_array_equal(axes["heatmap"].images[0].get_array(), expected)


def test_colour_bar_is_centred_on_zero_and_says_both_directions(explanation, axes):
    limit = images.colour_limit(explanation.heatmap)
    low, high = axes["colour bar"].get_xlim()
    assert (low, high) == pytest.approx((-limit, limit))
    labels = [label.get_text() for label in axes["colour bar"].get_xticklabels()]
    assert labels == [f"−{limit:.2g}\nagainst (outlined)", "0", f"+{limit:.2g}\nfor"]


def test_class_bars_are_the_probabilities(explanation, axes):
    widths = [bar.get_width() for bar in axes["classes"].patches][1::2]  # each over its track
    assert widths == pytest.approx([score.probability for score in explanation.classes])
    assert "zebra" in texts(axes["classes"])


def test_the_explained_class_is_drawn_even_where_it_is_not_among_the_best(explanation):
    target = dataclasses.replace(explanation.target, index=999, name="sofa", probability=0.001)
    figure = Figure()
    axes = figure.add_subplot()
    artists.draw_classes(axes, dataclasses.replace(explanation, target=target))
    assert texts(axes)[-2:] == ["sofa", "under 1 %"]


def test_the_ledger_bar_is_one_long(explanation, axes):
    for layer in explanation.layers:
        bars = axes[f"{layer.layer} ledger"].patches
        assert len(bars) == len(layer.ranked) + 1
        assert sum(bar.get_width() for bar in bars) == pytest.approx(1, abs=1e-4)
        assert bars[-1].get_width() == pytest.approx(layer.rest)


def test_every_concept_has_share_heatmap_and_two_strips(explanation, axes):
    for layer in explanation.layers:
        widest = max(abs(part.share) for part in layer.ranked)
        limit = max(images.colour_limit(part.heatmap) for part in layer.ranked)
        for part in layer.ranked:
            share = axes[f"{layer.layer} {part.concept} share"]
            assert share.containers[1].patches[0].get_width() == pytest.approx(part.share / widest)
            assert texts(share) == [
                f"Concept {part.concept}",
                wording.side(part),
                wording.signed_percent(part.share).replace("\N{NO-BREAK SPACE}", " "),
            ]
            expected = images.overlay(explanation.picture, part.heatmap, limit, images.ROOT)
            np.testing.assert_array_equal(axes[f"{layer.layer} {part.concept} where"].images[0].get_array(), expected)
            for kind in ("relevance", "activation"):
                assert len(axes[f"{layer.layer} {part.concept} {kind}"].images) == PLACES


def test_signs_survive_a_grey_print(explanation, axes):
    layer = explanation.layers[0]
    for part in layer.ranked:
        bar = axes[f"{layer.layer} {part.concept} share"].containers[1].patches[0]
        assert bool(bar.get_hatch()) == (part.share < 0)
    fills = list(axes[f"{layer.layer} ledger"].patches)
    assert [bool(bar.get_hatch()) for bar in fills] == [False] * len(layer.supporting) + [True] * len(
        layer.opposing
    ) + [False]


def test_the_concept_map_shows_every_cell_in_its_concepts_colour(explanation, axes):
    layer = explanation.layers[0]
    colours = palette.concept_colours(explanation)[layer.layer]
    drawn = axes[f"{layer.layer} map"]
    cells = [patch for patch in drawn.patches if isinstance(patch, Rectangle) and patch.get_label() != OUTWEIGHED]
    hatched = [patch for patch in drawn.patches if patch.get_label() == OUTWEIGHED]
    assert 0 < len(hatched) == outweighed(layer.concept_map).sum()
    assert {patch.get_hatch() for patch in hatched} == {"//"}
    shares = winner_shares(layer.concept_map)
    assert len(cells) == (layer.concept_map.concept >= 0).sum()
    rows, columns = layer.concept_map.concept.shape
    height, width = layer.concept_map.shape
    for cell in cells:
        column, row = round((cell.get_x() + 0.5) / (width / columns)), round((cell.get_y() + 0.5) / (height / rows))
        assert to_hex(cell.get_facecolor()) == colours[int(layer.concept_map.concept[row, column])]
        assert cell.get_alpha() == pytest.approx(0.15 + 0.6 * shares[row, column] ** 0.5)
    assert {int(text.get_text()) for text in drawn.texts} == set(layer.concept_map.strength())


def test_patches_keep_their_proportions(explanation):
    patch = explanation.layers[0].ranked[0].relevance_patches[0]
    axes = Figure().add_subplot()
    artists.draw_patches(axes, [patch], places=4)
    left, right, bottom, top = axes.images[0].get_extent()
    height, width = patch.heatmap.shape
    assert (right - left) / (top - bottom) == pytest.approx(width / height)
    assert max(right - left, top - bottom) == pytest.approx(0.94)


def test_the_graphs_sentence_leaves_its_colour_bar_free(explanation, axes):
    figure = axes["graph bar"].figure
    figure.draw_without_rendering()
    sentence = axes["graph account"].texts[0].get_window_extent()
    labels = [label.get_window_extent() for label in axes["graph bar"].get_xticklabels()]
    assert sentence.y1 < min(label.y0 for label in labels)
    assert sentence.y0 > axes["graph"].get_window_extent().y1


def test_dollar_signs_are_no_mathematics():
    hostile = examples.HOSTILE
    value = examples.explanation(
        names=(hostile,), image=hostile, layers=(hostile,), patches=1, supporting=1, opposing=1
    )
    figure = atlas_figure(value)
    figure.draw_without_rendering()
    for axes in figure.axes:
        for text in axes.texts:
            assert "\u202e" not in text.get_text()


@pytest.mark.parametrize(
    "options",
    [{"shape": (20, 64)}, {"shape": (64, 20)}, {"layers": ()}, {"supporting": 0, "opposing": 0}, {"patches": 0}],
)
def test_nothing_leaves_the_figure(options):
    small = {"layers": ("conv",), "patches": 1, "supporting": 3, "opposing": 2}
    figure = atlas_figure(examples.explanation(**small | options))
    for axes in figure.axes:
        box = axes.get_position(original=True)
        assert box.x0 >= 0, axes.get_label()
        assert box.x1 <= 1, axes.get_label()
        assert box.y0 >= 0, axes.get_label()
        assert box.y1 <= 1, axes.get_label()


def test_a_layer_without_map_is_drawn():
    value = examples.explanation(layers=("conv",), patches=1, supporting=1, opposing=1)
    labels = {axes.get_label() for axes in atlas_figure(value).axes}
    layer = dataclasses.replace(value.layers[0], concept_map=None)
    without = {axes.get_label() for axes in atlas_figure(dataclasses.replace(value, layers=(layer,))).axes}
    assert labels - without == {"conv map", "conv map title", "conv legend"}


def test_drawing_never_loads_pyplot_nor_torch():
    script = (
        "import sys; sys.path.insert(0, 'tests'); import example_explanations as examples\n"
        "from crp.visualization import Atlas\n"
        "from crp.visualization.figures import paper\n"
        "value = examples.explanation(patches=1, supporting=1, opposing=1)\n"
        "Atlas(value).figure(); Atlas(value).html(); paper.plot_overview(value); paper.plot_graph(value.graph)\n"
        "assert 'matplotlib.pyplot' not in sys.modules and 'torch' not in sys.modules\n"
        "import matplotlib.pyplot; assert 'matplotlib.pyplot' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
