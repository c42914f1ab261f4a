"""Names and indices of classes: one reading for every place that shows or takes a class."""

import re

import numpy as np
import pytest
import torch

from crp.class_names import as_class_names, class_index, class_name
from crp.errors import InputError

NAMES = ("ant", "bee", "crane", "dog", "crane", "3")


@pytest.mark.parametrize(
    ("names", "index", "name"),
    [
        (NAMES, 1, "bee"),
        ((), 7, "class 7"),
        (("ant", ""), 1, "class 1"),
        (("ant",), 1, "class 1"),
        (NAMES, -1, "class -1"),
    ],
)
def test_a_class_has_its_name_or_its_number(names, index, name):
    assert class_name(names, index) == class_name(names, index, 20) == name


@pytest.mark.parametrize(("names", "name"), [((), "output"), (("price",), "price"), (("",), "output")])
def test_the_only_output_of_a_model_is_no_class(names, name):
    assert class_name(names, 0, 1) == name


@pytest.mark.parametrize(
    ("target", "index"),
    [
        ("bee", 1),
        ("5", 5),
        ("3", 5),
        (2, 2),
        (np.int64(4), 4),
        (torch.tensor(0), 0),
        ([1], 1),
        (np.arange(6) == 3, 3),
        (torch.tensor([0.1, 0.2, 0.9]).topk(1).indices, 2),
    ],
)
def test_a_class_is_read_by_name_or_index(target, index):
    assert class_index(NAMES, target, 6) == index


@pytest.mark.parametrize(
    ("names", "target", "message"),
    [
        (NAMES, "bae", "There is no class 'bae': did you mean 'bee'?"),
        (NAMES, "crane", "2 classes have the name 'crane': give one of the indices 2, 4."),
        (NAMES, 6, "There is no class 6: the library has the classes 0 to 5."),
        (NAMES, "-1", "There is no class -1: the library has the classes 0 to 5."),
        (NAMES, 1.5, "A class is a whole number, given 1.5: the library has the classes 0 to 5."),
        (NAMES, [1, 2], "One class is expected, given 2: [1, 2]."),
        ((), "bee", "There is no class 'bee': the library has no class names, give an index below 6."),
    ],
)
def test_what_names_no_single_class_is_refused(names, target, message):
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        class_index(names, target, 6, "the library")


@pytest.mark.parametrize(
    "names",
    [
        ["ant", "bee", "ant"],
        ("ant", "bee", "ant"),
        np.array(["ant", "bee", "ant"]),
        {0: "ant", 1: "bee", 2: "ant"},
        {2: "ant", 0: "ant", 1: "bee"},
        {"0": "ant", "1": "bee", "2": "ant"},
        {np.int64(0): "ant", 1: "bee", "2": "ant"},
        {"x": "ant", "y": "bee", "z": "ant"}.values(),
        (name for name in ("ant", "bee", "ant")),
    ],
)
def test_names_in_every_form(names):
    found = as_class_names(names)
    assert found == ("ant", "bee", "ant")
    assert all(type(name) is str for name in found)


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ("abc", "class_names must be a list of names or a dict from index to name, given 'abc'."),
        (3, "class_names must be a list of names or a dict from index to name, given 3."),
        ({"a"}, "class_names must be a list of names or a dict from index to name, given {'a'}."),
        (range(3), "class_names must hold strings, given 0 for class 0."),
        (["a", None], "class_names must hold strings, given None for class 1."),
        (["a", b"b"], "class_names must hold strings, given b'b' for class 1."),
        ({"cat": 0, "dog": 1}, "class_names must have the keys 0 to 1, given 'cat', 'dog'."),
        ({1: "a", 2: "b"}, "class_names must have the keys 0 to 1, given 1, 2."),
        ({0: "a", "0": "b"}, "class_names must have the keys 0 to 1, given 0, '0'."),
        ({True: "a", 0: "b"}, "class_names must have the keys 0 to 1, given True, 0."),
        ({0: 1}, "class_names must hold strings, given 1 for class 0."),
    ],
)
def test_what_is_no_list_of_names_is_refused(names, sentence):
    with pytest.raises(InputError, match=f"^{re.escape(sentence)}$"):
        as_class_names(names)
