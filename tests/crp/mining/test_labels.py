import re

import numpy as np
import pytest
import torch
from torch import nn

import crp
from crp.errors import InputError, SampleError
from crp.mining.labels import read_label

# Of a model with 4 classes.
FORMS = {
    "int": (3, 3),
    "numpy.uint8": (np.uint8(3), 3),
    "tensor without axes": (torch.tensor(3), 3),
    "tensor of one": (torch.tensor([3], dtype=torch.int32), 3),
    "array of one": (np.array([3]), 3),
    "bool": (True, 1),
    "numpy.bool": (np.bool_(False), 0),
    "list": ([3, 0], (3, 0)),
    "list of one": ([3], (3,)),
    "list of the classes 0 and 1": ([0, 1], (0, 1)),
    "list of tensors": ([torch.tensor(3), torch.tensor(1)], (3, 1)),
    "set": ({2}, (2,)),
    "empty list": ([], ()),
    "one-hot tensor": (torch.tensor([0, 0, 1, 0]), (2,)),
    "multi-hot of floats": (torch.tensor([0.0, 1.0, 0.0, 1.0]), (1, 3)),
    "multi-hot of bfloat16": (torch.tensor([0.0, 1.0, 0.0, 1.0]).bfloat16(), (1, 3)),
    "bool array": (np.array([True, False, False, True]), (0, 3)),
    "one-hot list": ([0, 0, 1, 0], (2,)),
    "multi-hot list of floats": ([0.0, 1.0, 1.0, 0.0], (1, 2)),
    "tuple of booleans": ((False, True, False, True), (1, 3)),
    "vector of no class": (torch.zeros(4), ()),
    "list of no class": ([0, 0, 0, 0], ()),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_label_in_every_form(form):
    label, expected = FORMS[form]
    assert read_label(label, 4) == read_label(label) == expected


NEITHER = "which is not a whole number, a list of them, or a vector of 0 and 1."
NAME = "which is a name: give the number of the class instead, such as class_names.index('{}')."
COUNT = "but the model has 4 classes: give one entry for each class, or a set of classes."
REFUSED = {
    "fraction": (2.7, f"has the label 2.7, {NEITHER}"),
    "whole float": (2.0, f"has the label 2.0, {NEITHER}"),
    "float in a list": ([2, 1.5], f"has the label [2, 1.5], {NEITHER}"),
    "name": ("cat", f"has the label 'cat', {NAME.format('cat')}"),
    "list of names": (["cat", "dog"], f"has the label ['cat', 'dog'], {NAME.format('cat')}"),
    "neither": (None, f"has the label None, {NEITHER}"),
    "short vector": (torch.tensor([0, 1]), f"has the label tensor([0, 1]), a vector of length 2, {COUNT}"),
    "long vector": (np.ones(5), f"has the label array([1., 1., 1., 1., 1.]), a vector of length 5, {COUNT}"),
    "short booleans": ([True, False], f"has the label [True, False], a vector of length 2, {COUNT}"),
    "long one-hot list": ([0, 0, 1, 0, 0], f"has the label [0, 0, 1, 0, 0], a vector of length 5, {COUNT}"),
    "vector of one": (torch.tensor([1.0]), f"has the label tensor([1.]), a vector of length 1, {COUNT}"),
    "empty array": (np.zeros(0), f"has the label array([], dtype=float64), a vector of length 0, {COUNT}"),
    "array of classes": (
        np.array([3, 0]),
        "has the label array([3, 0]), an array that is not a vector of 0 and 1: give a list of classes.",
    ),
    "probabilities": (
        torch.tensor([0.5, 0.5, 0.0, 0.0]),
        "has the label tensor([0.5000, 0.5000, 0.0000, 0.0000]), an array that is not a vector of 0 and 1: "
        "give a list of classes.",
    ),
    "mixed": ([True, 3], "has the label [True, 3], which mixes booleans and numbers."),
    "table": (torch.zeros(1, 4), "has a label of shape [1, 4]; it must be a class, or a single row of classes."),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_label_is_refused(case):
    label, sentence = REFUSED[case]
    with pytest.raises(InputError, match=f"^{re.escape(sentence)}$"):
        read_label(label, 4)


def test_two_numbers_of_a_model_with_two_classes():
    for label in ([0, 1], (1, 0)):
        with pytest.raises(InputError) as caught:
            read_label(label, 2)
        assert str(caught.value) == (
            f"has the label {label}, which may be two classes or a vector of 0 and 1 for 2 classes: "
            "give a set of classes, or a vector of booleans."
        )
    assert read_label({0, 1}, 2) == (0, 1)
    assert read_label([False, True], 2) == read_label(torch.tensor([0, 1]), 2) == (1,)
    assert read_label([1, 1], 2) == (0, 1)
    assert read_label(torch.tensor([1.0]), 1) == (0,)  # binary cross entropy's label of a positive sample


def mined(tmp_path, labels, **options):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 4)).eval()
    data = [(torch.rand(1, 4, 4), label) for label in labels]
    options = {"layers": ["0"], "path": tmp_path / "a.crp", "patches": 0, "progress": False, **options}
    return crp.mine(model, data, **options)


def test_mining_counts_each_form_of_label_for_its_classes(tmp_path):
    library = mined(tmp_path, [label for label, _ in FORMS.values()])
    expected = [0] * 4
    for _, classes in FORMS.values():
        for target in [classes] if isinstance(classes, int) else classes:
            expected[target] += 1
    assert library.statistics("0").count.tolist() == expected


def test_mining_names_the_sample_whose_label_it_refuses(tmp_path):
    labels = [1, 2, torch.tensor([0, 1, 0, 0, 1])]
    sentence = (
        r"^Sample 2 has the label tensor\(\[0, 1, 0, 0, 1\]\), a vector of length 5, but the model has 4 "
        r"classes: give one entry for each class, or a set of classes\.$"
    )
    with pytest.raises(SampleError, match=sentence):
        mined(tmp_path, labels)
    # if labels are not used, anything that is not a label counts as missing
    assert mined(tmp_path, labels, targets="prediction", vectors=True).vectors("0").label.tolist() == [1, 2, -1]
