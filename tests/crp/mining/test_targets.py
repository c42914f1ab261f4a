import pytest
import torch

from crp.errors import InputError, SampleError
from crp.mining.targets import check_rule, explained_classes, rule_name

PREDICTION = torch.tensor([[0.1, 0.7, 0.2], [0.9, 0.0, 0.1]])
LABELS = torch.tensor([2, 0])
SAMPLES = torch.tensor([64, 65])


def second_best(prediction, labels):
    return prediction.argsort(1)[:, -2]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [("label", [2, 0]), ("prediction", [1, 0]), (second_best, [2, 2]), (lambda p, y: y.tolist(), [2, 0])],
)
def test_classes(rule, expected):
    assert explained_classes(rule, PREDICTION, LABELS, SAMPLES).tolist() == expected


@pytest.mark.parametrize(
    ("rule", "labels", "message"),
    [
        ("label", [2, 7], "Sample 65 has label 7, but the model has the classes 0 to 2."),
        ("label", [-1, 0], "Sample 64 has label -1, but the model has the classes 0 to 2."),
        (lambda p, y: y + 3, [0, 0], "Sample 64 is to be explained for class 3, but the model has the classes 0 to 2."),
    ],
)
def test_classes_out_of_range_name_the_sample(rule, labels, message):
    with pytest.raises(SampleError) as caught:
        explained_classes(rule, PREDICTION, torch.tensor(labels), SAMPLES)
    assert str(caught.value) == message


def one_too_few(prediction, labels):
    return [0]


def test_a_function_must_give_a_whole_number_for_each_sample():
    with pytest.raises(
        InputError, match=r"one_too_few returned torch.int64 of shape \[1\]; 2 whole numbers are needed"
    ):
        explained_classes(one_too_few, PREDICTION, LABELS, SAMPLES)
    with pytest.raises(InputError, match=r"returned torch.float32 of shape \[2\]"):
        explained_classes(lambda p, y: p[:, 0], PREDICTION, LABELS, SAMPLES)


def test_unknown_rule():
    with pytest.raises(InputError, match=r"^There is no target rule 'labels': did you mean 'label'\? A function of"):
        check_rule("labels")


def test_names_for_the_manifest():
    assert rule_name("label") == "label"
    assert rule_name(second_best).endswith(":second_best")
