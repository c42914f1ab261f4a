"""Wrong inputs, on the command line and in Python: each ends in one clear sentence, and leaves every file as it was.

In the sentences "…" stands for words that are not ours (the system's, Pillow's, torch's) or that depend on the machine.
"""

import importlib.util
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import crp
from crp.attribution import ConditionalAttribution, RelevanceFlow
from crp.errors import CrpError, InputError, LibraryError, ModelError, SampleError
from crp.mining import add_patches
from crp.sources import load_data
from tests import processes

from .conftest import Shop, make_shop, picture


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A shop with files that are wrong in one way each."""
    shop = make_shop(tmp_path_factory.mktemp("spoilt"))
    folder = shop.folder
    (folder / "text.png").write_text("not a picture")
    (folder / "empty.png").touch()
    (folder / "file").touch()
    (folder / "two.txt").write_text("ant\nbee\n")
    (folder / "bad.json").write_text('{"sizes": 3}')
    (folder / "other.npz").write_bytes(b"PK")
    picture(1, side=64).save(folder / "cut.jpg")
    whole = (folder / "cut.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    Image.new("RGB", (1, 1)).save(folder / "dot.png")
    for name in ("corrupt", "dots", "mixed", "nothing"):
        (folder / name).mkdir()
    picture(0).save(folder / "corrupt" / "a.png")
    shutil.copy(folder / "cut.jpg", folder / "corrupt" / "b.jpg")
    Image.new("RGB", (1, 1)).save(folder / "dots" / "a.png")
    for name, side in (("a", 12), ("b", 14)):
        picture(0, side=side).save(folder / "mixed" / f"{name}.png")
    torch.save({"0.weight": torch.zeros(4, 3, 3, 3), "classifier.weight": torch.zeros(2)}, folder / "other.pt")
    torch.save(nn.Linear(1, 1), folder / "whole.pt")
    (folder / "broken.safetensors").write_bytes(b"\x10" + bytes(20))
    for name in ("cut", "lost", "half"):
        shutil.copytree(folder / "mined.crp", folder / f"{name}.crp")
    table = folder / "cut.crp" / "layers" / "2" / "patches.safetensors"
    table.write_bytes(table.read_bytes()[:100])
    (folder / "lost.crp" / "layers" / "2" / "patches.safetensors").unlink()
    manifest = folder / "half.crp" / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:300])
    return shop


def check(sentence: str, expected: str) -> None:
    """The whole sentence is as expected."""
    assert "\n" not in sentence
    assert re.fullmatch(re.escape(expected).replace("…", ".*"), sentence), sentence


MINE = "mine net.py:make photos --out x.crp"
ATLAS = "atlas mined.crp new.png --trust --out a.html"
KINDS = "'torchvision:NAME', 'demo', 'package.module:function' or 'file.py:function'"
NO_LAYER = "there are '0', '1', '2', '3', '4', '5', '6', '7'."
RANDOM_WEIGHTS = "is random; give --weights FILE, or --weights DEFAULT for torchvision's."
TOO_SMALL = "Calculated padded input size per channel: (1 x 1). Kernel size: (3 x 3). …"
OTHER_WEIGHTS = "The library 'mined.crp' was mined with other weights (…, and this model has …): …"

COMMAND_LINES = [
    # what there is to run
    ("mines", "No such command 'mines'. …"),
    ("mine net.py:make photos", "Missing option '--out'."),
    ("atlas mined.crp", "Missing argument 'PICTURE...': give pictures, a folder of pictures, or only --site."),
    ("info", "Missing argument 'LIBRARY'."),
    ("demo --samples 3", "Invalid value for '--samples': 3 is not in the range x>=100."),
    # the model
    ("mine none.py:make photos --out x.crp", "There is no Python file 'none.py'."),
    ("mine net.py:made photos --out x.crp", "'net.py' has no 'made'; did you mean 'make'?"),
    (
        "mine net.py:no_model photos --out x.crp",
        "'net.py:no_model' gives a dict; it must be a torch.nn.Module, or a function without arguments that returns "
        "one.",
    ),
    (
        "mine net.py:fails photos --out x.crp",
        "'net.py:fails' raised ZeroDivisionError: division by zero (net.py, line 31).",
    ),
    (
        "mine net.py:not_finite photos --out x.crp",
        "The model's '2.weight' holds 1 NaN or infinite values of 180; it cannot be explained.",
    ),
    (
        "mine no_such.module:make photos --out x.crp",
        "There is no module 'no_such.module' to import; name a Python file as 'file.py:function', or install the "
        "package.",
    ),
    (
        "mine resnet18 photos --out x.crp",
        f"The model 'resnet18' is not {KINDS} (did you mean 'torchvision:resnet18'?).",
    ),
    ("mine model photos --out x.crp", f"The model 'model' is not {KINDS}."),
    (
        "mine torchvision:resnet81 photos --out x.crp",
        "torchvision has no classifier 'resnet81'; did you mean 'resnet18' …",
    ),
    (
        "mine torchvision:resnet18 photos --out x.crp",
        f"Without weights the model 'torchvision:resnet18' {RANDOM_WEIGHTS}",
    ),
    # its weights
    (f"{MINE} --weights none.safetensors", "There is no weights file 'none.safetensors'."),
    (
        f"{MINE} --weights text.png",
        "The weights file 'text.png' ends in '.png'; weights are read from '.safetensors', '.pt', '.pth', '.th', …",
    ),
    (
        f"{MINE} --weights broken.safetensors",
        "The weights file 'broken.safetensors' is damaged and cannot be read (…).",
    ),
    (
        f"{MINE} --weights whole.pt",
        "The weights file 'whole.pt' holds Python objects other than tensors, which are not loaded because they can "
        "run "
        "code; save model.state_dict() instead.",
    ),
    (
        f"{MINE} --weights other.pt",
        "The weights of 'other.pt' do not fit the model: 5 of the model's 6 entries are missing ('0.bias', '2.weight', "
        "'2.bias' and 2 more), 1 entries are not the model's ('classifier.weight'; …).",
    ),
    (
        f"{MINE} --weights DEFAULT",
        "--weights DEFAULT is for 'torchvision:NAME' models, but the model is 'net.py:make'; give a weights file.",
    ),
    # layers
    (f"{MINE} --layers layer5", f"The model has no layer 'layer5': {NO_LAYER}"),
    (f"{MINE} --layers 9*", f"The model has no layer '9*': {NO_LAYER}"),
    (
        f"{MINE} --layers 0,,2",
        "Invalid value for '--layers': '0,,2' has an empty name; give names separated by commas (layer3,layer4).",
    ),
    # preprocessing
    (
        f"{MINE} --size large",
        "Invalid value for '--size': 'large' is neither a number of pixels (224) nor HEIGHTxWIDTH (224x320).",
    ),
    (f"{MINE} --size 0", "The size is 0; it must be a number of pixels above 0, or a pair (height, width)."),
    (f"{MINE} --size 1", f"The model cannot run on 'ant/0.png' of shape [3, 1, 1]: {TOO_SMALL}"),
    (
        f"{MINE} --crop 64",
        "'photos/ant/0.png': The crop of 64 x 64 pixels does not fit into a picture of 12 x 12; give a size (now None) "
        "that makes pictures at least as large as the crop.",
    ),
    (
        f"{MINE} --mean a",
        "Invalid value for '--mean': 'a' is neither a number nor numbers separated by commas (0.5,0.5,0.5).",
    ),
    (f"{MINE} --mean 0.5,0.5", "The mean is (0.5, 0.5); it must be one finite number, or 3, one per channel."),
    (f"{MINE} --std 0", "The std is (0.0, 0.0, 0.0); every value must be above 0."),
    (f"{MINE} --preprocessing none.json", "The preprocessing 'none.json' cannot be read: No such file or directory."),
    (f"{MINE} --preprocessing two.txt", "The preprocessing 'two.txt' is not JSON (…)."),
    (
        f"{MINE} --preprocessing bad.json",
        "The file 'bad.json' does not hold a preprocessing: Preprocessing has no entry 'sizes'; did you mean 'size'?",
    ),
    # settings
    (f"{MINE} --class-names none.txt", "The class names 'none.txt' cannot be read: No such file or directory."),
    (f"{MINE} --class-names two.txt", "The subfolder 'wasp' of 'photos' is not a class name; there are 'ant', 'bee'."),
    (
        "mine net.py:make mixed --out x.crp --class-names two.txt",
        "There are 2 class names (two.txt), but the model has 3 classes; name all of them with --class-names FILE, or "
        "explain predictions with --targets prediction.",
    ),
    (f"{MINE} --targets truth", "Invalid value for '--targets': 'truth' is not 'label', …"),
    (f"{MINE} --references 0", "Invalid value for '--references': 0 is not in the range x>=1."),
    (f"{MINE} --references few", "Invalid value for '--references': 'few' is not a valid integer range."),
    (f"{MINE} --patches -1", "Invalid value for '--patches': -1 is not in the range x>=0."),
    (f"{MINE} --block-size 0", "Invalid value for '--block-size': 0 is not in the range x>=1."),
    (f"{MINE} --workers -1", "Invalid value for '--workers': -1 is not in the range x>=0."),
    (f"{MINE} --device gpu", "There is no device 'gpu' on this machine; there is …'cpu'."),
    (f"{MINE} --device cuda:77", "There is no device 'cuda:77' on this machine; there is …'cpu'."),
    # the data
    (
        "mine net.py:make none --out x.crp",
        "The data 'none' are not a folder, an .npz file, 'demo', 'package.module:function' or "
        "'file.py:function'.",
    ),
    ("mine net.py:make nothing --out x.crp", "The folder 'nothing' holds no pictures ('.jpg', …)."),
    ("mine net.py:make none.npz --out x.crp", "There is no data file 'none.npz'."),
    (
        "mine net.py:make other.npz --out x.crp",
        "The data file 'other.npz' cannot be read (it is not a complete .npz file).",
    ),
    (
        "mine net.py:make corrupt --out x.crp",
        "Sample 1 could not be read: The picture 'corrupt/b.jpg' is damaged and cannot be read (image file is "
        "truncated …).",
    ),
    (
        "mine net.py:make corrupt --out x.crp --workers 1",
        "Sample 1 could not be read: The picture 'corrupt/b.jpg' is damaged and cannot be read (image file is "
        "truncated …).",
    ),
    ("mine net.py:make dots --out x.crp", f"The model cannot run on 'a.png' of shape [3, 1, 1]: {TOO_SMALL}"),
    (
        "mine net.py:make mixed --out x.crp",
        "Sample 1 ('b.png') is torch.float32 of shape [3, 14, 14], sample 0 is torch.float32 of shape [3, 12, 12]; …",
    ),
    (
        "mine net.py:make mixed --out x.crp --targets label",
        "The data 'mixed' have no labels to explain; give --targets prediction.",
    ),
    (
        "mine net.py:make net.py:Stream --out x.crp",
        "'net.py:Stream' gives a Stream, whose samples cannot be read by index; a map-style data set with __len__ and "
        "__getitem__ is needed.",
    ),
    (
        "mine net.py:make net.py:Empty --out x.crp",
        "The data set 'net.py:Empty' is empty; at least one sample is needed.",
    ),
    (
        "mine net.py:make net.py:Random --out x.crp",
        "Sample 0 of the data set has other values when it is read again; …",
    ),
    ("mine net.py:make net.py:NotFinite --out x.crp", "Sample 2 holds NaN or infinite values."),
    (
        "mine net.py:make net.py:FarLabel --out x.crp",
        "Sample 1 has label 7, but the model has the classes 0 to 2.",
    ),
    # where the library goes
    ("mine net.py:make photos --out mined.crp", "The library 'mined.crp' exists: choose another path, or …"),
    (
        "mine net.py:make photos --out photos",
        "'photos' exists and is not a library: choose another path, or remove it yourself.",
    ),
    ("mine net.py:make photos --out file/x.crp", "No library can be written to 'file/x.crp': … ('file')."),
    # the library
    ("info none.crp", "There is no library 'none.crp': the folder does not exist."),
    ("info half.crp", "'half.crp/manifest.json' is damaged (not JSON: …): …"),
    ("atlas none.crp new.png", "There is no library 'none.crp': the folder does not exist."),
    ("atlas photos new.png", "'photos' is not a library: it holds no manifest.json."),
    ("atlas new.png new.png", "'new.png' is not a library: it holds no manifest.json."),
    ("atlas half.crp new.png --trust", "'half.crp/manifest.json' is damaged (not JSON: …): …"),
    ("atlas cut.crp new.png --trust", "'cut.crp/layers/2/patches.safetensors' is damaged (…): …"),
    ("atlas lost.crp new.png --trust", "'lost.crp/layers/2/patches.safetensors' is damaged (it is missing): …"),
    (
        "atlas mined.crp new.png",
        "The library 'mined.crp' names the model 'FOLDER/net.py:make', which is code that is not run without your "
        "consent; give "
        "--model 'FOLDER/net.py:make', or --trust if you trust the library.",
    ),
    ("atlas mined.crp new.png --model net.py:other", OTHER_WEIGHTS),
    ("atlas mined.crp new.png --model net.py:not_finite", "The model's '2.weight' holds 1 NaN or infinite values …"),
    # the picture
    ("atlas mined.crp none.png --trust", "There is no picture file 'none.png'."),
    ("atlas mined.crp new.png none.png --trust", "There is no picture file 'none.png'."),
    ("atlas mined.crp text.png --trust", "'text.png' is not a picture: it is a text that begins with 'not a picture'."),
    ("atlas mined.crp empty.png --trust", "'empty.png' is not a picture: the file is empty."),
    (
        "atlas mined.crp cut.jpg --trust",
        "The picture 'cut.jpg' is damaged and cannot be read (image file is truncated …).",
    ),
    # a site
    ("atlas mined.crp nothing --trust", "The folder 'nothing' holds no pictures ('.jpg', …)."),
    ("atlas mined.crp none.png --site --trust --out y", "There is no picture file 'none.png'."),
    ("atlas mined.crp photos --trust --format png", "--format is for single pages; a site is HTML."),
    ("atlas mined.crp photos --trust --out y.html", "--out y.html is one file; a site is a folder."),
    (
        "atlas mined.crp photos --trust --out photos",
        "'photos' exists and is not a site: choose another folder, or empty it.",
    ),
    ("atlas mined.crp photos --trust --out file/y", "No site can be written to 'file/y': … ('file/y')."),
    ("atlas mined.crp photos --trust --out y --target ent", "There is no class 'ent': did you mean 'ant'?"),
    ("atlas mined.crp photos --trust --out y --layers 3", "The library does not hold layer '3': there are '0', '2'."),
    ("atlas mined.crp dot.png --trust", f"The model cannot run on 'dot.png' of shape [3, 1, 1]: {TOO_SMALL}"),
    # what is asked of it
    (f"{ATLAS} --layers 1", "The library does not hold layer '1': there are '0', '2'."),
    (f"{ATLAS} --concepts 0", "Invalid value for '--concepts': 0 is not in the range x>=1."),
    (f"{ATLAS} --target wsap", "There is no class 'wsap': did you mean 'wasp'?"),
    (f"{ATLAS} --target -1", "There is no class -1: the model's output has the classes 0 to 2."),
    (f"{ATLAS} --target 3", "There is no class 3: the model's output has the classes 0 to 2."),
    (f"{ATLAS} --device tpu", "There is no device 'tpu' on this machine; there is …'cpu'."),
    # where the atlas goes
    (f"{ATLAS} --format png", "--out a.html is one file; for several pictures or formats give a folder."),
    (
        "atlas mined.crp new.png cut.jpg --trust --out a.html",
        "--out a.html is one file; for several pictures or formats give a folder.",
    ),
    (
        "atlas mined.crp new.png ./new.png --trust --out y",
        "'new.png' and './new.png' would both be written to y/new.html; explain them separately.",
    ),
    (
        "atlas mined.crp new.png --trust --format bmp",
        "Invalid value for '--format': 'bmp' is not one of 'html', 'png', 'pdf', 'svg', 'json', 'dot'.",
    ),
    ("atlas mined.crp new.png --trust --out file/x.html", "The folder 'file' cannot be created: … ('file')."),
]


@pytest.mark.parametrize(("words", "sentence"), COMMAND_LINES, ids=[words for words, _ in COMMAND_LINES])
def test_on_the_command_line(spoilt: Shop, words: str, sentence: str) -> None:
    before = spoilt.files()
    result = spoilt.run(*words.split())
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 2
    assert "Traceback" not in result.stderr
    *_, last = result.stderr.replace(str(spoilt.folder), "FOLDER").splitlines()
    check(last, f"Error: {sentence}")
    assert result.stdout == ""
    assert spoilt.files() == before


def test_the_table_is_long_enough() -> None:
    assert len(COMMAND_LINES) >= 40


def test_a_process_says_it_on_stderr_and_exits_with_2(spoilt: Shop) -> None:
    result = processes.run(["-m", "crp", "atlas", "mined.crp", "dot.png", "--trust"], cwd=spoilt.folder)
    assert (result.returncode, result.stdout) == (2, "")
    check(result.stderr.rstrip("\n"), f"Error: The model cannot run on 'dot.png' of shape [3, 1, 1]: {TOO_SMALL}")


@dataclass(frozen=True)
class Desk:
    """What the Python calls below are made with."""

    net: ModuleType
    model: nn.Module
    data: Any
    library: crp.library.Library
    sample: torch.Tensor

    def mine(self, data: Any = None, model: Any = None, **changed: Any) -> Any:
        """Mine with everything right but what is given."""
        settings = {"layers": ["0"], "path": "x.crp", "patches": 1, "progress": False, **changed}
        return crp.mine(model or self.model, self.data if data is None else data, **settings)

    def explain(self, image: Any = None, model: Any = None, **changed: Any) -> Any:
        """Explain with everything right but what is given."""
        return crp.explain(model or self.model, self.sample[0] if image is None else image, self.library, **changed)

    def flow(self, data: Any = None, layers: Any = ()) -> RelevanceFlow:
        """Open a flow."""
        composite = crp.composite_for(self.model).composite
        return RelevanceFlow(self.model, composite, self.sample if data is None else data, layers).__enter__()

    def attribute(self, *conditions: dict) -> Any:
        """One conditional attribution."""
        composite = crp.composite_for(self.model).composite
        return ConditionalAttribution(self.model)(self.sample, list(conditions), composite)

    def add_patches(self, model: Any = None, data: Any = None, concepts: Any = (0,)) -> None:
        """Add patches to the library."""
        add_patches(self.library, model or self.model, data or self.data, "0", concepts, progress=False)


@pytest.fixture
def desk(spoilt: Shop, monkeypatch: pytest.MonkeyPatch) -> Desk:
    spec = importlib.util.spec_from_file_location("shop_net", spoilt.folder / "net.py")
    net = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(net)
    monkeypatch.chdir(spoilt.folder)
    sample = torch.full((1, 3, 12, 12), 0.5)
    return Desk(net, net.make().eval(), load_data("photos"), crp.open_library("mined.crp"), sample)


def pairs(*shapes: tuple[int, ...], label: Any = 0) -> list[tuple[torch.Tensor, Any]]:
    """A data set in memory: a list is map-style."""
    return [(torch.full(shape, 0.5), label) for shape in shapes]


SQUARE = (3, 12, 12)
NO_CONCEPT = "layer '0' has the concepts 0 to 3."
NO_CLASS = "the model's output has the classes 0 to 2."
NOT_MAP_STYLE = "whose samples cannot be read by index; a map-style data set with __len__ and __getitem__ is needed."

CALLS = [
    # mine
    ("no layers", lambda at: at.mine(layers=[]), InputError, "No layers are given; at least one is needed."),
    ("no such layer", lambda at: at.mine(layers=["00"]), InputError, "The model has no layer '00': did you mean '0'?"),
    (
        "concept 9999",
        lambda at: at.mine(patch_concepts={"0": [9999]}),
        InputError,
        f"There is no concept 9999: {NO_CONCEPT}",
    ),
    ("k 0", lambda at: at.mine(k=0), InputError, "k is 0; a whole number of at least 1 is needed."),
    (
        "half a block",
        lambda at: at.mine(block_size=2.5),
        InputError,
        "block_size is 2.5; a whole number of at least 1 is needed.",
    ),
    (
        "no such score",
        lambda at: at.mine(relevance_score="summ"),
        InputError,
        "There is no score 'summ': did you mean 'sum'?",
    ),
    ("no such rule", lambda at: at.mine(targets="labels"), InputError, "There is no target rule 'labels': did you …"),
    (
        "class beyond the output",
        lambda at: at.mine(targets=lambda prediction, labels: labels + 9),
        SampleError,
        "Sample 0 ('ant/0.png') is to be explained for class 9, but the model has the classes 0 to 2.",
    ),
    (
        "too few class names",
        lambda at: at.mine(class_names=["ant"]),
        InputError,
        "There are 1 class names, and the model has 3 classes.",
    ),
    (
        "iterable data set",
        lambda at: at.mine(at.net.Stream()),
        InputError,
        f"The data set is a Stream, {NOT_MAP_STYLE}",
    ),
    ("empty data set", lambda at: at.mine([]), InputError, "The data set is empty; at least one sample is needed."),
    ("no label", lambda at: at.mine([torch.ones(SQUARE)]), SampleError, "Sample 0 has no label; …'prediction'…"),
    (
        "label -1",
        lambda at: at.mine(pairs(SQUARE, label=-1)),
        SampleError,
        "Sample 0 has label -1, but the model has the classes 0 to 2.",
    ),
    (
        "half a label",
        lambda at: at.mine(pairs(SQUARE, label=0.5)),
        SampleError,
        "Sample 0 has the label 0.5, which is not a whole number, a list of them, or a vector of 0 and 1.",
    ),
    (
        "unequal samples",
        lambda at: at.mine(pairs(SQUARE, (3, 13, 12))),
        SampleError,
        "Sample 1 is torch.float32 of shape [3, 13, 12], sample 0 is torch.float32 of shape [3, 12, 12]; all samples "
        "must be alike.",
    ),
    (
        "no tensor",
        lambda at: at.mine(["picture.png"]),
        SampleError,
        "Sample 0 is a str; a float tensor, or (float tensor, label), is needed.",
    ),
    ("1 x 1", lambda at: at.mine(pairs((3, 1, 1))), ModelError, "The model cannot run … of shape [1, 3, 1, 1]: …"),
    ("one channel", lambda at: at.mine(pairs((1, 12, 12))), ModelError, "The model … of shape [1, 1, 12, 12]: …"),
    (
        "not finite",
        lambda at: at.mine([(torch.full(SQUARE, float("inf")), 0)]),
        SampleError,
        "Sample 0 holds NaN or infinite values.",
    ),
    ("NaN weights", lambda at: at.mine(model=at.net.not_finite()), ModelError, "The model's '2.weight' holds 1 NaN …"),
    (
        "grey preprocessing",
        lambda at: at.mine(preprocessing=crp.Preprocessing(mode="L")),
        InputError,
        "An input of mode 'L' has shape [1, H, W], not [3, 12, 12].",
    ),
    ("path taken", lambda at: at.mine(path="mined.crp"), LibraryError, "The library 'mined.crp' exists: choose …"),
    # the library
    ("no library", lambda at: crp.open_library("photos"), LibraryError, "'photos' is not a library: …"),
    (
        "its layer",
        lambda at: at.library.shape("1"),
        InputError,
        "The library does not hold layer '1': there are '0', '2'.",
    ),
    (
        "its concept",
        lambda at: at.library.patches("0", 9999, "relevance"),
        InputError,
        f"There is no concept 9999: {NO_CONCEPT}",
    ),
    (
        "its mode",
        lambda at: at.library.references("0", "relmax"),
        InputError,
        "There is no mode 'relmax': there are 'relevance', 'activation', 'negative'.",
    ),
    (
        "truncated",
        lambda at: crp.open_library("cut.crp").patches("2", 0, "relevance"),
        LibraryError,
        "'…' is damaged …",
    ),
    ("patches of 99", lambda at: at.add_patches(concepts=[99]), InputError, f"There is no concept 99: {NO_CONCEPT}"),
    ("patches, other model", lambda at: at.add_patches(at.net.other()), LibraryError, OTHER_WEIGHTS),
    (
        "patches, other data",
        lambda at: at.add_patches(data=load_data("photos/ant")),
        LibraryError,
        "This is not the data set that was mined: its length is 2, and the library has 6.",
    ),
    # explain
    ("other model", lambda at: at.explain(model=at.net.other()), LibraryError, OTHER_WEIGHTS),
    ("missing picture", lambda at: at.explain("none.png"), InputError, "There is no picture file 'none.png'."),
    (
        "two pictures",
        lambda at: at.explain(torch.zeros(2, 3, 12, 12)),
        InputError,
        "One image is a tensor [c, H, W] or [1, c, H, W], given [2, 3, 12, 12].",
    ),
    (
        "float array",
        lambda at: at.explain(np.zeros((12, 12))),
        InputError,
        "A picture array is uint8 [H, W, 3], [H, W, 1] or [H, W], not float64 [12, 12].",
    ),
    ("class -1", lambda at: at.explain(target=-1), InputError, f"There is no class -1: {NO_CLASS}"),
    ("class ants", lambda at: at.explain(target="ants"), InputError, "There is no class 'ants': did you mean 'ant'?"),
    (
        "no concepts",
        lambda at: at.explain(concepts=0),
        InputError,
        "concepts is 0; a whole number of at least 1 is needed.",
    ),
    ("no cells", lambda at: at.explain(cells=0), InputError, "cells is 0; a whole number of at least 1 is needed."),
    (
        "NaN picture",
        lambda at: at.explain(torch.full(SQUARE, float("nan"))),
        ModelError,
        "The model's output is not finite (NaN or infinite) for this input.",
    ),
    (
        "atlas as bitmap",
        lambda at: crp.atlas(at.model, at.sample[0], at.library).save("a.bmp"),
        InputError,
        "'a.bmp': an atlas is saved as '.html', '.png', '.pdf', '.svg', '.json', '.dot', not as '.bmp'.",
    ),
    (
        "atlas into nothing",
        lambda at: crp.atlas(at.model, at.sample[0], at.library).save("no/a.json"),
        InputError,
        "'no/a.json': the folder 'no' does not exist.",
    ),
    # attribution
    ("flow, layer", lambda at: at.flow(layers=["10"]), InputError, "The model has no layer '10': did you mean …"),
    ("flow, class", lambda at: at.flow().output_relevance([-1]), InputError, f"There is no class -1: {NO_CLASS}"),
    (
        "condition, concept",
        lambda at: at.attribute({"y": [0], "0": [9999]}),
        InputError,
        f"There is no concept 9999: {NO_CONCEPT}",
    ),
    (
        "condition, layer",
        lambda at: at.attribute({"y": [0], "00": [1]}),
        InputError,
        "The model has no layer '00': did you mean '0'?",
    ),
    ("condition, class", lambda at: at.attribute({"y": [3]}), InputError, f"There is no class 3: {NO_CLASS}"),
    ("no condition", lambda at: at.attribute(), InputError, "Conditions are a list … or more, given an empty list."),
]


@pytest.mark.parametrize(("call", "kind", "sentence"), [row[1:] for row in CALLS], ids=[row[0] for row in CALLS])
def test_in_python(spoilt: Shop, desk: Desk, call: Any, kind: type[CrpError], sentence: str) -> None:
    before = spoilt.files()
    with pytest.raises(kind) as caught:
        call(desk)
    check(str(caught.value), sentence)
    assert spoilt.files() == before


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="permissions of POSIX")
def test_a_folder_that_may_not_be_written(desk: Desk) -> None:
    """Also where the tests run as root, who may write everywhere."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o555)
    atlas = crp.atlas(desk.model, desk.sample[0], desk.library)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)
        with pytest.raises(LibraryError) as caught:
            desk.mine(pairs(SQUARE), path=folder / "x.crp")
        with pytest.raises(InputError) as caught_atlas:
            atlas.save(folder / "a.json")
    finally:
        os.seteuid(user)
        left = list(folder.iterdir())
        folder.rmdir()
    check(str(caught.value), f"No library can be written to '{folder}/x.crp': Permission denied ('…').")
    check(str(caught_atlas.value), f"'{folder}/a.json' cannot be written: Permission denied.")
    assert left == []
