"""Every form in which a caller may hold ids means the same ids, or is refused with a sentence."""

import re
import subprocess
import sys

import numpy as np
import pytest
import torch

from crp.errors import InputError
from crp.indices import class_ids, classes_of_samples, concept_id, concept_ids

ACTIVATION = torch.tensor([0.0, 5.0, 1.0, 4.0, 3.0, 2.0])

FORMS = {
    "int": (3, (3,)),
    "numpy.int64": (np.int64(3), (3,)),
    "0-d tensor": (torch.tensor(3), (3,)),
    "0-d array": (np.array(3), (3,)),
    "list": ([4, 0], (4, 0)),
    "tuple": ((4, 0), (4, 0)),
    "set": ({4, 0, 2}, (0, 2, 4)),
    "set of numpy numbers": ({np.int64(4), 2}, (2, 4)),
    "dict keys": ({4: "a", 0: "b"}.keys(), (4, 0)),
    "range": (range(1, 6, 2), (1, 3, 5)),
    "slice": (slice(0, 3, 2), (0, 2)),
    "slice from the end": (slice(-2, None), (4, 5)),
    "slice past the end": (slice(4, 100), (4, 5)),
    "topk().indices": (ACTIVATION.topk(3).indices, (1, 3, 4)),
    "topk().indices of a batch of one": (ACTIVATION[None].topk(3).indices, (1, 3, 4)),
    "argmax of a batch of one": (ACTIVATION[None].argmax(1), (1,)),
    "numpy array": (np.array([5, 1], dtype=np.uint8), (5, 1)),
    "list of 0-d tensors": (list(ACTIVATION.topk(2).indices), (1, 3)),
    "list of numpy numbers": (list(np.array([5, 1])), (5, 1)),
    "bool tensor": (ACTIVATION > 3, (1, 3)),
    "bool array": (ACTIVATION.numpy() > 3, (1, 3)),
    "bool list": ([False, True, False, True, False, False], (1, 3)),
    "mask that keeps none": (ACTIVATION > 9, ()),
    "empty list": ([], ()),
    "empty tensor": (torch.tensor([], dtype=torch.int64), ()),
    "repeated": ([2, 2, 5, 2], (2, 5)),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_means_the_ids_it_shows(form: str) -> None:
    value, expected = FORMS[form]
    for read in (concept_ids, class_ids):
        found = read(value, 6)
        assert found == expected
        assert all(type(each) is int for each in found)


def test_two_ids_of_two_are_ids_and_not_a_mask() -> None:
    assert concept_ids([0, 1], 2) == concept_ids(torch.tensor([0, 1]), 2) == (0, 1)
    assert concept_ids([True, False], 2) == (0,)


def test_concepts_count_from_the_end_and_classes_do_not() -> None:
    assert concept_ids([-1, -6, np.int64(-2)], 6) == (5, 0, 4)
    with pytest.raises(InputError, match=r"^There is no class -1: the model's output has the classes 0 to 5\.$"):
        class_ids([-1], 6)


def test_integers_are_ids_of_concepts_and_may_be_a_hot_vector_of_classes() -> None:
    for ones in ([1, 0, 0, 0, 1, 0], torch.tensor([1, 0, 0, 0, 1, 0])):
        assert concept_ids(ones, 6) == (1, 0)
        assert class_ids(ones, 6) == (0, 4)
    assert class_ids([1, 0, 0, 1, 0], 6) == (1, 0)  # too short for a hot vector
    assert concept_ids([0] * 6, 6) == (0,)
    sentence = (
        "[0, 0, 0, 0, 0, 0] may be classes or a mask, because the model's output has 6 classes: give each class once, "
        "or booleans."
    )
    with pytest.raises(InputError, match=f"^{re.escape(sentence)}$"):
        class_ids([0] * 6, 6)


def test_a_single_concept_in_any_form() -> None:
    forms = (3, [3], np.int64(3), torch.tensor([3]), ACTIVATION == 4, -3, slice(3, 4))
    assert [concept_id(form, 6) for form in forms] == [3] * 7
    with pytest.raises(InputError, match=r"^One concept is expected, given 2: \[3, 4\]\.$"):
        concept_id([3, 4], 6)


def test_one_class_for_each_sample() -> None:
    for value in ([1, 1, 0], (1, np.int64(1), 0), np.array([1, 1, 0]), torch.tensor([1, 1, 0])):
        assert classes_of_samples(value, 3, 2) == (1, 1, 0)
    for value in (torch.tensor(4), 4, [4], torch.tensor([4])):
        assert classes_of_samples(value, 2, 5) == (4, 4)
    refused = {
        "3 samples need one class each, given 2: [1, 0].": [1, 0],
        "There is no class 2: the model's output has the classes 0 to 1.": [0, 2, 1],
        "There is no class -1: the model's output has the classes 0 to 1.": [0, -1, 1],
        "A class is a whole number, given 1.0: the model's output has the classes 0 to 1.": torch.ones(3),
        "A class is a whole number, given True: the model's output has the classes 0 to 1.": [True, False, True],
        "A class is a whole number, given None: the model's output has the classes 0 to 1.": None,
    }
    for sentence, value in refused.items():
        with pytest.raises(InputError, match=f"^{re.escape(sentence)}$"):
            classes_of_samples(value, 3, 2)


RANGE = "layer 'top' has the concepts 0 to 5."
REFUSED = {
    "out of range": ([2, 6], f"There is no concept 6: {RANGE}"),
    "out of range from the end": (-7, f"There is no concept -7: {RANGE}"),
    "0-d tensor out of range": (torch.tensor(9), f"There is no concept 9: {RANGE}"),
    "a range beyond": (range(4, 8), f"There is no concept 6: {RANGE}"),
    "a slice beyond": (slice(6, 8), f"slice(6, 8, None) selects no concept: {RANGE}"),
    "a slice of names": (slice("a", "b"), f"slice('a', 'b', None) selects no concept: {RANGE}"),
    "float": (2.7, f"A concept is a whole number, given 2.7: {RANGE}"),
    "float in a list": ([2, 3.0], f"A concept is a whole number, given 3.0: {RANGE}"),
    "float tensor": (torch.tensor([1.5, 2.0]), f"A concept is a whole number, given 1.5: {RANGE}"),
    "bfloat16": (torch.tensor(2.0).bfloat16(), f"A concept is a whole number, given 2.0: {RANGE}"),
    "bool": (True, f"A concept is a whole number, given True: {RANGE}"),
    "numpy.bool": (np.bool_(False), f"A concept is a whole number, given False: {RANGE}"),
    "0-d bool tensor": (torch.tensor(True), f"A concept is a whole number, given True: {RANGE}"),
    "text": ("2", f"A concept is a whole number, given '2': {RANGE}"),
    "None": (None, f"A concept is a whole number, given None: {RANGE}"),
    "nested list": ([[1, 2]], f"A concept is a whole number, given [1, 2]: {RANGE}"),
    "dict": ({1: 0.5}, f"A concept is a whole number, given {{1: 0.5}}: {RANGE}"),
    "short mask": (torch.tensor([True, False]), f"A mask has one boolean for each concept, given 2 for 6: {RANGE}"),
    "long mask": ([True] * 7, f"A mask has one boolean for each concept, given 7 for 6: {RANGE}"),
    "mixed": ([True, 2], "[True, 2] mixes booleans and concepts: give one or the other."),
    "table": (torch.zeros(2, 3).long(), "Ids form a single row, given an array of shape [2, 3]."),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_an_id_is_refused_with_a_sentence(case: str) -> None:
    value, sentence = REFUSED[case]
    with pytest.raises(InputError, match=f"^{re.escape(sentence)}$"):
        concept_ids(value, 6, "layer 'top'")


def test_ids_are_read_without_torch() -> None:
    program = (
        "import sys, numpy; from crp.indices import concept_ids; "
        "print(concept_ids(numpy.array([1, 2]), 4), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "(1, 2) False"
