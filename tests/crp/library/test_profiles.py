"""Who uses a concept and which concepts are alike, against the formulas written out; a concept in a notebook."""

import base64
import re

import numpy as np
import pytest

from crp.errors import InputError
from crp.library import open_library
from crp.library.manifest import layer_folder, write_manifest
from crp.library.patches import MODES, StoredPatch, encode_values, write_patches
from crp.library.profiles import LayerProfiles, Likeness, class_shares
from crp.library.references import ClassStatistics, References
from crp.library.tables import write_table

from .conftest import LAYERS, manifest, references, stored_patch

SHARE = np.array([[0.5, 0.25, 0.0], [-0.25, 0.5, 0.0], [0.0, 0.125, 0.0], [0.0, 0.0, 0.0]])
SAMPLES = np.array([[0, 1], [1, 0], [-1, -1]])
SCORES = np.array([[0.5, 0.25], [0.25, 0.0], [-np.inf, -np.inf]], dtype=np.float32)


@pytest.fixture
def library(folder):
    """Three concepts of "block/one": the first two share a sample and some classes, the third is silent."""
    tables = folder / "layers" / layer_folder("block/one")
    _with_share(open_library(folder), SHARE)
    arrays = references(LAYERS["block/one"][0])
    write_table(tables / "references.safetensors", arrays | {"relevance.sample": SAMPLES, "relevance.score": SCORES})
    return open_library(folder)


def test_users_have_samples_and_stand_in_the_order_of_their_share(library):
    """The library has 0, 1, 2 and 3 samples of its four classes."""
    profiles = library.profiles("block/one")
    assert [(use.name, use.share, use.samples) for use in profiles.users(1, 2)] == [
        ("dog", 0.5, 1),
        ("<owl>", 0.125, 2),
    ]
    assert profiles.users(0, 5) == ()
    assert [(use.name, use.share) for use in profiles.users(0, 5, sign=-1)] == [("dog", -0.25)]
    assert profiles.users(2, 5) == ()


def test_a_class_of_one_lucky_sample_does_not_lead():
    share = np.array([[0.6], [0.3], [0.4], [-0.5]])
    variance = np.array([[0.0], [0.01], [0.04], [0.0]])
    nothing = np.zeros_like(share)
    statistics = ClassStatistics(share, variance, nothing, nothing, nothing, np.array([1, 45, 5, 10]))
    found = class_shares(statistics, 0, ["ant", "bee", "cat", "dog"], 5)
    # 0.3 * 45 / 50 = 0.27, 0.4 * 5 / 10 = 0.2, 0.6 * 1 / 6 = 0.1
    assert [(use.name, use.share, use.samples, use.spread) for use in found] == [
        ("bee", 0.3, 45, 0.1),
        ("cat", 0.4, 5, 0.2),
        ("ant", 0.6, 1, None),
    ]
    assert [use.name for use in class_shares(statistics, 0, [], 5, sign=-1)] == ["class 3"]


def test_likeness_by_classes_is_the_cosine(library):
    profiles = library.profiles("block/one")
    one, other = SHARE[:, 1], SHARE[:, 0]
    expected = one @ other / np.sqrt((one @ one) * (other @ other))  # (0.125 - 0.125) = 0: nothing alike
    assert expected == 0
    assert profiles.alike_by_classes(0, 5) == ()
    # without the class that tells them apart
    profiles = _with_share(library, np.abs(SHARE)).profiles("block/one")
    one, other = np.abs(SHARE[:, 0]), np.abs(SHARE[:, 1])
    (found,) = profiles.alike_by_classes(0, 5)
    assert found.concept == 1
    assert found.value == pytest.approx(one @ other / np.sqrt((one @ one) * (other @ other)), rel=1e-12)
    assert profiles.alike_by_classes(2, 5) == ()


def _with_share(library, share):
    kept = vars(library.statistics("block/one"))
    write_table(library.file("block/one", "statistics"), kept | {"share": share})
    return library


def test_likeness_by_samples_counts_those_in_common(library):
    profiles = library.profiles("block/one")
    # sample 1, but not sample 0: it has no relevance for the second concept
    assert profiles.alike_by_samples(0, 5) == profiles.alike_by_samples(0, 1) == (Likeness(1, 1.0),)
    # places without a sample are in common with nobody
    assert profiles.alike_by_samples(2, 5) == ()


def test_rounding_errors_resemble_nothing(folder):
    """Shares below 0.05 % in every class have a direction (here that of another concept), and a few samples."""
    share = np.array([[0.5, 0.5e-6, 0.0], [0.25, 0.25e-6, 0.0004], [0.0, 0.0, -0.0006], [0.0, 0.0, 0.0]])
    variance = np.array([[0.0, 1e-12, 0.0]] * 4)
    nothing = np.zeros_like(share)
    statistics = ClassStatistics(share, variance, nothing, nothing, nothing, np.array([9, 9, 9, 9]))
    samples = np.array([[0, 1], [0, 1], [0, 1]])
    found = References(**dict.fromkeys(("sample", "position", "target"), samples), score=samples + 1.0)
    profiles = LayerProfiles(statistics, found, [])
    assert profiles.used.tolist() == [True, False, True]
    # by the cosine, concept 1 would be 1.00 alike to concept 0
    assert [one.concept for one in profiles.alike_by_classes(0, 5)] == [2]
    assert profiles.alike_by_classes(1, 5) == profiles.alike_by_samples(1, 5) == ()
    assert profiles.alike_by_samples(0, 5) == (Likeness(2, 2.0),)
    # shares that cancel out in the mean: no class uses concept 1, but samples do
    variance[0, 1] = 0.01
    profiles = LayerProfiles(ClassStatistics(share, variance, *[nothing] * 3, statistics.count), found, [])
    assert profiles.alike_by_samples(0, 5) == (Likeness(1, 2.0), Likeness(2, 2.0))
    assert [one.concept for one in profiles.alike_by_classes(0, 5)] == [2]


def test_a_concept_reads_what_it_is_asked(library):
    concept = library.concept("features.3", 1)
    assert [patch.sample for patch in concept.patches("relevance")] == [6]
    assert [use.name for use in concept.users] == ["newt", "<owl>", "dog"]
    assert repr(concept) == (
        "<concept 1 of features.3: used most by newt +700.0% (n = 3), <owl> +500.0% (n = 2), dog +300.0% (n = 1)>"
    )
    with pytest.raises(InputError, match=r"^There is no concept 2: layer 'features\.3' has the concepts 0 to 1\.$"):
        library.concept("features.3", 2)


def test_a_concept_shows_itself_with_everything_escaped(folder):
    patches = {0: {mode: (stored_patch(5), stored_patch(4)) for mode in MODES}}
    write_patches(open_library(folder).file("block/one", "patches"), patches)
    library = open_library(folder)
    text = library.concept("block/one", 0)._repr_html_()
    assert "<caption>Concept 0 of <bdi>block/one</bdi></caption>" in text
    assert "&lt;owl&gt;" in text
    assert "<owl>" not in text
    pictures = re.findall(r'src="data:image/(png|jpeg);base64,([^"]+)" alt="sample (\d), score ([\d.]+)"', text)
    assert [(sample, score) for _, _, sample, score in pictures] == [("5", "1.25"), ("4", "1")] * len(MODES)
    stored = [patch.picture for mode in MODES for patch in patches[0][mode]]
    assert [base64.b64decode(data) for _, data, _, _ in pictures] == stored
    assert "most relevant for" in text
    assert "most active on" in text


def test_windows_of_a_signal_are_told_in_words(folder):
    description = manifest()
    write_manifest(folder, {**description, "data": {**description["data"], "shape": [1, 20]}})
    values = encode_values(np.zeros((1, 5), dtype=np.float32))
    window = StoredPatch(3, 0.5, 0, 0, (10, 15), values, np.zeros(5, dtype=np.int8))
    write_patches(open_library(folder).file("block/one", "patches"), {0: {"relevance": (window,)}})
    text = open_library(folder).concept("block/one", 0)._repr_html_()
    assert "sample 3, score 0.5, from 10 to 15" in text
    assert "<img" not in text
