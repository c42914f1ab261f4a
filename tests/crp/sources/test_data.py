"""Data and class names loaded from what a string names."""

import numpy as np
import pytest
import torch

from crp.errors import InputError
from crp.preprocessing import Preprocessing
from crp.sources import load_data, read_class_names

from .conftest import saved_pictures


class TestPictureFolder:
    def test_flat(self, tmp_path):
        saved_pictures(tmp_path, ["b.png", "a.PNG", "c.bmp"])
        (tmp_path / "index.json").write_text("{}")
        saved_pictures(tmp_path, [".hidden.png"])
        data = load_data(str(tmp_path))
        assert [data.sample_name(index) for index in range(len(data))] == ["a.PNG", "b.png", "c.bmp"]
        assert data[0].shape == (3, 8, 8)
        assert (data[0] * 255).round()[0, 0, 0] == 1
        assert (data.labelled, data.class_names) == (False, None)

    def test_class_subfolders(self, tmp_path):
        saved_pictures(tmp_path, ["zebra/1.png", "ant/deep/1.png", "ant/2.png"])
        (tmp_path / "empty").mkdir()
        data = load_data(str(tmp_path))
        assert data.class_names == ("ant", "zebra")
        assert [(data.sample_name(index), data[index][1]) for index in range(3)] == [
            ("ant/2.png", 0),
            ("ant/deep/1.png", 0),
            ("zebra/1.png", 1),
        ]

    def test_subfolders_are_looked_up_among_the_class_names(self, tmp_path):
        saved_pictures(tmp_path, ["zebra/1.png", "ant/1.png"])
        data = load_data(str(tmp_path), class_names=("bee", "zebra", "ant"))
        assert [data[index][1] for index in range(2)] == [2, 1]
        assert data.class_names == ("bee", "zebra", "ant")

    def test_as_many_subfolders_as_class_names_are_in_their_order(self, tmp_path):
        saved_pictures(tmp_path, ["n2/1.png", "n1/1.png"])
        assert [item[1] for item in (load_data(str(tmp_path), class_names=("ant", "bee"))[i] for i in range(2))] == [
            0,
            1,
        ]

    def test_as_many_subfolders_as_class_names_of_which_one_is_misspelt_are_refused(self, tmp_path):
        saved_pictures(tmp_path, ["zebra/1.png", "amt/1.png"])
        with pytest.raises(InputError, match=r"The subfolder 'amt' of .* is not a class name; did you mean 'ant'"):
            load_data(str(tmp_path), class_names=("zebra", "ant"))

    def test_names_of_classes_may_begin_with_a_byte_order_mark(self, tmp_path):
        (tmp_path / "names.txt").write_bytes("\ufeffant\r\nbee\r\n".encode())
        assert read_class_names(tmp_path / "names.txt") == ("ant", "bee")

    def test_pictures_are_read_when_asked_for(self, tmp_path):
        saved_pictures(tmp_path, ["a.png", "b.png"])
        (tmp_path / "b.png").write_bytes(b"")
        data = load_data(str(tmp_path))
        assert data[0].shape == (3, 8, 8)
        with pytest.raises(InputError) as caught:
            data[1]
        assert str(caught.value) == f"'{tmp_path / 'b.png'}' is not a picture: the file is empty."

    def test_preprocessing_that_does_not_fit_names_the_file(self, tmp_path):
        saved_pictures(tmp_path, ["a.png"])
        with pytest.raises(InputError, match=r"a\.png': The crop of 9 x 9 pixels does not fit into a picture of 8 x 8"):
            load_data(str(tmp_path), Preprocessing(crop=9))[0]


class TestPictureArrays:
    def test_pictures_with_labels_and_names(self, tmp_path):
        images = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
        np.savez(tmp_path / "a.npz", images=images, labels=np.array([1, 0]), class_names=np.array(["x", "y"]))
        data = load_data(str(tmp_path / "a.npz"), Preprocessing(mean=0.5))
        assert (len(data), data.class_names, data.labelled, data.sample_name(1)) == (2, ("x", "y"), True, "a.npz[1]")
        picture, label = data[0]
        assert label == 1
        assert torch.allclose(picture, torch.from_numpy(images[0]).permute(2, 0, 1) / 255 - 0.5)

    def test_floats_are_model_inputs_as_they_are(self, tmp_path):
        images = np.random.default_rng(0).normal(size=(2, 1, 4, 5))
        np.savez(tmp_path / "a.npz", images=images)
        data = load_data(str(tmp_path / "a.npz"))
        assert data[1].dtype == torch.float32
        assert np.array_equal(data[1].numpy(), images[1].astype(np.float32))
        assert data.preprocessing is None

    def test_real_pictures(self, real_data):
        data = load_data(str(real_data / "cifar10_test.npz"))
        assert (len(data), data.class_names[3], data[3][1]) == (10_000, "cat", 3)


class TestOtherData:
    def test_named_object(self, net):
        data = load_data(net.replace(":make", ":Pairs"), Preprocessing(mean=0.5))
        assert (len(data), data.labelled, data.class_names) == (4, True, ("one", "two", "three"))
        assert data.preprocessing == Preprocessing(mean=0.5)
        assert data[2][1] == 2

    def test_demo(self):
        data = load_data("demo")
        assert data.labelled
        assert len(data.class_names) == 10
        assert data[0][0].shape == (3, 96, 96)
        assert data.preprocessing.to_picture(data[0][0]).shape == (96, 96, 3)

    def test_the_number_of_built_in_samples(self):
        few, all_of_them = load_data("demo:cnn:120"), load_data("demo:cnn")
        assert (len(few), len(all_of_them)) == (120, 1000)
        assert torch.equal(few[119][0], all_of_them[119][0])
        with pytest.raises(InputError, match="'demo:cnn:many' must end with a number of samples"):
            load_data("demo:cnn:many")


PHOTO = np.zeros((4, 5, 3), dtype=np.uint8)


def of_own_order(kind, folder, names, labels):
    """Return the name of data with class names of their own, in an .npz file or by a function."""
    if kind == "npz":
        np.savez(folder / "own.npz", images=np.stack([PHOTO] * len(labels)), labels=labels, class_names=names)
        return str(folder / "own.npz")
    (folder / "own_data.py").write_text(
        "from PIL import Image\n"
        "class Data(list):\n"
        f"    classes = {names!r}\n"
        f"data = Data((Image.new('RGB', (5, 4)), label) for label in {labels!r})\n"
    )
    return f"{folder}/own_data.py:data"


@pytest.mark.parametrize("kind", ["npz", "function"])
class TestLabelsOfAnotherOrder:
    def labels(self, spec, names):
        return [item[1] for item in load_data(spec, class_names=names)]

    def test_labels_go_by_the_names_of_their_classes(self, tmp_path, kind):
        spec = of_own_order(kind, tmp_path, ["zebra", "ant"], [0, 1, 1])
        assert self.labels(spec, ("ant", "bee", "zebra")) == [2, 0, 0]
        assert self.labels(spec, ("ant", "zebra")) == [1, 0, 0]
        assert self.labels(spec, ("zebra", "ant")) == [0, 1, 1]

    def test_several_labels_of_a_sample(self, tmp_path, kind):
        spec = of_own_order(kind, tmp_path, ["zebra", "ant", "bee"], [[1, 0, 1], [0, 1, 0]])
        assert self.labels(spec, ("ant", "bee", "cat", "zebra")) == [{3, 1}, {0}]

    def test_other_names_of_the_same_classes_change_no_label(self, tmp_path, kind):
        spec = of_own_order(kind, tmp_path, ["zebra", "ant"], [0, 1, 1])
        for names in (("horse", "insect"), ("zebra", "emmet"), None):
            assert self.labels(spec, names) == [0, 1, 1]

    @pytest.mark.parametrize(
        ("names", "message"),
        [
            (("ant", "bee", "zebu"), "The class 'zebra' of '{}' is not a class name; did you mean 'zebu'?"),
            (("ant", "ant", "zebra"), "The class 'ant' of '{}' is the name of several classes; rename them."),
        ],
    )
    def test_classes_that_the_model_does_not_have_are_refused(self, tmp_path, kind, names, message):
        spec = of_own_order(kind, tmp_path, ["zebra", "ant"], [0, 1, 1])
        with pytest.raises(InputError) as caught:
            load_data(spec, class_names=names)
        assert message.format(spec) in str(caught.value)

    def test_a_label_without_a_name_is_refused_with_its_sample(self, tmp_path, kind):
        spec = of_own_order(kind, tmp_path, ["zebra", "ant"], [0, 2, 1])
        with pytest.raises(InputError, match=r"' has the label 2, but the data set names the classes 0 to 1"):
            load_data(spec, class_names=("ant", "bee", "zebra"))[1]


class TestClassNames:
    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("a.txt", "tench\ngreat white shark\n"),
            ("a.txt", "tench\r\ngreat white shark"),
            ("a.json", '["tench", "great white shark"]'),
            ("a.json", '{"1": "great white shark", "0": "tench"}'),
            ("a.json", '{"0": ["n01440764", "tench"], "1": ["n01484850", "great white shark"]}'),
        ],
    )
    def test_forms(self, tmp_path, name, text):
        (tmp_path / name).write_text(text)
        assert read_class_names(tmp_path / name) == ("tench", "great white shark")


class TestRefusals:
    """Errors for wrong data or class names; the command line passes them on."""

    @pytest.mark.parametrize(
        ("name", "spec", "sentence"),
        [
            ("empty folder", "", "The folder 'FOLDER' holds no pictures ('.jpg', "),
            ("no such", "/none", "The data 'FOLDER/none' are not a folder, an .npz file, 'demo', "),
            ("no file", "/none.npz", "There is no data file 'FOLDER/none.npz'."),
            ("text", "/text.npz", "The data file 'FOLDER/text.npz' cannot be read (it is not a complete .npz file)."),
            (
                "pickle",
                "/pickle.npz",
                "The data file 'FOLDER/pickle.npz' cannot be read (it holds Python objects, which",
            ),
            ("no images", "/other.npz", "'FOLDER/other.npz' has no array 'images'; did you mean 'image'?"),
            ("shape", "/shape.npz", "'images' of 'FOLDER/shape.npz' is int64 [2, 2]; uint8 [N, H, W, 3] or float "),
            (
                "count",
                "/count.npz",
                "'labels' of 'FOLDER/count.npz' is int64 [3]; 2 whole numbers are needed, one per ",
            ),
            ("negative", "/minus.npz", "'labels' of 'FOLDER/minus.npz' has -1 at sample 1; classes count from 0."),
            ("none", "/none.npz:x", "There is no module 'FOLDER/none.npz' to import; name a Python file as "),
        ],
    )
    def test_data(self, tmp_path, name, spec, sentence):
        (tmp_path / "text.npz").write_text("text")
        images = np.zeros((2, 4, 4, 3), dtype=np.uint8)
        np.savez(tmp_path / "pickle.npz", images=np.array([{}, {}]))
        np.savez(tmp_path / "other.npz", image=images)
        np.savez(tmp_path / "shape.npz", images=np.zeros((2, 2), dtype=np.int64))
        np.savez(tmp_path / "count.npz", images=images, labels=np.array([0, 1, 2]))
        np.savez(tmp_path / "minus.npz", images=images, labels=np.array([0, -1]))
        with pytest.raises(InputError) as caught:
            load_data(f"{tmp_path}{spec}")
        assert str(caught.value).replace(str(tmp_path), "FOLDER").startswith(sentence)

    def test_pictures_beside_class_subfolders(self, tmp_path):
        saved_pictures(tmp_path, ["a.png", "ant/b.png"])
        with pytest.raises(InputError) as caught:
            load_data(str(tmp_path))
        assert str(caught.value) == (
            f"The folder '{tmp_path}' holds pictures ('a.png') and subfolders of pictures ('ant'); "
            "move all pictures into class subfolders, or none."
        )

    @pytest.mark.parametrize(
        ("names", "sentence"),
        [
            (("bee", "hornet", "wasps"), "The subfolder 'wasp' of 'FOLDER' is not a class name; did you mean 'wasps'?"),
            (("wasp", "bee", "wasp"), "The subfolder 'wasp' of 'FOLDER' is the name of several classes; rename them."),
        ],
    )
    def test_subfolders_that_are_no_class(self, tmp_path, names, sentence):
        saved_pictures(tmp_path, ["wasp/b.png"])
        with pytest.raises(InputError) as caught:
            load_data(str(tmp_path), class_names=names)
        assert str(caught.value).replace(str(tmp_path), "FOLDER") == sentence

    @pytest.mark.parametrize(
        ("name", "content", "sentence"),
        [
            ("a.json", b"{", "The class names 'FILE' are not JSON (Expecting "),
            ("a.json", b'{"1": "a"}', "The class names 'FILE' must have the keys 0 to 0, given '1'."),
            (
                "a.json",
                b"3",
                "The class names 'FILE' must be a list of names or a dict from index to name, given 3.",
            ),
            ("a.json", b'["a", 3]', "The class names 'FILE' must hold strings, given 3 for class 1."),
            ("a.txt", b"a\n\nb", "The class names 'FILE' have an empty line; give one name per line."),
            ("a.txt", b"", "The class names 'FILE' have no entry; give one name per line."),
            (
                "a.txt",
                b"\xff\xfe\x00",
                "The class names 'FILE' are not UTF-8 text; give one name per line",
            ),
        ],
    )
    def test_class_names(self, tmp_path, name, content, sentence):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError) as caught:
            read_class_names(tmp_path / name)
        assert str(caught.value).replace(str(tmp_path / name), "FILE").startswith(sentence)
