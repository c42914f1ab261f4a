"""Arguments in every form: read right, or refused with one sentence by every function that takes them."""

import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import crp
from crp.analysis import concept_vector, search
from crp.arguments import device_named, layer_names, seconds, whole_number, yes_or_no
from crp.attribution import ConditionalAttribution, RelevanceFlow
from crp.errors import InputError
from crp.files import user_path

torch.manual_seed(0)
NET = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)).eval()
IMAGES = torch.rand(6, 1, 6, 6, generator=torch.Generator().manual_seed(1))
DATA = TensorDataset(IMAGES, torch.arange(6) % 3)
NO_NUMBER = [2.5, 2.0, "2", True, None, [1, 2], float("inf"), float("nan"), torch.tensor(2.0), np.bool_(True), 2j, b"2"]


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return mined(tmp_path_factory.mktemp("mined") / "a.crp")


def mined(path, **options):
    options = {"layers": ["0", "2"], "patches": 1, "vectors": True, "progress": False, **options}
    return crp.mine(NET, DATA, path=path, overwrite=True, **options)


def refused(call, sentence):
    with pytest.raises(InputError) as caught:
        call()
    assert str(caught.value) == sentence


@pytest.mark.parametrize("value", NO_NUMBER)
def test_what_is_no_whole_number(value):
    with pytest.raises(InputError, match=r"^count is .*; it must be a whole number of at least 1\.$"):
        whole_number("count", value, 1)


def test_a_whole_number_in_every_form():
    for value in (2, np.int64(2), np.uint8(2), torch.tensor(2), torch.tensor([2]), np.array(2)):
        assert whole_number("count", value, 1) == 2
        assert type(whole_number("count", value, 1)) is int
    sentence = "count is tensor(0); it must be a whole number of at least 1."
    refused(lambda: whole_number("count", torch.tensor(0), 1), sentence)


def test_seconds_and_booleans():
    assert [seconds("wait", value) for value in (0, 1.5, np.float32(2), torch.tensor(3), float("inf"))] == [
        0, 1.5, 2, 3, float("inf"),
    ]  # fmt: skip
    for value in (-1, "2", None, True, float("nan"), [1]):
        with pytest.raises(InputError, match=r"^wait is .*; it must be a number of seconds of at least 0\.$"):
            seconds("wait", value)
    assert [yes_or_no("sure", value) for value in (True, np.bool_(False), torch.tensor(True))] == [True, False, True]
    for value in (0, 1, "no", None, 1.0, torch.tensor([True, False])):
        with pytest.raises(InputError, match=r"^sure is .*; it must be True or False\.$"):
            yes_or_no("sure", value)


def test_names_of_layers():
    for value in ("conv", ["conv"], ("conv", "conv"), iter(["conv"]), {"conv"}, np.array(["conv"])):
        assert layer_names(value) == ["conv"]
    assert layer_names(["b", "a", "b"]) == ["b", "a"]
    for value in (None, 3, b"conv", {"conv": 1}):
        with pytest.raises(InputError, match=r"^Layers are given as a list of names, not as "):
            layer_names(value)
    for value in ([0], [None], [["conv"]], [b"conv"], [nn.ReLU()]):
        with pytest.raises(InputError, match=r"^A layer is given by its name in model\.named_modules\(\), not as "):
            layer_names(value)


def test_devices_and_paths():
    assert device_named("cuda:1") == torch.device("cuda:1")
    for value in ("gpu", "2", 2.5, [0]):
        with pytest.raises(InputError, match=r"^There is no device "):
            device_named(value)
    for value in (None, 3, b"a.crp", ["a.crp"]):
        with pytest.raises(InputError, match=r"^A path is a string or a pathlib\.Path, given "):
            user_path(value)


MINE = {  # whole numbers, and whether None is allowed
    "k": False, "top": False, "block_size": False, "workers": False, "patches": False, "threads": True,
    "class_references": True,
}  # fmt: skip


@pytest.mark.parametrize("name", MINE)
@pytest.mark.parametrize("value", NO_NUMBER)
def test_mine_refuses_what_is_no_whole_number_and_leaves_nothing(name, value, tmp_path):
    if value is None and MINE[name]:
        return
    with pytest.raises(InputError, match=rf"^{name} is .*; it must be a whole number of at least \d\.$"):
        mined(tmp_path / "a.crp", **{name: value})
    assert list(tmp_path.iterdir()) == []


OTHERS = [
    ("vectors", 2.5, "vectors is 2.5; it must be True or False."),
    ("vectors", "no", "vectors is 'no'; it must be True or False."),
    ("skip_bad", 0, "skip_bad is 0; it must be True or False."),
    ("checkpoint", "60", "checkpoint is '60'; it must be a number of seconds of at least 0."),
    ("checkpoint", -1, "checkpoint is -1; it must be a number of seconds of at least 0."),
    ("shard", 2, "shard is 2; it must be a pair (i, n) of whole numbers, such as (1, 4)."),
    ("shard", "1/2", "shard is '1/2'; it must be a pair (i, n) of whole numbers, such as (1, 4)."),
    ("shard", (1.0, 2), "each number of shard is 1.0; it must be a whole number of at least 0."),
    ("shard", (3, 2), "There is no shard 3/2: the shards of 2 are 1/2 to 2/2."),
    (
        "precision",
        ["bfloat16"],
        "There is no precision ['bfloat16']: it is 'bfloat16', 'tf32', or None for the model's own.",
    ),
    ("device", "gpu", "There is no device 'gpu': give 'cpu', 'cuda', 'cuda:1' or 'mps'."),
    ("device", "cuda:77", "This machine has no device 'cuda:77'."),
    ("layers", [NET[1]], "A layer is given by its name in model.named_modules(), not as ReLU()."),
    ("layers", None, "Layers are given as a list of names, not as None."),
]


@pytest.mark.parametrize(("name", "value", "sentence"), OTHERS)
def test_mine_refuses_other_wrong_options_and_keeps_the_former_library(name, value, sentence, tmp_path):
    former = mined(tmp_path / "a.crp").references("0", "relevance").sample
    refused(lambda: mined(tmp_path / "a.crp", **{name: value}), sentence)
    assert [path.name for path in tmp_path.iterdir()] == ["a.crp"]
    assert np.array_equal(crp.open_library(tmp_path / "a.crp").references("0", "relevance").sample, former)


def test_numbers_of_numpy_and_torch_mine_the_same_library(library, tmp_path):
    options = {"k": np.int64(16), "patches": torch.tensor(1), "vectors": np.bool_(True), "block_size": np.int32(32)}
    again = mined(tmp_path / "a.crp", **options)
    assert (again.path / "SHA256SUMS").read_bytes() == (library.path / "SHA256SUMS").read_bytes()


@pytest.mark.parametrize("value", NO_NUMBER)
def test_explanations_graphs_and_searches_refuse_what_is_no_whole_number(value, library):
    calls = {
        "concepts": lambda: crp.explain(NET, IMAGES[0], library, concepts=value),
        "patches": lambda: crp.explain(NET, IMAGES[0], library, patches=value),
        "breadth": lambda: crp.compose(NET, IMAGES, ["0"], target=1, breadth=value),
        "batch": lambda: crp.compose(NET, IMAGES, ["0"], target=1, batch=value),
        "blocks": lambda: crp.verify(library, NET, blocks=value),
    }
    if value is not None:
        calls["cells"] = lambda: crp.explain(NET, IMAGES[0], library, cells=value)
        calls["count"] = lambda: search(library.vectors("0"), 1, count=value)
    for name, call in calls.items():
        with pytest.raises(InputError, match=rf"^{name} is .*; it must be a whole number of at least \d\.$"):
            call()


@pytest.mark.parametrize("value", [2.0, True, "bee", [1, 2], float("nan"), -2])
def test_rows_of_what_is_no_class_are_refused_instead_of_empty(value, library):
    vectors = library.vectors("0")
    for name in ("target", "prediction", "label"):
        for call in (vectors.rows, lambda **chosen: search(vectors, 0, **chosen)):
            with pytest.raises(InputError, match=r"^A class is .*; it must be a whole number of at least -1\.$"):
                call(**{name: value})


def test_profiles_and_columns_take_one_concept_in_every_form(library):
    profiles, matrix = library.profiles("0"), library.vectors("0").relevance
    for value in (2, -1, [2], torch.tensor(2), np.array([False, False, True]), slice(2, 3)):
        assert profiles.users(value, 3) == profiles.users(2, 3)
        assert profiles.alike_by_classes(value, 3) == profiles.alike_by_classes(2, 3)
        assert profiles.alike_by_samples(value, 3) == profiles.alike_by_samples(2, 3)
        assert np.array_equal(matrix.column(value), np.asarray(matrix)[:, 2])
    for value in (3, 2.0, "2", True, [0, 1], None):
        for call in (profiles.users, profiles.alike_by_classes, profiles.alike_by_samples):
            with pytest.raises(InputError, match=r"concept"):
                call(value, 3)
        with pytest.raises(InputError, match=r"concept"):
            matrix.column(value)


@pytest.mark.parametrize("layer", [0, None, ["0"], {"0"}, NET[0]])
def test_what_is_no_layer_is_refused(layer, library):
    for call in (
        lambda: library.shape(layer),
        lambda: library.references(layer, "relevance"),
        lambda: library.patches(layer, 0, "relevance"),
        lambda: concept_vector(NET, IMAGES[0], library, layer),
        lambda: crp.explain(NET, IMAGES[0], library, layers=[layer]),
        lambda: crp.compose(NET, IMAGES, [layer], target=1),
        lambda: crp.compose(NET, IMAGES, ["0"], target=1, of=(layer, 0)),
        lambda: RelevanceFlow(NET, None, IMAGES, [layer]),
        lambda: ConditionalAttribution(NET)(IMAGES, [{"y": 1}], record_layer=[layer]),
    ):
        with pytest.raises(InputError, match=r"^A layer is given by its name"):
            call()


def test_one_layer_may_be_a_string(library):
    wide = nn.Sequential()
    wide.add_module("conv", nn.Conv2d(1, 2, 3))
    wide.add_module("flat", nn.Flatten())
    wide.add_module("fc", nn.Linear(32, 3))
    with RelevanceFlow(wide, None, IMAGES, "conv") as flow:
        assert flow.layers == ("conv",)
    one, listed = (crp.compose(wide, IMAGES, layers, target=1) for layers in ("conv", ["conv"]))
    assert [node.layer for node in one.nodes] == [node.layer for node in listed.nodes]
    assert [layer.layer for layer in crp.explain(NET, IMAGES[0], library, layers="2", graph=False).layers] == ["2"]


@pytest.mark.parametrize("model", [None, "resnet18", nn.Linear, len, {"weight": 1}])
def test_what_is_no_model_is_refused(model, library):
    for call in (
        lambda: crp.composite_for(model),
        lambda: crp.prepared(model),
        lambda: crp.explain(model, IMAGES[0], library),
        lambda: crp.compose(model, IMAGES, ["0"], target=1),
        lambda: RelevanceFlow(model, None, IMAGES),
        lambda: ConditionalAttribution(model),
    ):
        with pytest.raises(InputError, match=r"^A model is a torch\.nn\.Module"):
            call()
    if model is not None:
        (wrong,) = crp.verify(library, model).wrong
        assert wrong.startswith("A model is a torch.nn.Module")


def test_mine_prepares_the_model_itself(tmp_path):
    with pytest.raises(InputError, match=r"^mine prepares the model itself"):
        crp.mine(crp.prepared(NET), DATA, layers=["0"], path=tmp_path / "a.crp")


@pytest.mark.parametrize("other", [None, "a.crp", 3, NET])
def test_what_is_no_library_is_refused(other):
    sentence = rf"^A library is what crp\.open_library returns, given {re.escape(repr(other)[:6])}"
    for call in (
        lambda: crp.explain(NET, IMAGES[0], other),
        lambda: concept_vector(NET, IMAGES[0], other, "0"),
        lambda: crp.add_patches(other, NET, DATA, "0", [1]),
        lambda: crp.make_site(NET, [], other, "site"),
    ):
        with pytest.raises(InputError, match=sentence):
            call()
    if other is not None:
        with pytest.raises(InputError, match=sentence):
            crp.compose(NET, IMAGES, ["0"], target=1, library=other)


@pytest.mark.parametrize("data", [None, "zebra.jpg", IMAGES.numpy(), IMAGES.tolist(), IMAGES.int()])
def test_what_is_no_model_input_is_refused(data, library):
    for call in (
        lambda: crp.compose(NET, data, ["0"], target=1),
        lambda: concept_vector(NET, data, library, "0"),
        lambda: RelevanceFlow(NET, None, data),
        lambda: ConditionalAttribution(NET)(data, [{"y": 1}]),
    ):
        with pytest.raises(InputError, match=r"^Model input must be a tensor of floating point numbers, given "):
            call()


def test_arguments_are_read_without_torch():
    program = "import sys; from crp.arguments import layer_names; print(layer_names('a'), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "['a'] False\n"
