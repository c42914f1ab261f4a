from unittest import mock

import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from crp.errors import InputError, SampleError
from crp.library.fingerprints import sample_digest
from crp.mining.block_stream import SampleReader, blocks, check_repeatable

DATA = torch.arange(11 * 2.0).reshape(11, 2)
LABELS = torch.arange(11) % 4


class Answering(Dataset):
    """Samples of three numbers with label 1; `special` is a function that returns another item for one sample."""

    def __init__(self, special, index=5, length=9):
        self.special, self.index, self.length = special, index, length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return self.special() if index == self.index else (torch.full((3,), float(index)), 1)


class Stream(IterableDataset):
    def __iter__(self):
        yield torch.zeros(3)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_sample_i_is_in_block_i_over_b(workers):
    found = list(blocks(SampleReader(TensorDataset(DATA, LABELS), True), 4, workers, {}))
    assert [block.samples.tolist() for block in found] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]
    assert torch.equal(torch.cat([block.data for block in found]), DATA)
    assert torch.equal(torch.cat([block.labels for block in found]), LABELS)


def test_samples_without_labels():
    for dataset in (TensorDataset(DATA), list(DATA)):
        (block,) = blocks(SampleReader(dataset, False), 20, 0, {})
        assert torch.equal(block.data, DATA)
        assert block.labels.tolist() == [-1] * 11
    with pytest.raises(SampleError) as caught:
        SampleReader(list(DATA), True)
    assert str(caught.value) == "Sample 0 has no label; pass targets='prediction' to explain the prediction."


@pytest.mark.parametrize(
    ("dataset", "kind"), [(Stream(), "Stream"), ((sample for sample in DATA), "generator"), ({1, 2}, "set")]
)
def test_data_sets_that_cannot_be_asked_for_a_sample(dataset, kind):
    with pytest.raises(InputError) as caught:
        SampleReader(dataset, False)
    assert str(caught.value) == (
        f"The data set is a {kind}, whose samples cannot be read by index; "
        "a map-style data set with __len__ and __getitem__ is needed."
    )


@pytest.mark.parametrize("period", [2, 5, 10])
def test_spread_samples_do_not_fall_in_step_with_alternating_classes(period):
    reader = SampleReader(range_data(1000), False)
    for count in (100, 200, 400, 500):
        found = reader.spread(count)
        assert len(set(found)) == count
        by_class = torch.tensor(found).remainder(period).bincount(minlength=period) * period / count
        assert float(by_class.min()) >= 0.8
        assert float(by_class.max()) <= 1.2
        by_place = torch.tensor(found).div(100, rounding_mode="floor").bincount(minlength=10) * 10 / count
        assert float(by_place.min()) >= 0.8
    assert sorted(reader.spread(2000)) == list(range(1000))


def range_data(length):
    return torch.arange(float(length))[:, None]


def test_empty_data_set():
    with pytest.raises(InputError) as caught:
        SampleReader([], False)
    assert str(caught.value) == "The data set is empty; at least one sample is needed."


def raising():
    raise OSError("the disk is gone")


NO_LABEL = "which is not a whole number, a list of them, or a vector of 0 and 1."
NEEDED = "a float tensor or a picture is needed, alone, with a label, or in a dict."
SPECIAL = [
    (raising, "Sample 5 could not be read: OSError: the disk is gone"),
    (lambda: (torch.tensor([1.0, float("nan"), 0.0]), 1), "Sample 5 holds NaN or infinite values."),
    (
        lambda: (torch.zeros(4), 1),
        "Sample 5 is torch.float32 of shape [4], sample 0 is torch.float32 of shape [3]; all samples must be alike.",
    ),
    (
        lambda: (torch.zeros(3, dtype=torch.uint8), 1),
        f"Sample 5 is a torch.uint8 tensor; {NEEDED}",
    ),
    (lambda: ([1, 2, 3], 1), f"Sample 5 is a list; {NEEDED}"),
    (
        lambda: {"photo": torch.zeros(3), "label": 1},
        "Sample 5 is a dict with 'photo', 'label'; it must have one of 'image', 'img', 'pixel_values', and has none.",
    ),
    (
        lambda: {"image": torch.zeros(3), "img": torch.zeros(3)},
        "Sample 5 is a dict with 'image', 'img'; it must have one of 'image', 'img', 'pixel_values', and has several.",
    ),
    (lambda: {"image": torch.zeros(3)}, "Sample 5 has no label; pass targets='prediction' to explain the prediction."),
    (
        lambda: {"image": Image.new("L", (4, 6)), "label": 1},
        "Sample 5 is a picture (L, 4 x 6 pixels), and it is not known how pictures become model input; pass "
        "preprocessing=crp.Preprocessing(...).",
    ),
    (lambda: {"image": "photo.jpg", "label": 1}, f"Sample 5 is a str; {NEEDED}"),
    (lambda: (torch.zeros(3), 0.5), f"Sample 5 has the label 0.5, {NO_LABEL}"),
    (
        lambda: (torch.zeros(3), torch.full((3,), 2)),
        "Sample 5 has the label tensor([2, 2, 2]), an array that is not a vector of 0 and 1: give a list of classes.",
    ),
    (lambda: (torch.zeros(3), [1, 2.5]), f"Sample 5 has the label [1, 2.5], {NO_LABEL}"),
    (
        lambda: (torch.zeros(3), [1, "a"]),
        "Sample 5 has the label [1, 'a'], which is a name: give the number of the class instead, such as "
        "class_names.index('a').",
    ),
    (
        lambda: (torch.zeros(3), torch.zeros(1, 3)),
        "Sample 5 has a label of shape [1, 3]; it must be a class, or a single row of classes.",
    ),
]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(("special", "message"), SPECIAL, ids=[message[:40] for _, message in SPECIAL])
def test_samples_that_are_refused_by_their_index(special, message, workers):
    with pytest.raises(SampleError) as caught:
        list(blocks(SampleReader(Answering(special), True), 4, workers, {}))
    assert str(caught.value) == message


def test_samples_of_no_size():
    with pytest.raises(SampleError, match=r"Sample 0 has shape \[3, 0\] and holds no values."):
        SampleReader(TensorDataset(torch.zeros(5, 3, 0)), False)


def test_values_that_change_between_reads_are_refused():
    reader = SampleReader(Answering(lambda: (torch.rand(3), 1)), True)
    digests = {index: sample_digest(reader[index][0]) for index in (0, 5)}
    sentence = (
        "Sample 5 of the data set has other values when it is read again; "
        "mining needs a data set without random augmentation."
    )
    with pytest.raises(InputError) as caught:
        check_repeatable(reader, digests)
    assert str(caught.value) == sentence
    with pytest.raises(InputError) as caught:
        list(blocks(reader, 4, 0, digests))
    assert str(caught.value) == sentence


def test_steady_data_sets_pass():
    reader = SampleReader(TensorDataset(DATA), False)
    digests = {index: sample_digest(reader[index][0]) for index in range(11)}
    check_repeatable(reader, digests)
    assert sum(len(block.samples) for block in blocks(reader, 4, 0, digests)) == 11


@pytest.mark.parametrize("workers", [0, 1])
def test_the_callers_random_state_is_left_alone(workers):
    before = torch.get_rng_state()
    list(blocks(SampleReader(TensorDataset(DATA), False), 4, workers, {}))
    assert torch.equal(torch.get_rng_state(), before)


def test_pinned_blocks_hold_pinned_data_and_the_same_of_all_else():
    (block,) = blocks(SampleReader(TensorDataset(DATA, LABELS), True), 20, 0, {})
    with mock.patch.object(torch.Tensor, "pin_memory", lambda tensor: tensor + 1000):
        pinned = block.pin_memory()
    assert torch.equal(pinned.data, DATA + 1000)
    assert (pinned.number, pinned.samples, pinned.labels) == (block.number, block.samples, block.labels)
