"""Models and data named by a string: what is loaded, what a library keeps of it, and what is found again from that."""

import json
import textwrap

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from crp.errors import InputError, LibraryError, ModelError
from crp.library.fingerprints import weights_fingerprint
from crp.preprocessing import Preprocessing
from crp.sources import load_data, load_model, read_class_names
from crp.sources.fitting import default_layer, matching_layers, number_of_classes, pick_device
from crp.sources.plan import plan_mining, preprocessing_for
from crp.sources.provenance import model_of, origin

NET = textwrap.dedent(
    """
    import torch
    from torch import nn

    def make():
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.ReLU()]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3))

    class Pairs:
        classes = ["one", "two", "three"]

        def __len__(self):
            return 4

        def __getitem__(self, index):
            return torch.full((3, 8, 8), float(index)), index % 3

    ready = make()
    """
)


@pytest.fixture
def net(tmp_path):
    (tmp_path / "net.py").write_text(NET)
    return f"{tmp_path / 'net.py'}:make"


def changed(state, **entries):
    return {**state, **entries}


class TestLoadModel:
    def test_function_of_a_file(self, net):
        model = load_model(net)
        assert not model.training
        assert [tuple(value.shape) for value in model.parameters()] == [
            (4, 3, 3, 3),
            (4,),
            (5, 4, 3, 3),
            (5,),
            (3, 5),
            (3,),
        ]

    def test_a_module_that_is_made_already(self, net):
        assert isinstance(load_model(net.replace(":make", ":ready")), nn.Sequential)

    def test_a_file_may_import_its_neighbours(self, tmp_path, net):
        (tmp_path / "other.py").write_text("import net\n\ndef model():\n    return net.make()\n")
        assert len(load_model(f"{tmp_path / 'other.py'}:model")) == 7

    def test_function_of_a_module(self):
        assert isinstance(load_model("torch.nn:Identity"), nn.Identity)

    @pytest.mark.parametrize("suffix", ["safetensors", "pt", "pth"])
    def test_weights(self, tmp_path, net, suffix):
        state = {name: torch.full_like(value, 0.25) for name, value in load_model(net).state_dict().items()}
        file = tmp_path / f"w.{suffix}"
        save_file(state, file) if suffix == "safetensors" else torch.save(state, file)
        assert all((value == 0.25).all() for value in load_model(net, file).state_dict().values())

    @pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "model"])
    def test_checkpoints_are_unwrapped_and_their_prefix_taken_off(self, tmp_path, net, wrapper):
        state = {f"module.{name}": value * 0 for name, value in load_model(net).state_dict().items()}
        torch.save({wrapper: state, "epoch": 3}, tmp_path / "w.pth")
        assert all((value == 0).all() for value in load_model(net, tmp_path / "w.pth").state_dict().values())

    def test_torchvision_takes_the_number_of_classes_from_the_weights(self, tmp_path):
        from crp.compat import import_zennit_safely

        import_zennit_safely()
        models = pytest.importorskip("torchvision.models")
        state = models.get_model("squeezenet1_1", weights=None, num_classes=7).state_dict()
        save_file(state, tmp_path / "w.safetensors")
        model = load_model("torchvision:squeezenet1_1", tmp_path / "w.safetensors")
        assert number_of_classes(model, torch.zeros(3, 64, 64), "x") == 7
        assert torch.equal(model.classifier[1].weight, state["classifier.1.weight"])

    def test_loading_runs_no_code_of_a_weights_file(self, tmp_path, net):
        class Trap:
            def __reduce__(self):
                return (open, (str(tmp_path / "sprung"), "w"))

        torch.save({"state_dict": {"0.weight": Trap()}}, tmp_path / "w.pt")
        with pytest.raises(InputError, match="holds Python objects other than tensors"):
            load_model(net, tmp_path / "w.pt")
        assert not (tmp_path / "sprung").exists()

    def test_real_weights_give_the_expected_classes(self, real_data):
        model = load_model("torchvision:squeezenet1_1", real_data / "squeezenet1_1_imagenet.safetensors")
        data = load_data(str(real_data / "imagenet_samples"), Preprocessing.imagenet())
        expected = json.loads((real_data / "imagenet_samples" / "expected.json").read_text())["squeezenet1_1"]
        for index in range(0, len(data), 12):
            answer = expected[data.sample_name(index)]
            logits = model(data[index][None])[0]
            assert logits.topk(5).indices.tolist() == answer["top5"]


def saved_pictures(folder, names):
    for value, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (value, 0, 0)).save(folder / name)


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


class TestFitting:
    def test_patterns_match_between_the_dots(self):
        inner = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU())
        model = nn.ModuleDict({"layer1": inner, "layer2": nn.Sequential(nn.Linear(1, 1)), "head": nn.ReLU()})
        assert matching_layers(model, ["layer*"]) == ["layer1", "layer2"]
        assert matching_layers(model, ["layer1.*"]) == ["layer1.0"]
        assert matching_layers(model, ["layer2", "layer1.1", "layer?.0"]) == [
            "layer1.0",
            "layer1.1",
            "layer2",
            "layer2.0",
        ]

    @pytest.mark.parametrize(
        ("name", "layer"),
        [
            ("resnet18", "layer4"),
            ("densenet121", "features.denseblock4"),
            ("squeezenet1_1", "features.12"),
            ("mobilenet_v2", "features.18"),
        ],
    )
    def test_default_layer_is_the_last_convolutional_stage(self, name, layer):
        assert default_layer(load_model(f"torchvision:{name}"), torch.zeros(3, 96, 96), "x") == layer

    def test_default_layer_leaves_no_hooks(self, net):
        model = load_model(net)
        assert default_layer(model, torch.zeros(3, 9, 9), "x") == "2"
        assert not any(module._forward_hooks for module in model.modules())

    def test_a_picture_too_small_for_the_model(self, net):
        with pytest.raises(
            InputError, match=r"^The model cannot run on 'a\.png' of shape \[3, 1, 1\]: .*Kernel size can't be"
        ):
            number_of_classes(load_model(net), torch.zeros(3, 1, 1), "'a.png'")

    def test_device(self):
        assert pick_device("cpu") == torch.device("cpu")
        assert pick_device() == torch.device("cuda" if torch.cuda.is_available() else "cpu")


class TestPlan:
    def test_unlabelled_pictures_are_explained_for_the_prediction(self, tmp_path, net):
        saved_pictures(tmp_path / "data", ["a.png"])
        plan = plan_mining(net, str(tmp_path / "data"))
        assert (plan.targets, plan.layers, plan.class_names) == ("prediction", ("2",), None)
        assert plan.notes == (
            "The prediction of each sample is explained.",
            "Layer '2' is mined, the last convolutional stage (choose others with --layers).",
        )

    def test_labels_are_explained_where_there_are_any(self, tmp_path, net):
        plan = plan_mining(net, net.replace(":make", ":Pairs"), layers=["0"])
        assert (plan.targets, plan.layers, plan.class_names) == ("label", ("0",), ("one", "two", "three"))

    def test_preprocessing(self, tmp_path):
        imagenet = Preprocessing.imagenet()
        assert preprocessing_for("torchvision:resnet18", "w.pt") == imagenet
        assert preprocessing_for("a.py:b", None) is None
        assert preprocessing_for("a.py:b", None, settings={"mean": 0.5, "size": None}) == Preprocessing(mean=0.5)
        assert preprocessing_for("a.py:b", None, settings={"size": 64}) == Preprocessing(size=64, crop=64)
        assert preprocessing_for("a.py:b", None, settings={"size": (64, 32)}) == Preprocessing(size=(64, 32))
        assert preprocessing_for("torchvision:vgg16", "w.pt", settings={"size": (64, 32)}) == Preprocessing(
            size=(64, 32), mean=imagenet.mean, std=imagenet.std
        )
        (tmp_path / "p.json").write_text('{"size": 20, "mode": "L", "mean": 0.5}')
        assert preprocessing_for("a.py:b", None, str(tmp_path / "p.json"), {"mean": 0.1}) == Preprocessing(
            size=20, mode="L", mean=0.1
        )

    def test_default_weights_bring_their_own_preprocessing(self):
        expected = Preprocessing.imagenet(size=232, crop=224)  # what torchvision's documentation says of IMAGENET1K_V2
        assert preprocessing_for("torchvision:resnet50", "DEFAULT") == expected


class Mined:
    """Stands for a library in the questions asked here: what its manifest says, and which model it was mined with."""

    path = "mined.crp"

    def __init__(self, source, weights=""):
        self.manifest = {"source": source, "model": {"weights": weights}}


class TestOrigin:
    def stored(self, tmp_path, net):
        torch.save({name: value * 0 for name, value in load_model(net).state_dict().items()}, tmp_path / "w.pt")
        return origin(net, str(tmp_path), str(tmp_path / "w.pt"), ["crp", "mine"])

    def test_a_relative_file_is_found_from_elsewhere(self, tmp_path, net, monkeypatch):
        monkeypatch.chdir(tmp_path)
        source = origin("net.py:make", ".", None, ["crp", "mine"])
        assert source == {"model": net, "data": str(tmp_path), "weights": None, "command": ["crp", "mine"]}

    def test_code_runs_only_when_named_again_or_trusted(self, tmp_path, net):
        library = Mined(self.stored(tmp_path, net))
        with pytest.raises(LibraryError) as caught:
            model_of(library)
        assert str(caught.value) == (
            f"The library 'mined.crp' names the model '{net}', which is code that is not run without your consent; "
            f"give --model '{net}', or --trust if you trust the library."
        )
        zeros = load_model(net, tmp_path / "w.pt")
        library.manifest["model"]["weights"] = weights_fingerprint(zeros)
        models = [model_of(library, trust=True), model_of(library, model=net)]
        assert all((value == 0).all() for model in models for value in model.state_dict().values())
        library.manifest["model"]["weights"] = "of another model"
        for named in ({"trust": True}, {"model": net}):
            with pytest.raises(LibraryError, match=r"^The library 'mined\.crp' was mined with other weights"):
                model_of(library, **named)

    def test_changed_weights_are_refused(self, tmp_path, net):
        library = Mined(self.stored(tmp_path, net))
        torch.save(load_model(net).state_dict(), tmp_path / "w.pt")
        with pytest.raises(LibraryError, match=r"w\.pt' has changed since the library 'mined\.crp' was mined; give"):
            model_of(library, trust=True)
        (tmp_path / "w.pt").unlink()
        with pytest.raises(
            LibraryError, match=r"w\.pt' that the library 'mined\.crp' names does not exist; give --weights FILE\."
        ):
            model_of(library, trust=True)

    @pytest.mark.parametrize("source", [None, 3, {}, {"model": 3}])
    def test_a_library_that_names_no_model(self, source):
        with pytest.raises(LibraryError, match=r"does not name the model it was mined with; give it with --model\."):
            model_of(Mined(source), trust=True)


class TestRefusals:
    """What is said of a wrong model, weights file, data set or class names; the command line passes it on."""

    def test_non_finite_weights(self, tmp_path, net):
        state = load_model(net).state_dict()
        state["2.bias"][1] = float("nan")
        save_file(state, tmp_path / "w.safetensors")
        with pytest.raises(ModelError) as caught:
            load_model(net, tmp_path / "w.safetensors")
        assert str(caught.value) == "The model's '2.bias' holds 1 NaN or infinite values of 5; it cannot be explained."

    def test_other_weights(self, tmp_path, net):
        state = load_model(net).state_dict()
        state["6.weights"] = state.pop("6.weight")
        state["0.bias"] = torch.zeros(9)
        save_file(state, tmp_path / "w.safetensors")
        with pytest.raises(InputError) as caught:
            load_model(net, tmp_path / "w.safetensors")
        assert str(caught.value) == (
            f"The weights of '{tmp_path / 'w.safetensors'}' do not fit the model: 1 of the model's 6 entries are "
            f"missing "
            "('6.weight'), 1 entries are not the model's ('6.weights'; did you mean '6.weight'?), '0.bias' has shape "
            "[9] "
            "where the model has [4]."
        )

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
