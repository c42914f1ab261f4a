import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from crp.errors import InputError
from crp.library.references import ClassStatistics
from crp.library.usage import ConceptUse
from crp.visualization.figures.artists import AGAINST, FOR
from crp.visualization.figures.class_table import draw_class_table
from crp.visualization.figures.profile_plots import draw_profile


def use(target: int, concept: int, share: float) -> ConceptUse:
    return ConceptUse(target, f"$class_{target}$", concept, share, 0.01, 5.0, 1.0, 0.5, 40)


def texts(labels) -> list[str]:
    return [label.get_text().replace("\N{NO-BREAK SPACE}", " ") for label in labels]


def test_the_concepts_of_a_class():
    axes = Figure().add_subplot()
    draw_profile(axes, [use(1, 7, 0.5), use(1, 3, -0.25)])
    assert [(bar.get_width(), to_hex(bar.get_facecolor())) for bar in axes.patches] == [(0.5, FOR), (-0.25, AGAINST)]
    assert axes.patches[1].get_hatch() == "////"
    np.testing.assert_allclose(axes.lines[0].get_xdata(), [0.4, 0.6])  # one standard deviation to both sides
    assert texts(axes.get_yticklabels()) == ["concept 7", "concept 3"]
    assert texts(axes.texts) == ["+50.0 %", "\N{MINUS SIGN}25.0 %"]
    assert axes.get_title(loc="left") == "$class_1$: 40 samples"
    assert axes.yaxis_inverted()
    axes.figure.draw_without_rendering()  # a dollar sign is no formula


def test_the_classes_of_a_concept():
    axes = Figure().add_subplot()
    draw_profile(axes, [use(1, 7, 0.5), use(0, 7, 0.25)])
    assert texts(axes.get_yticklabels()) == ["$class_1$", "$class_0$"]
    assert axes.get_title(loc="left") == "concept 7"
    axes.figure.draw_without_rendering()


@pytest.mark.parametrize("uses", [[], [use(0, 1, 0.5), use(1, 2, 0.5)]])
def test_a_profile_of_more_than_one_thing_is_refused(uses):
    with pytest.raises(InputError, match="A profile is of one class or one concept"):
        draw_profile(Figure().add_subplot(), uses)


def test_the_table_shows_the_strongest_concepts_of_classes_with_samples():
    share = np.array([[0.6, 0.0, -0.3, 0.02], [0.9, 0.9, 0.9, 0.9], [0.0, 0.01, 0.5, 0.1]])
    nothing = np.zeros(share.shape)
    statistics = ClassStatistics(share, nothing, nothing, nothing, nothing.astype(int), np.array([4, 0, 2]))
    axes = Figure().add_subplot()
    assert draw_class_table(axes, statistics, ["a", "b", "$c$"], concepts=3) == (0, 2, 3)
    (image,) = axes.images
    np.testing.assert_allclose(image.get_array(), [[0.6, -0.3, 0.02], [0.0, 0.5, 0.1]])
    assert image.norm.vmin == -image.norm.vmax
    assert texts(axes.get_yticklabels()) == ["a", "$c$"]
    assert texts(axes.get_xticklabels()) == ["0", "2", "3"]
    # numbers below five percent are not written
    assert texts(axes.texts) == ["60", "\N{MINUS SIGN}30", "50", "10"]
    axes.figure.draw_without_rendering()
