"""Items of data sets, class names of data sets, and both in mining."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import Subset, TensorDataset
from torchvision.datasets import ImageFolder

import crp
from crp.dataset_items import class_names_of, read_item
from crp.errors import InputError
from crp.preprocessing import Preprocessing
from crp.sources import load_data

HALF = Preprocessing(mean=0.5, std=0.5)
PICTURE = Image.fromarray(np.uint8([[[0, 51, 255], [255, 0, 102]]]))


@pytest.mark.parametrize(
    "item, label",
    [
        (PICTURE, None),
        ((PICTURE, 3), 3),
        ({"image": PICTURE, "label": 3, "id": 7}, 3),
        ({"img": PICTURE, "labels": [1, 2]}, [1, 2]),
        ({"pixel_values": PICTURE}, None),
    ],
)
def test_pictures_become_model_input(item, label):
    data, found = read_item(item, HALF)
    expected = torch.tensor([[[0, 1.0]], [[0.2, 0]], [[1, 0.4]]]) * 2 - 1
    torch.testing.assert_close(data, expected)
    assert found == label


def test_a_transparent_picture_is_drawn_on_white_as_one_from_a_file_is():
    data, _ = read_item(Image.new("RGBA", (1, 1), (255, 0, 0, 0)), HALF)
    assert data.flatten().tolist() == [1, 1, 1]


class Hub(list):
    """A data set with the features of Hugging Face's."""

    @property
    def features(self):
        return {"image": None, "label": SimpleNamespace(names=["ant", "bee", "cat"])}


class Counted(TensorDataset):
    classes = 3


def test_class_names():
    hub = Hub([{"image": PICTURE, "label": 1}] * 4)
    assert class_names_of(hub) == class_names_of(Subset(hub, [0, 2])) == ("ant", "bee", "cat")
    assert class_names_of(Counted(torch.zeros(3))) is None
    assert class_names_of([1, 2]) is None


@pytest.fixture
def folder(tmp_path):
    """Two pictures of each of three classes, in subfolders."""
    for place, name in enumerate(("ant", "bee", "cat")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(2):
            pixels = np.random.default_rng(10 * place + number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"


def net(classes=3):
    torch.manual_seed(0)
    lower = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*lower, nn.Linear(4, classes)).eval()


OPTIONS = dict(layers=["0"], k=2, patches=1, block_size=4, progress=False, preprocessing=HALF)


def test_an_image_folder_a_list_of_dicts_and_tensors_make_the_same_library(folder, tmp_path):
    pictures = ImageFolder(folder)
    hub = Hub({"image": picture, "label": label} for picture, label in pictures)
    tensors = [(HALF.to_input(picture), label) for picture, label in pictures]
    names = {"class_names": ["ant", "bee", "cat"]}
    kinds = [(pictures, {}), (hub, {}), (tensors, names), (load_data(str(folder), HALF), {})]
    mined = [
        crp.mine(net(), data, path=tmp_path / f"{place}.crp", **OPTIONS, **given)
        for place, (data, given) in enumerate(kinds)
    ]
    contents = [{path.name: path.read_bytes() for path in library.path.rglob("*.*")} for library in mined]
    assert contents[0] == contents[1] == contents[2] == contents[3]
    assert list(mined[0].class_names) == ["ant", "bee", "cat"]
    assert crp.verify(mined[0], net(), hub).sound
    crp.add_patches(mined[0], net(), hub, "0", [1], progress=False)


def test_labels_of_other_classes_than_the_models_are_refused(folder, tmp_path):
    with pytest.raises(InputError) as caught:
        crp.mine(net(5), ImageFolder(folder), path=tmp_path / "a.crp", **OPTIONS)
    assert str(caught.value) == (
        "The data set has labels of 3 classes ('ant', 'bee', 'cat'), and the model has 5 classes: pass class_names=, "
        "or targets='prediction' to explain predictions."
    )
    library = crp.mine(net(5), ImageFolder(folder), path=tmp_path / "a.crp", targets="prediction", **OPTIONS)
    assert not library.class_names


def test_names_of_classes_in_another_order_than_the_labels_are_refused(folder, tmp_path):
    names = ["ant", "cat", "bee", "dog", "elk"]
    with pytest.raises(InputError) as caught:
        crp.mine(net(5), ImageFolder(folder), path=tmp_path / "a.crp", class_names=names, **OPTIONS)
    assert str(caught.value) == (
        "Label 1 of the data set is 'bee', which is class 2 in class_names: bring the labels into the order of the "
        "model's classes."
    )
    for names in (["ant", "bee", "cat", "dog", "elk"], ["ant", "wasp", "cat", "dog", "elk"]):
        library = crp.mine(
            net(5), ImageFolder(folder), path=tmp_path / "a.crp", class_names=names, overwrite=True, **OPTIONS
        )
        assert list(library.class_names) == names


class TestSavedDataSets:
    def test_a_folder_of_datasets(self, folder, tmp_path):
        datasets = pytest.importorskip("datasets")
        pictures = ImageFolder(folder)
        features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=pictures.classes)})
        columns = {"image": [{"bytes": None, "path": path} for path, _ in pictures.samples], "label": pictures.targets}
        table = datasets.table.InMemoryTable.from_pydict(columns, schema=features.arrow_schema)
        # with a fingerprint, because datasets cannot compute it beside every version of pyarrow
        whole = datasets.Dataset(table, info=datasets.DatasetInfo(features=features), fingerprint="pictures")
        whole.save_to_disk(tmp_path / "saved")
        data = load_data(str(tmp_path / "saved"), HALF)
        assert (len(data), data.labelled, data.class_names) == (6, True, ("ant", "bee", "cat"))
        for index, (picture, label) in enumerate(pictures):
            assert torch.equal(data[index][0], HALF.to_input(picture))
            assert data[index][1] == label
        library = crp.mine(net(), whole, path=tmp_path / "a.crp", **OPTIONS)
        assert crp.verify(library, net(), data).sound

    def test_a_folder_of_several_splits(self, tmp_path):
        (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
        with pytest.raises(InputError) as caught:
            load_data(str(tmp_path))
        assert str(caught.value) == (
            f"The folder '{tmp_path}' holds the data sets 'train', 'test'; name one of them: '{tmp_path / 'train'}'."
        )
