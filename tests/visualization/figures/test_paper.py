"""Figures for papers: artists, texts and data; sizes, and that nothing leaves the figure."""

import dataclasses
import io
from functools import cache

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

import example_explanations as examples
from crp.errors import InputError
from crp.library.references import ClassStatistics
from crp.visualization import encoding as images
from crp.visualization.figures import paper
from crp.visualization.figures.artists import draw_colour_bar
from crp.visualization.figures.renderers import ImageRenderer


@pytest.fixture(scope="module")
def explanation():
    return examples.explanation()


def parts(axes):
    """The axes inside, by label."""
    found = {}
    for child in axes.child_axes:
        found |= {child.get_label(): child, **parts(child)}
    return found


def words(axes):
    return [text.get_text().replace("\N{NO-BREAK SPACE}", " ") for text in axes.texts if text.get_text()]


def texts(axes):
    """Every visible text in a figure, ticks and titles too."""
    return [text for text in axes.figure.findobj(Text) if text.get_visible() and text.get_text().strip()]


EVERY = {
    "overview": lambda e, **o: paper.plot_overview(e, **o),
    "heatmap": lambda e, **o: paper.plot_heatmap(e, **o),
    "concepts": lambda e, **o: paper.plot_concepts(e, "layer4", **o),
    "map": lambda e, **o: paper.plot_concept_map(e, "layer3", **o),
    "graph": lambda e, **o: paper.plot_graph(e.graph, **o),
    "profile": lambda e, **o: paper.plot_class_profile(STATISTICS, class_names=["cat", "$x_{"], **o),
}
SHARE = np.array([[0.5, -0.034, 0.004, 0.0], [0.25, 0.123, 0.0, -0.6]])
STATISTICS = ClassStatistics(
    share=SHARE,
    share_variance=np.zeros_like(SHARE),
    activation=np.zeros_like(SHARE),
    activation_variance=np.zeros_like(SHARE),
    among_top=np.zeros_like(SHARE, dtype=np.int64),
    count=np.array([3, 2]),
)


@pytest.fixture(scope="module")
def drawn(explanation):
    """The axes of a part, laid out: `drawn(name, width, scale)` with relevance times `scale`; each once."""

    @cache
    def draw(name, width, scale):
        relevance = [dataclasses.replace(node, heatmap=node.heatmap * scale) for node in explanation.graph.nodes]
        value = dataclasses.replace(
            explanation,
            heatmap=explanation.heatmap * scale,
            graph=dataclasses.replace(explanation.graph, nodes=relevance),
        )
        axes = EVERY[name](value, width=width)
        axes.figure.draw_without_rendering()
        return axes

    return draw


def outside(axes):
    """Texts that the edge of the figure cuts."""
    page, slack = axes.figure.bbox, 2 / 72 * axes.figure.dpi  # half a letter may hang over: trailing space of the font
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts(axes)]
    return [
        text
        for text, box in boxes
        if min(box.x0 - page.x0, page.x1 - box.x1, box.y0 - page.y0, page.y1 - box.y1) < -slack
    ]


@pytest.mark.parametrize("width", [paper.ONE_COLUMN, paper.TWO_COLUMNS])
@pytest.mark.parametrize("name", EVERY)
def test_a_part_is_as_wide_as_asked_and_holds_all_its_texts(drawn, name, width):
    axes = drawn(name, width, 1.0)
    assert axes.figure.get_size_inches()[0] == width
    assert [text.get_text() for text in texts(axes) if not 4.9 <= text.get_fontsize() <= 9] == []
    assert outside(axes) == []


def test_long_names_of_classes_are_shortened_as_their_counts_need():
    statistics = dataclasses.replace(STATISTICS, count=np.array([3, 123456]))
    axes = paper.plot_class_profile(statistics, class_names=["warm checked square"] * 2)
    axes.figure.draw_without_rendering()
    assert outside(axes) == []
    names = [label.get_text() for label in parts(axes)["table"].get_yticklabels()]
    assert [name.split("…")[1] for name in names] == [" · 3", " · 123456"]


def test_a_narrow_panel_of_wide_inputs_holds_all_its_texts(explanation):
    """As that of a volume, whose slices are side by side, in an overview of two columns."""

    class Wide(ImageRenderer):
        strip = 3.0

    axes = paper.plot_concepts(explanation, width=3.05, renderer=Wide())
    axes.figure.draw_without_rendering()
    assert "one scale for the layer" in words(axes)
    assert outside(axes) == []


# Small relevance has long numbers at colour bars, which are tightest in one column; a profile has no colour bar.
LONG = 1.234e-5
SCALED = [
    *((name, width, 1.0) for name in EVERY for width in (paper.ONE_COLUMN, paper.TWO_COLUMNS)),
    *((name, paper.ONE_COLUMN, LONG) for name in EVERY if name != "profile"),
    *(pytest.param(name, paper.TWO_COLUMNS, LONG, marks=pytest.mark.slow) for name in EVERY),
]


@pytest.mark.parametrize(("name", "width", "scale"), SCALED)
def test_no_text_overlaps_another(drawn, name, width, scale):
    """By the extents of all texts but the numbers on the concept map, which stand in cells of any size."""
    axes = drawn(name, width, scale)
    on_map = {id(text) for text in parts(axes)["map"].texts} if "map" in parts(axes) else set()
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts(axes) if id(text) not in on_map]
    overlaps = {
        (one, other)
        for place, (one, first) in enumerate(boxes)
        for other, second in boxes[place + 1 :]
        if min(first.x1, second.x1) - max(first.x0, second.x0) > 0.5
        and min(first.y1, second.y1) - max(first.y0, second.y0) > 0.5
    }
    assert overlaps == set()


@pytest.mark.parametrize(
    "shape, width", [((64, 64), paper.TWO_COLUMNS), ((40, 90), paper.ONE_COLUMN), ((90, 40), paper.TWO_COLUMNS)]
)
def test_the_parts_of_an_overview_do_not_overlap(shape, width):
    axes = paper.plot_overview(examples.explanation(shape=shape, patches=2), width=width)
    panels = [parts(axes)[f"panel {letter}"] for letter in "abc"]
    boxes = [panel.get_window_extent() for panel in panels]
    for i, first in enumerate(boxes):
        assert first.x0 >= -0.5
        assert first.y0 >= -0.5
        for second in boxes[i + 1 :]:
            assert first.x1 <= second.x0 + 0.5 or second.x1 <= first.x0 + 0.5 or first.y0 >= second.y1 - 0.5
    assert [word for word in words(axes) if len(word) == 1] == ["a", "b", "c"]


def test_input_and_relevance_show_their_data(explanation):
    inside = parts(paper.plot_heatmap(explanation))
    np.testing.assert_array_equal(inside["input"].images[0].get_array(), explanation.picture)
    expected = images.overlay(explanation.picture, explanation.heatmap)
    np.testing.assert_array_equal(inside["relevance"].images[0].get_array(), expected)
    limit = images.colour_limit(explanation.heatmap)
    assert inside["colour bar"].get_xlim() == pytest.approx((-limit, limit))


def test_a_limit_given_is_the_scale_of_colours_and_bar(explanation):
    inside = parts(paper.plot_heatmap(explanation, limit=10.0))
    expected = images.overlay(explanation.picture, explanation.heatmap, 10.0)
    np.testing.assert_array_equal(inside["relevance"].images[0].get_array(), expected)
    assert inside["colour bar"].get_xlim() == (-10, 10)


def test_concepts_share_one_root_scale_and_the_rest_is_stated(explanation):
    layer = explanation.layers[0]
    axes = paper.plot_concepts(explanation, concepts=3)
    inside = parts(axes)
    rows = layer.ranked[:3]
    limit = max(images.colour_limit(part.heatmap) for part in rows)
    for part in rows:
        expected = images.overlay(explanation.picture, part.heatmap, limit, images.ROOT)
        np.testing.assert_array_equal(inside[f"{part.concept} where"].images[0].get_array(), expected)
        shown = words(inside[f"{part.concept} share"])
        assert shown[0] == f"Concept {part.concept}"
    # on a root scale the bar ends at the root of the limit
    assert inside["colour bar"].get_xlim() == pytest.approx((-(limit**0.5), limit**0.5))
    shown = 100 * sum(abs(part.share) for part in rows)
    assert words(axes)[-1] == f"{shown:.1f} % shown + {100 - shown:.1f} % in 61 others"


def test_two_columns_have_room_for_both_kinds_of_patches(explanation):
    first = explanation.layers[0].ranked[0].concept
    narrow, wide = (parts(paper.plot_concepts(explanation, width=width, concepts=1)) for width in (3.5, 7.16))
    assert f"{first} activation" not in narrow
    assert len(wide[f"{first} activation"].images) == len(wide[f"{first} relevance"].images) > 4
    assert len(narrow[f"{first} relevance"].images) >= 4


def test_the_legend_of_a_map_has_the_patches_of_its_concepts(explanation):
    layer = explanation.layers[0]
    axes = paper.plot_concept_map(explanation)
    inside = parts(axes)
    on_map = list(layer.concept_map.strength())
    cards = {part.concept: part.relevance_patches for part in layer.ranked}
    listed = [int(label.split()[0]) for label in inside if label.endswith("patches")]
    assert listed == on_map[: len(listed)]
    for concept in listed:
        expected = cards.get(concept) or ([layer.glimpses[concept]] if concept in layer.glimpses else [])
        assert len(inside[f"{concept} patches"].images) == min(2, len(expected))
    if len(on_map) > len(listed):
        assert words(axes)[-1] == f"and {len(on_map) - len(listed)} more in the map"


def test_a_graph_has_one_scale_for_all_its_nodes(explanation):
    inside = parts(paper.plot_graph(explanation.graph))
    limit = max(images.colour_limit(node.heatmap) for node in explanation.graph.nodes)
    expected = images.squared(images.colours(explanation.graph.root.heatmap, limit, images.ROOT), 64)
    assert any(np.array_equal(image.get_array(), expected) for image in inside["graph"].images)
    assert inside["colour bar"].get_xlim() == pytest.approx((-(limit**0.5), limit**0.5))


def test_a_profile_says_its_shares_in_numbers_and_colours():
    axes = paper.plot_class_profile(STATISTICS, class_names=["cat", "dog"])
    table = parts(axes)["table"]
    # the largest of each concept decides their order: 0.6, 0.5, 0.123; 0.004 is no column of its own
    assert [label.get_text() for label in table.get_xticklabels()] == ["3", "0", "1"]
    assert [label.get_text() for label in table.get_yticklabels()] == ["cat · 3", "dog · 2"]
    assert [text.get_text() for text in table.texts] == ["50", "−60", "25", "12"]  # what is 5 % or more
    np.testing.assert_array_equal(table.images[0].get_array(), STATISTICS.share[:, [3, 0, 1]])
    assert table.images[0].get_clim() == (-0.6, 0.6)
    ticks = parts(axes)["colour bar"].get_xticklabels()
    shown = [tick.get_text().replace("\N{NO-BREAK SPACE}", " ") for tick in ticks]
    assert shown == ["−60.0 %\nagainst", "0", "+60.0 %\nfor"]


def test_a_profile_of_a_thousand_classes_shows_the_top_and_the_bottom():
    share = np.linspace(0.5, -0.5, 1000)[:, None]
    nothing = np.zeros_like(share)
    count = np.ones(1000, dtype=np.int64)
    statistics = ClassStatistics(share, nothing, nothing, nothing, nothing, count)
    axes = paper.plot_class_profile(statistics, most=2)
    assert axes.figure.get_size_inches()[1] < 2
    table = parts(axes)["table"]
    shown = [label.get_text() for label in table.get_yticklabels()]
    assert shown == ["class 0 · 1", "class 1 · 1", "class 998 · 1", "class 999 · 1"]
    assert "top 2 and bottom 2 classes; 996 left out" in words(axes)
    # the line between both
    assert list(table.lines[0].get_ydata()) == [1.5, 1.5]
    assert paper.plot_class_profile(statistics).figure.get_size_inches()[1] < 7
    with pytest.raises(InputError, match=r"^most is 0; at least 1 class must be shown\.$"):
        paper.plot_class_profile(statistics, most=0)


def test_figures_are_saved_at_300_dots_per_inch_unless_asked_otherwise(tmp_path):
    figure = Figure(figsize=(1, 0.5))
    sizes = []
    for options in ({}, {"dpi": 100}):
        paper.save(figure, tmp_path / "figure.png", **options)
        with Image.open(tmp_path / "figure.png") as picture:
            sizes.append(picture.size)
    assert sizes == [(300, 150), (100, 50)]


def test_the_scale_of_a_layer_does_not_depend_on_the_rows_drawn(explanation):
    limits = [parts(paper.plot_concepts(explanation, concepts=rows))["colour bar"].get_xlim()[1] for rows in (1, 3, 9)]
    limit = max(images.colour_limit(part.heatmap) for part in explanation.layers[0].ranked)
    assert limits == pytest.approx([limit**0.5] * 3)


def test_a_graph_of_a_negative_output_says_what_its_signs_mean(explanation):
    negative = dataclasses.replace(explanation.graph, started=-0.12)
    assert "−0.12 is explained: positive shares make it more negative" in words(paper.plot_graph(negative))
    assert "explained" not in " ".join(words(paper.plot_graph(explanation.graph)))


def test_a_profile_shows_what_it_is_asked_for():
    table = parts(paper.plot_class_profile(STATISTICS, classes=[1], concepts=[2, 3], limit=1.0))["table"]
    assert [text.get_text() for text in table.texts] == ["−60"]
    assert [label.get_text() for label in table.get_yticklabels()] == ["class 1 · 2"]
    without = dataclasses.replace(STATISTICS, count=np.array([3, 0]))
    names = parts(paper.plot_class_profile(without))["table"].get_yticklabels()
    assert [label.get_text() for label in names] == ["class 0 · 3"]


@pytest.mark.parametrize(
    ("plot", "message"),
    [
        (lambda e: paper.plot_concepts(e, "layer5"), r"^The explanation has no layer 'layer5': did you mean 'layer"),
        (lambda e: paper.plot_overview(dataclasses.replace(e, layers=())), r"^The explanation has no layer to draw\.$"),
        (
            lambda e: paper.plot_concept_map(
                dataclasses.replace(e, layers=(dataclasses.replace(e.layers[0], concept_map=None),))
            ),
            r"^Layer 'layer3' has no concept map",
        ),
        (
            lambda e: paper.plot_class_profile(STATISTICS, concepts=[4]),
            r"^There is no concept 4: the layer has the concepts 0 to 3\.$",
        ),
        (
            lambda e: paper.plot_class_profile(STATISTICS, classes=[-1]),
            r"^There is no class -1: the library has the classes 0 to 1\.$",
        ),
    ],
)
def test_what_is_not_there_is_refused(explanation, plot, message):
    with pytest.raises(InputError, match=message):
        plot(explanation)


def test_a_layer_without_a_map_goes_without_its_panel(explanation):
    layer = dataclasses.replace(explanation.layers[0], concept_map=None)
    axes = paper.plot_overview(dataclasses.replace(explanation, layers=(layer,)))
    assert {label for label in parts(axes) if label.startswith("panel")} == {"panel a", "panel b"}
    assert "map" not in parts(axes)


def test_a_layer_without_relevance_says_so():
    value = examples.explanation(supporting=0, opposing=0)
    layer = dataclasses.replace(value.layers[0], rest=0.0)
    axes = paper.plot_concepts(dataclasses.replace(value, layers=(layer,)))
    assert words(axes)[-1] == "No relevance arrives at this layer."


@pytest.mark.parametrize("plot", EVERY.values(), ids=EVERY)
def test_a_part_fills_the_axes_it_is_given_and_nothing_else(explanation, plot):
    figure = Figure(figsize=(7.16, 6))
    ax = figure.add_axes((0.25, 0.2, 0.6, 0.7))
    assert plot(explanation, ax=ax) is ax
    outer = ax.get_window_extent()
    inside = parts(ax)
    assert inside
    for label, child in inside.items():
        box = child.get_window_extent()
        assert outer.x0 - 1 <= box.x0 <= box.x1 <= outer.x1 + 1, label
        assert outer.y0 - 1 <= box.y0 <= box.y1 <= outer.y1 + 1, label
    assert figure.axes == [ax]


def test_texts_are_saved_as_text(tmp_path):
    explanation = examples.explanation(layers=("layer4",), patches=1, supporting=1, opposing=1)
    axes = paper.plot_concepts(explanation)
    paper.save(axes.figure, tmp_path / "figure.svg")
    first = explanation.layers[0].ranked[0].concept
    assert f">Concept {first}</text>" in (tmp_path / "figure.svg").read_text("utf-8")
    paper.save(axes.figure, tmp_path / "figure.pdf")
    pdf = (tmp_path / "figure.pdf").read_bytes()
    assert b"/Type3" not in pdf
    assert b"TrueType" in pdf or b"CIDFontType2" in pdf
    again = io.BytesIO()
    paper.save(paper.plot_concepts(explanation).figure, again, format="pdf")
    assert again.getvalue() == pdf


def test_names_from_outside_are_text():
    name = examples.HOSTILE
    hostile = examples.explanation(names=(name,), layers=(name,), patches=1, supporting=1, opposing=1)
    for plot in (paper.plot_overview, paper.plot_heatmap, paper.plot_concepts, paper.plot_concept_map):
        axes = plot(hostile)
        axes.figure.draw_without_rendering()
        assert "\u202e" not in "".join(text.get_text() for text in texts(axes))


def test_a_root_scale_says_what_its_half_colours_mean():
    for width, expected in (
        (4.0, ["−0.5\nagainst", "−0.12", "0\nroot scale", "+0.12", "+0.5\nfor"]),
        (1.6, ["−0.5\nagainst", "0\nroot scale", "+0.5\nfor"]),
        (1.0, ["−0.5\nagainst", "0", "+0.5\nfor"]),
        (0.6, ["−0.5\nagainst", "+0.5\nfor"]),
    ):
        axes = Figure(figsize=(width, 1)).add_axes((0, 0.5, 1, 0.1))
        draw_colour_bar(axes, 0.5, power=images.ROOT)
        assert [label.get_text() for label in axes.get_xticklabels()] == expected
        # half of the colour stands for a quarter of the relevance
        full = 0.5**0.5
        assert axes.get_xlim() == pytest.approx((-full, full))
        assert images.scaled(np.array([0.125]), 0.5, images.ROOT)[0] == pytest.approx(0.5)
