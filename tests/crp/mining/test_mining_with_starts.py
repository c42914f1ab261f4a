"""A start as the target of mining: the same lists and patches as a function that starts it, and the library says so."""

import re

import numpy as np
import pytest
import torch
from torch import nn

import crp
from crp.analysis.prediction import concept_vector
from crp.attribution.starts import ClassInMask, Difference, Distance, Given, Logit, Logits, LogOdds, Similarity
from crp.errors import InputError, LibraryError, SampleError
from crp.library.summary import described_in_words
from crp.mining import AttributionTarget
from crp.mining.targets import attribution_targets

NAMES = ["ant", "bee", "cat"]
MASK = torch.zeros(6, 6, dtype=torch.bool)
MASK[1:4, 2:5] = True


def classifier():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)).double()


def segmentation():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 1)).double()


DATA = [
    (torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(seed)).double(), seed % 3) for seed in range(10)
]  # fmt: skip

CASES = {
    "difference": (classifier, Difference(Logit(2), Logit(0)), "cat − ant"),
    "log-odds": (classifier, LogOdds(1), "bee against all others"),
    "similarity": (classifier, Similarity(torch.tensor([1.0, -1, 2]), "photo 3.jpg"), "similarity to photo 3.jpg"),
    "distance": (classifier, Distance(0.25, 1), "bee − 0.25"),
    "mask": (segmentation, ClassInMask(1, MASK), "bee inside the mask"),
}


def mined(model, path, targets, **options):
    given = {"layers": ["0"], "k": 4, "patches": 2, "block_size": 4, "progress": False, "class_names": NAMES}
    return crp.mine(model, DATA, path=path, targets=targets, **{**given, **options})


@pytest.mark.parametrize("case", CASES)
def test_lists_and_patches_are_those_of_a_function_that_starts_the_same(case, tmp_path):
    make, start, name = CASES[case]

    def function(prediction, labels):
        return AttributionTarget(np.zeros(len(prediction), dtype=int), start.relevance(prediction))

    ours = mined(make(), tmp_path / "start.crp", start, vectors=True)
    theirs = mined(make(), tmp_path / "function.crp", function)
    for mode in ("relevance", "activation", "negative"):
        first, second = ours.references("0", mode), theirs.references("0", mode)
        np.testing.assert_array_equal(first.sample, second.sample)
        np.testing.assert_array_equal(first.score, second.score)
        for concept in range(4):
            for one, other in zip(ours.patches("0", concept, mode), theirs.patches("0", concept, mode), strict=True):
                np.testing.assert_array_equal(one.heatmap, other.heatmap)
                assert one.target_name == name
    settings = ours.manifest["settings"]
    assert settings["start"] == "start"
    assert re.fullmatch(r".+ \[[0-9a-f]{12}\]", settings["targets"])
    assert (ours.class_names, ours.output_names, ours.manifest["classes"]) == ((name,), tuple(NAMES), 1)
    assert f"{name} in each sample: relevance starts as" in described_in_words(ours)
    vectors = ours.vectors("0")
    assert vectors.target.tolist() == [0] * 10
    assert vectors.prediction.tolist() == [-1] * 10  # the library has no predicted classes
    row = np.asarray(vectors.relevance[3], dtype=float)
    np.testing.assert_allclose(concept_vector(make(), DATA[3][0], ours, "0", target=start), row, rtol=0, atol=2e-3)
    with pytest.raises(LibraryError, match=r"the start .* starts relevance; this needs a library whose relevance"):
        concept_vector(make(), DATA[3][0], ours, "0")


def test_explaining_with_a_library_of_a_start(tmp_path):
    model, start = classifier(), Similarity(torch.tensor([1.0, -1, 2]), "photo 3.jpg")
    library = mined(model, tmp_path / "x.crp", start)
    explanation = crp.explain(model, DATA[0][0], library, target=start)
    assert explanation.target.name == "similarity to photo 3.jpg"
    assert crp.explain(model, DATA[0][0], library, target="bee").target.name == "bee"  # an output keeps its name
    with pytest.raises(InputError, match=r"^The library was mined with 'similarity to photo 3\.jpg' as its start, so "):
        crp.explain(model, DATA[0][0], library)


def test_without_class_names_the_start_has_a_name_and_the_outputs_have_none(tmp_path):
    library = mined(classifier(), tmp_path / "x.crp", LogOdds(1), class_names=None)
    assert (library.class_names, library.output_names) == (("class 1 against all others",), ())
    assert crp.explain(classifier(), DATA[0][0], library, target=0).target.name == "class 0"


def test_more_patches_and_verification_need_the_same_start(tmp_path):
    model, start = classifier(), Similarity(torch.tensor([1.0, -1, 2]))
    whole = mined(model, tmp_path / "whole.crp", start, patches_now="all")
    part = mined(model, tmp_path / "part.crp", start, patch_concepts={"0": [0]})
    for wrong in (None, Similarity(torch.tensor([1.0, 1, 2]))):
        with pytest.raises(LibraryError, match=r"was started by the start 'similarity to the reference \[\w+\]': pass"):
            crp.add_patches(part, model, DATA, "0", [1, 2, 3], targets=wrong, progress=False)
    crp.add_patches(part, model, DATA, "0", [1, 2, 3], targets=start, progress=False)
    assert part.file("0", "patches").read_bytes() == whole.file("0", "patches").read_bytes()
    assert not crp.verify(whole.path, model, DATA, targets=start).wrong
    (wrong,) = crp.verify(whole.path, model, DATA, targets=Similarity(torch.tensor([1.0, 1, 2]))).wrong
    assert wrong.startswith("Relevance was started by 'similarity to the reference [")


def test_shards_of_a_start_merge_to_the_same_library(tmp_path):
    start = LogOdds(1)
    whole = mined(classifier(), tmp_path / "whole.crp", start)
    for place in (1, 2):
        mined(classifier(), tmp_path / "parts.crp", start, shard=(place, 2))
    with pytest.raises(InputError, match=r"^The shards used the target rule 'class 1 against all others \["):
        crp.merge(classifier(), DATA, path=tmp_path / "parts.crp", progress=False)
    merged = crp.merge(classifier(), DATA, path=tmp_path / "parts.crp", targets=start, progress=False)
    for file in ("references", "patches", "statistics"):
        assert merged.file("0", file).read_bytes() == whole.file("0", file).read_bytes()
    assert merged.manifest == whole.manifest


def test_samples_in_which_nothing_starts_do_not_take_part():
    output = torch.zeros(3, 2, 1, 2)
    output[0, 1], output[1, 0] = 2, 3
    (target,) = attribution_targets(ClassInMask(1), output, torch.tensor([-1] * 3), torch.arange(3), 1)
    assert target.targets.tolist() == [0, -1, -1]
    assert target.relevance.sum((1, 2, 3)).tolist() == [4, 0, 0]


REFUSED = {
    "a class for each sample": (classifier, Logits([0, 1]), "1 samples need one class each, given 2: [0, 1]."),
    "a mask for each sample": (segmentation, ClassInMask(1, MASK.expand(4, 6, 6)), "The mask has the size [4, 6, 6], "
                               "and the model's output has [6, 6]: a mask has the size of the output, after "
                               "preprocessing."),
    "a reference for each sample": (classifier, Similarity(torch.ones(4, 3)), "The reference has the shape [4, 3], and "
                                    "the model's output [1, 3]: both are embeddings of the same length."),
    "a class of a map": (segmentation, Logit(1), "Targets name classes of an output [N, classes]; this model's output "
                         "is [1, 3, 6, 6]."),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_before_the_pass(case, tmp_path):
    make, start, sentence = REFUSED[case]
    with pytest.raises(InputError) as caught:
        mined(make(), tmp_path / "x.crp", start)
    assert str(caught.value) == sentence


def test_names_of_another_number_of_outputs_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"^There are 2 class names, and the model has 3 classes\.$"):
        mined(classifier(), tmp_path / "x.crp", LogOdds(1), class_names=["ant", "bee"])


def of_the_block(prediction, labels):
    """Explain each sample's class by what it has more of than the block on average."""
    centred = prediction - prediction.mean(0)
    return AttributionTarget(labels.numpy(), centred * nn.functional.one_hot(labels, 3))


DEPENDING = {
    "start": Difference(Given(lambda output: output / output.abs().max()), Logit(0)),
    "relevance of a function": of_the_block,
    "classes of a function": lambda prediction, labels: prediction.argmax(1)[0].expand(len(prediction)),
}


@pytest.mark.parametrize("rule", DEPENDING.values(), ids=DEPENDING)
def test_what_is_explained_of_a_sample_depends_on_it_alone(rule, tmp_path):
    """Otherwise scores would depend on the blocks."""
    with pytest.raises(SampleError, match=r"^Sample \d is explained in another way in a block of samples than alone: "):
        mined(classifier(), tmp_path / "library.crp", rule)


def test_samples_without_a_label_among_others_do_not_refuse_a_rule(tmp_path):
    """A function that returns several targets returns fewer for a sample alone."""

    def both(prediction, labels):
        found = []
        for target in labels.unique().tolist():
            held = np.where(labels.numpy() == target, target, -1)
            found.append(AttributionTarget(held, Logit(target)))
        return found

    ours = mined(classifier(), tmp_path / "ours.crp", both)
    usual = mined(classifier(), tmp_path / "usual.crp", "label")
    assert np.array_equal(ours.references("0", "relevance").score, usual.references("0", "relevance").score)
