"""Names that are proposed: areas and p-values against slow ways, what chance gets, and what is refused."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

import crp
from crp.analysis import propose, propose_from_classes, propose_from_embeddings, read_columns
from crp.analysis.attributes import attributes_of
from crp.analysis.separating import separation
from crp.cli import main
from crp.demo import Scenes, demo_model
from crp.errors import InputError
from crp.library import read_names
from crp.library.references import ClassStatistics
from tests.crp.analysis.conftest import vectors_of
from tests.evidence.untrained import untrained


def area_by_pairs(values: np.ndarray, inside: np.ndarray) -> float:
    """How often a value inside is above one outside, pair by pair."""
    pairs = values[inside][:, None] - values[~inside][None]
    return float(((pairs > 0) + 0.5 * (pairs == 0)).mean())


def test_areas_are_those_of_all_pairs_with_and_without_ties() -> None:
    rng = np.random.default_rng(0)
    values = np.stack([rng.normal(size=60), rng.integers(0, 3, 60), np.zeros(60), np.r_[np.zeros(55), 1:6]], axis=1)
    groups = np.stack([np.arange(60) % 4 == 0, np.arange(60) > 54], axis=1)
    found = separation(values, groups).area
    expected = [[area_by_pairs(column, group) for group in groups.T] for column in values.T]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert found[3, 1] == 1
    assert (found[2] == 0.5).all()


def test_p_values_are_the_share_of_all_relabellings_that_separate_as_well() -> None:
    values = np.array([9.0, 8, 3, 7, 2, 1, 0, 5])[:, None]
    inside = np.array([True, True, False, False, False, False, True, False])
    observed = area_by_pairs(values[:, 0], inside)
    every = [np.isin(np.arange(8), chosen) for chosen in combinations(range(8), 3)]
    exact = np.mean([area_by_pairs(values[:, 0], group) >= observed - 1e-12 for group in every])
    assert separation(values, inside[:, None]).p[0, 0] == pytest.approx(exact, abs=0.08)  # of 199 permutations


def test_of_many_samples_areas_are_exact_and_rare_groups_may_not_be_judged() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=(9001, 2))
    groups = np.stack([values[:, 0] > 1, np.arange(9001) == 1], axis=1)
    found = separation(values, groups)
    assert found.area[0, 0] == 1
    assert found.p[0, 0] == 1 / 200
    assert found.area[1, 1] == pytest.approx(area_by_pairs(values[:, 1], groups[:, 1]))
    assert found.p[1, 1] == 1  # its sample is not among those that the permutations are made of


class Held:
    """A library of vectors alone."""

    class_names = ("ant", "bee")

    def __init__(self, relevance: np.ndarray, activation: np.ndarray, **given: object) -> None:
        self._vectors = vectors_of(relevance, activation, **given)
        self.layers = ("conv",)

    def vectors(self, layer: str) -> object:
        return self._vectors


def test_chance_gets_no_names() -> None:
    """Noise with few samples and many rare attributes, where single areas of 0.95 and more are common."""
    rng = np.random.default_rng(0)
    named, high = 0, 0
    for _ in range(30):
        values = rng.normal(size=(16, 40))
        columns = {f"column {index}": rng.permutation(np.arange(16) < 5) for index in range(20)}
        groups = np.stack([*columns.values()], axis=1)
        high += int((separation(values, groups).area >= 0.95).any(1).sum())
        named += bool(propose(Held(values, values), columns))
    assert high > 12  # a threshold alone would name them
    assert named <= 3  # 5 % of 30 are 1.5


def test_a_name_needs_response_and_use_and_the_best_is_taken() -> None:
    rng = np.random.default_rng(0)
    striped, noise = np.arange(200) % 2 == 0, rng.normal(size=(200, 4))
    activation, relevance = noise.copy(), rng.normal(size=(200, 4))
    activation[striped, 0] += 9  # responds and is used
    relevance[striped, 0] += 9
    activation[striped, 1] += 9  # responds, and is not used
    relevance[striped, 2] += 9  # is used, and does not respond
    columns = {
        "texture": np.where(striped, "striped", "plain").tolist(),
        "about": np.where(striped ^ (np.arange(200) < 8), "yes", "no").tolist(),
    }
    (found,) = propose(Held(relevance, activation), columns)
    assert (found.concept, found.label, found.source, found.area) == (0, "striped", "texture = striped", 1.0)
    assert found.other[0] == "about"
    assert found.other[1] == pytest.approx(0.96, abs=0.02)
    assert (found.p, found.use) == (1 / 200, 1.0)


def test_relevance_need_not_follow_where_predictions_agree_with_labels() -> None:
    rng = np.random.default_rng(0)
    striped, labels = np.arange(200) % 2 == 0, np.arange(200) // 50
    activation, relevance = rng.normal(size=(200, 3)), rng.normal(size=(200, 3))
    activation[striped, 0] += 9
    columns = {"texture": np.where(striped, "striped", "plain").tolist()}

    def named(prediction: np.ndarray, label: np.ndarray) -> list[str]:
        return [one.label for one in propose(Held(relevance, activation, prediction=prediction, label=label), columns)]

    assert named(labels, labels) == ["striped"]
    # a third of the answers are right, 0.11 more than chance would have
    third = np.where(np.arange(200) % 3 == 0, labels, rng.permutation(labels))
    assert named(third, labels) == ["striped"]
    assert named(rng.permutation(labels), labels) == []
    assert named(np.zeros(200, int), labels) == []  # one answer for all
    assert named(labels, np.full(200, -1)) == []  # no labels
    assert named(labels, np.where(np.arange(200) < 4, labels, -1)) == []  # four samples of one class
    mixed = np.where(np.isin(np.arange(200), [0, 1, 50, 51]), labels, -1)
    assert named(labels, mixed) == []  # four samples say too little


def test_attributes_that_few_samples_tell_apart_are_named_together() -> None:
    rng = np.random.default_rng(0)
    striped = np.arange(300) < 100
    values = rng.normal(size=(300, 2))
    values[striped, 0] += 9

    def named(differing: int) -> tuple[str, str, str]:
        columns = {
            "texture": np.where(striped, "striped", "plain").tolist(),
            "tag": (striped & (np.arange(300) >= differing)).tolist(),
        }
        (found,) = propose(Held(values, values), columns)
        return found.label, found.source, found.other[0]

    assert named(4) == ("striped or tag", "texture = striped or tag = True", "plain")
    assert named(5) == ("striped", "texture = striped", "tag")


def test_unknown_values_are_in_no_group_and_skipped_samples_do_not_count() -> None:
    mined = np.arange(40) < 30
    columns = {
        "tagged": [True] * 10 + [False] * 10 + [None] * 20,
        "period": ["9"] * 15 + ["10"] * 15 + ["11"] * 10,
        "name": [f"file {index}" for index in range(40)],
        "kind": ["9"] * 20 + ["dot"] * 20,
    }
    found, without = attributes_of(columns, mined)
    told = {one.label: (int(one.inside.sum()), int(one.known.sum())) for one in found}
    periods = {"period 9": (15, 30), "period 10": (15, 30)}
    assert told == {"tagged": (10, 20), **periods, "kind 9": (20, 30), "dot": (10, 30)}
    assert set(without) == {"name"}


def test_columns_of_other_samples_are_refused() -> None:
    values = np.random.default_rng(0).normal(size=(20, 2))
    library = Held(values, values, label=np.arange(20) % 2)
    labels = ["ant", "bee"] * 10
    assert propose(library, {"label": labels}) == []
    with pytest.raises(InputError, match=r"The column 'label' says 'bee' of sample 0, which was mined with the label"):
        propose(library, {"label": labels[::-1]})
    with pytest.raises(InputError, match=r"^The column 'size' has 3 values, and the data set has 20 samples\.$"):
        propose(library, {"size": [1, 2, 3]})
    with pytest.raises(InputError, match=r"No column says which samples belong together\. 'a': it has no two values"):
        propose(library, {"a": ["x"] * 20})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a,b\n1,2\n", "has 1 rows, and the data set has 3 samples"),
        ("a,b\n1,2\n3\n4,5\n", "Row 3 of "),
        ("a,a\n1,2\n1,2\n1,2\n", "names the column 'a' twice."),
        ("sample,a\n0,x\n3,y\n", "has a row of sample '3'; samples are 0 to 2."),
        ("sample,a\n0,x\n0,y\n", "has two rows of sample 0."),
    ],
)
def test_wrong_csv_files_are_refused(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InputError) as refused:
        read_columns(tmp_path / "a.csv", 3)
    assert sentence in str(refused.value)


def test_csv_rows_are_put_in_the_order_of_the_samples(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("\ufeffsample,shape\n2,star\n0,\"a, b\"\n", encoding="utf-8")
    assert read_columns(tmp_path / "a.csv", 3) == {"shape": ["a, b", "", "star"]}


def test_class_profiles_need_three_classes_and_a_gap_to_each() -> None:
    def library(means: list[list[float]], count: int = 20) -> SimpleNamespace:
        mean = np.array(means)
        variance = np.full(mean.shape, 0.01)
        statistics = ClassStatistics(mean, variance, mean, variance, mean * 0, np.full(len(mean), count))
        names = ("ant", "bee", "cat")[: len(mean)]
        return SimpleNamespace(layers=("conv",), class_names=names, statistics=lambda layer: statistics)

    # concept 0 is the bee's, 1 is shared with the cat, 2 differs by less than its spread
    (found,) = propose_from_classes(library([[0, 0, 0.5], [0.4, 0.4, 0.6], [0, 0.4, 0.5]]))
    assert (found.concept, found.label) == (0, "bee's")
    assert found.area == pytest.approx(0.9977, abs=1e-4)  # of a normal distribution at 0.4 / sqrt(0.02)
    assert propose_from_classes(library([[0, 0, 0], [0.4, 0.4, 0.4]])) == []
    assert propose_from_classes(library([[0, 0, 0.5], [0.4, 0.4, 0.6], [0, 0.4, 0.5]], count=9)) == []


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[crp.library.Library, Scenes]:
    scenes = Scenes("train", 320)
    options = {"layers": ["conv5"], "vectors": True, "k": 8, "patches": 3, "progress": False}
    path = tmp_path_factory.mktemp("demo") / "a.crp"
    return crp.mine(demo_model(), scenes, path=path, class_names=scenes.class_names, **options), scenes


def test_the_demo_gets_the_names_of_what_was_planted(demo: tuple, tmp_path: Path) -> None:
    library, scenes = demo
    found = {one.concept: one for one in propose(library, scenes.attributes())}
    # octagons had the tag, all of these scenes but one
    assert (found[37].label, found[37].area) == ("tagged or octagon", 1.0)
    assert {"striped", "dotted", "checked", "tagged or octagon"} <= {one.label for one in found.values()}
    # responds to a background, which decides nothing
    assert (found[31].label, found[31].use) == ("dusk", pytest.approx(0.5, abs=0.01))
    assert all(one.area >= 0.95 for one in found.values())
    assert {one.concept: one.label for one in propose_from_classes(library)}[37] == "octagon's"
    # the same from a file, as names to look at and to import
    columns = scenes.attributes()
    rows = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    (tmp_path / "scenes.csv").write_text("\n".join(rows))
    words = ["--propose", str(tmp_path / "scenes.csv"), "--export", str(tmp_path / "proposed.json")]
    done = CliRunner().invoke(main, ["names", str(library.path), *words], catch_exceptions=False)
    assert "conv5/37         tagged or octagon             1.000" in done.stdout
    assert done.stderr == f"{len(found)} of 40 concepts; the others fit no name.\n"
    assert library.given_names() == {}  # nothing is stored that nobody looked at
    names = read_names(tmp_path / "proposed.json")
    assert names["conv5", 37].note.startswith("Proposed from tagged = True or shape = octagon: AUC 1.000, of relev")
    assert library.merge_names(names.values()).changes == len(found)


def test_a_network_with_random_weights_gets_next_to_no_names(tmp_path: Path) -> None:
    """Some of its channels separate colours with an area of 0.95; a short form of docs/evidence/names.md."""
    scenes = Scenes("train", 320)
    options = {"layers": ["conv4", "conv5"], "vectors": True, "k": 8, "patches": 0, "progress": False}
    library = crp.mine(untrained(demo_model(), 2), scenes, path=tmp_path / "a.crp", **options)
    columns = scenes.attributes()
    attributes, _ = attributes_of(columns, np.ones(320, bool))
    groups = np.stack([one.inside for one in attributes], axis=1)
    areas = [separation(np.asarray(library.vectors(layer).activation), groups).area for layer in library.layers]
    assert sum(int((area >= 0.95).any(1).sum()) for area in areas) >= 8
    assert len(propose(library, columns)) <= 4  # of 80 concepts
    assert propose_from_classes(library) == []


def test_an_embedder_names_what_its_labels_say_and_noise_names_nothing(demo: tuple) -> None:
    library, _ = demo

    def brightness(pictures: list[np.ndarray]) -> np.ndarray:
        level = np.array([picture.mean() / 255 for picture in pictures]) - 0.5
        return np.stack([level, 0.02 * np.ones(len(level))], axis=1)

    crp.supply_patches(library, demo_model(), Scenes("train", 320))
    found = propose_from_embeddings(library, brightness, {"dark": np.array([-1.0, 0]), "light": np.array([1.0, 0])})
    levels = {
        concept: np.mean([patch.picture.mean() for patch in library.patches("conv5", concept, "relevance")])
        for concept in range(40)
        if library.patches("conv5", concept, "relevance")
    }
    middle = np.median(list(levels.values()))
    assert found
    assert all((levels[one.concept] < middle) == (one.label == "dark") for one in found)
    noise = np.random.default_rng(0)
    labels = {f"label {index}": noise.normal(size=8) for index in range(20)}
    assert propose_from_embeddings(library, lambda pictures: noise.normal(size=(len(pictures), 8)), labels) == []
    with pytest.raises(InputError, match=r"^The embedder returned \[\d+, 3\] for \d+ patches, but embeddings of names"):
        propose_from_embeddings(library, lambda pictures: np.zeros((len(pictures), 3)), labels)
