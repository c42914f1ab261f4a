"""A model with the weights of the mined one that computes something else is refused; rounding is not."""

import copy
import json
import math
import re
import shutil

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils.data import TensorDataset

import crp
from crp.attribution.detectors import OUTPUT_NAME
from crp.errors import LibraryError, ModelError
from crp.library.checksums import write_checksums
from crp.library.known_outputs import KnownOutputs, known_outputs_in, pattern_values, shortened_values
from crp.library.summary import described_in_words
from crp.mining import add_patches, merge
from crp.mining.durable.work import IDENTITY, difference_of
from crp.same_model import check_model, measured_outputs
from tests.durability import subject
from tests.oracle import nets

DATA = torch.rand(6, 3, 12, 12, generator=torch.Generator().manual_seed(3))
DATASET = TensorDataset(DATA, torch.arange(6) % 3)
SENTENCE = "was mined with a model that has these weights and computes something else: for the library's test pattern "


class Net(nn.Module):
    """Parts that can be exchanged without a change of weights or shapes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm, self.act = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()
        self.pool, self.second = nn.MaxPool2d(2), nn.Conv2d(4, 5, 3, stride=2, padding=1)
        self.last, self.end = nn.Linear(5, 3), nn.Identity()
        self.norm.running_var.fill_(0.02)

    def forward(self, data: torch.Tensor) -> torch.Tensor:
        out = self.pool(self.act(self.norm(self.first(data))))
        return self.end(self.last(self.act(self.second(out)).mean((2, 3))))


def another_forward(model: Net) -> None:
    forward = model.forward
    model.forward = lambda data: forward(data.flip(1))


def set_part(name: str, part: nn.Module):
    return lambda model: setattr(model, name, part)


CHANGES = {
    "eps": lambda model: setattr(model.norm, "eps", 1e-3),
    "activation": set_part("act", nn.GELU()),
    "pooling": set_part("pool", nn.AvgPool2d(2)),
    "stride": lambda model: setattr(model.second, "stride", (1, 1)),
    "padding": lambda model: setattr(model.first, "padding_mode", "circular"),
    "last activation": set_part("end", nn.Tanh()),
}


def mined(model: nn.Module, path, **options) -> crp.library.Library:
    options = {"layers": ["second"], "k": 2, "patches": 1, "block_size": 4, "progress": False} | options
    return crp.mine(model, DATASET, path=path, **options)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return mined(Net().eval(), tmp_path_factory.mktemp("same") / "a.crp").path


@pytest.mark.parametrize("change", CHANGES)
def test_another_function_of_the_same_weights_is_refused_everywhere(path, change):
    model, library = Net().eval(), crp.open_library(path)
    assert check_model(library, model) < 1e-5
    CHANGES[change](model)
    assert crp.models.weights_fingerprint(model) == library.manifest["model"]["weights"]
    for use in (
        lambda: crp.prepared(model, library=library),
        lambda: crp.explain(model, DATA[0], library),
        lambda: crp.explain(crp.prepared(model), DATA[0], library),
        lambda: crp.compose(model, DATA[:1], ["second"], target=0, library=library),
        lambda: add_patches(library, model, DATASET, progress=False),
        lambda: check_model(library, model),
    ):
        with pytest.raises(LibraryError, match=re.escape(f"'{path}' {SENTENCE}")):
            use()
    assert SENTENCE in crp.verify(path, model).wrong[0]


def test_the_sentence_says_what_differs_and_by_how_much(path):
    library = crp.open_library(path)
    known = known_outputs_in(library.manifest)
    model = Net().eval()
    with torch.no_grad():
        before = model(torch.from_numpy(known.pattern((3, 12, 12)))[None].float())[0]
        model.act = nn.GELU()
        after = model(torch.from_numpy(known.pattern((3, 12, 12)))[None].float())[0]
    place = int((after - before).abs().argmax())
    off = float((after - before).abs().max() / before.abs().max())
    with pytest.raises(LibraryError) as caught:
        check_model(library, model)
    assert str(caught.value) == (
        f"The library '{path}' {SENTENCE}it gave {known.values[place]:.6g} where this model gives "
        f"{float(after[place]):.6g}, which differs by {off:.2g} of the largest output (rounding: "
        f"{known.tolerance:.2g}); use the model as it was mined (activations, pooling, strides, eps of norms, "
        "forward), or mine it again."
    )
    model = Net().eval()
    model.end = nn.Unflatten(1, (3, 1))
    with pytest.raises(LibraryError, match=r"test pattern its output is \[3\], this model's is \[3, 1\]; use the"):
        check_model(library, model)


def test_a_patched_forward_is_refused(path):
    model = Net().eval()
    another_forward(model)
    with pytest.raises(LibraryError, match=SENTENCE):
        crp.prepared(model, library=crp.open_library(path))


def test_known_outputs_are_those_of_the_model_alone_in_double_precision(path):
    known = known_outputs_in(crp.open_library(path).manifest)
    model = Net().eval().double()
    with torch.no_grad():
        expected = model(torch.from_numpy(known.pattern((3, 12, 12)))[None])[0]
    assert (known.least, known.greatest) == (float(DATA[0].min()), float(DATA[0].max()))
    assert known.values == pytest.approx(expected.tolist(), abs=1e-5 * float(expected.abs().max()))
    assert known.shape == (3,)


def test_the_pattern_is_the_same_on_every_machine():
    # in Python's own integers
    golden = 0x9E3779B97F4A7C15
    fractions = [(i * i * golden % 2**64 >> 11) / 2**53 for i in range(1, 13)]
    found = pattern_values((3, 2, 2), -1.0, 3.0)
    assert (found.shape, found.dtype) == ((3, 2, 2), np.float64)
    assert found.ravel().tolist() == [-1 + 4 * fraction for fraction in fractions]
    assert fractions[0] == pytest.approx((math.sqrt(5) - 1) / 2, abs=1e-15)
    wide = pattern_values((200, 200), 0.0, 1.0)
    assert [wide.mean(), wide.std()] == pytest.approx([1 / 2, 12**-0.5], abs=0.01)


def test_rounding_is_stored_away():
    assert shortened_values(np.array([0.123456789, -12.3456789, -1e-9])) == (0.1235, -12.3457, 0.0)
    assert math.copysign(1, shortened_values(np.array([1.0, -1e-9]))[1]) == 1
    assert shortened_values(np.array([1.23456789e-12])) == (1.23457e-12,)


class TensorCores(TorchFunctionMode):
    """What a GPU does with float32: the operands of convolutions and products lose 13 bits."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in (functional.conv2d, functional.linear):
            args = [self.rounded(value) if isinstance(value, torch.Tensor) else value for value in args]
        return function(*args, **(kwargs or {}))

    @staticmethod
    def rounded(value: torch.Tensor) -> torch.Tensor:
        bits = value.detach().contiguous().view(torch.int32)
        return (bits + 0x1000 & ~0x1FFF).view(torch.float32)


NETWORKS = {
    "resnet20": (nets.trained_resnet20, (3, 32, 32)),
    "squeezenet": (nets.trained_squeezenet, (3, 224, 224)),
    "mobilenet": (nets.trained_mobilenet, (3, 128, 128)),
}


def with_eps(model, eps):
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = eps


def with_gelu(model):
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU | nn.ReLU6):
                setattr(module, name, nn.GELU())


@pytest.mark.parametrize("network", NETWORKS)
def test_trained_networks(network, real_data, tmp_path):
    make, shape = NETWORKS[network]
    model, library = make(real_data), standing_library(make(real_data), shape, tmp_path)
    known = known_outputs_in(library.manifest)
    assert check_model(library, model) < 1e-5
    assert len(known.values) == min(64, 10 if network == "resnet20" else 1000)
    with TensorCores():
        rounded = check_model(library, model)
    assert 1e-5 < rounded < 0.6 * known.tolerance
    for wrapped in (nn.DataParallel(model), torch.compile(model, backend="eager")):
        assert check_model(library, wrapped) < 1e-5
    for change in (with_gelu, lambda model: with_eps(model, 1e-3)):
        changed = copy.deepcopy(model)
        change(changed)
        if not any(isinstance(module, nn.BatchNorm2d) for module in model.modules()) and change is not with_gelu:
            continue
        with pytest.raises(LibraryError, match=SENTENCE):
            check_model(library, changed)


def standing_library(model, shape, folder):
    """The part of a library that knows its model."""
    sample = torch.linspace(-2.1, 2.6, math.prod(shape)).reshape(shape)
    outputs = measured_outputs(model, sample)
    manifest = {
        "model": {"weights": crp.models.weights_fingerprint(model), "output": None, "known_outputs": outputs},
        "data": {"shape": list(shape)},
    }
    return type("Mined", (), {"manifest": manifest, "path": folder})()


RESHAPED = nn.Sequential(nn.Softmax(1), nn.Unflatten(1, (3, 1)), nn.Flatten())


@pytest.mark.parametrize("end", [nn.Softmax(1), nn.LogSoftmax(1), nn.Sigmoid(), RESHAPED], ids=str)
def test_a_final_activation_may_be_taken_off_or_put_on(path, end, tmp_path):
    ending = Net().eval()
    ending.end = end
    assert check_model(crp.open_library(path), ending) < 1e-5
    library = mined(ending, tmp_path / "b.crp")
    assert check_model(library, Net().eval()) < 1e-5
    for changed in (Net().eval(), ending):
        changed.act = nn.GELU()
        with pytest.raises(LibraryError, match=SENTENCE):
            check_model(library, changed)


class Picky(Net):
    """Refuses what is no sample, as a model whose input stands for tokens can."""

    def forward(self, data: torch.Tensor) -> torch.Tensor:
        if not (2 * data == (2 * data).round()).all():
            raise IndexError("no such token")
        return super().forward(data)


class Unsteady(Net):
    """Which channels count depends on the last bits."""

    def forward(self, data: torch.Tensor) -> torch.Tensor:
        out = super().forward(data)
        return out * torch.sin(out.detach() * 1e6)


class Silent(Net):
    def forward(self, data: torch.Tensor) -> torch.Tensor:
        return (super().forward(data) - 1e3).relu()


class Detector(Net):
    explained_output = OUTPUT_NAME


OMITTED = {
    Picky: "the model does not run on the test pattern: no such token",
    Unsteady: "rounding errors alone change the model's outputs for the test pattern too much",
    Silent: "the model's outputs for the test pattern are all 0, or not finite",
    Detector: "the outputs of a detector depend on the boxes that it finds",
}


@pytest.mark.parametrize("kind", OMITTED)
def test_where_outputs_cannot_be_compared_the_manifest_says_so(kind):
    assert measured_outputs(kind().eval(), DATA[0]) == {"omitted": OMITTED[kind]}


def test_a_model_without_known_outputs_is_mined_and_explained(tmp_path):
    model = Picky().eval()
    dataset = TensorDataset((DATA * 5).round(), torch.arange(6) % 3)
    options = {"layers": ["second"], "k": 2, "patches": 0, "block_size": 6, "progress": False}
    library = crp.mine(model, dataset, path=tmp_path / "a.crp", **options)
    crp.explain(model, dataset[0][0], library)
    found = crp.verify(library, model, dataset)
    assert found.sound, found.wrong
    assert f"What the model computes was not compared: {OMITTED[Picky]}." in found.notes


def test_a_library_of_an_earlier_version_opens_as_before(path, tmp_path):
    old = shutil.copytree(path, tmp_path / "old.crp")
    manifest = json.loads((old / "manifest.json").read_bytes())
    del manifest["model"]["known_outputs"]
    (old / "manifest.json").write_text(json.dumps(manifest))
    write_checksums(old)
    library, model = crp.open_library(old), Net().eval()
    crp.explain(model, DATA[0], library)
    assert crp.prepared(model, library=library).computed == {}
    found = crp.verify(library, model, DATASET)
    assert found.sound, found.wrong
    assert "What the model computes was not compared: an earlier version made the library." in found.notes
    line = "\nrecognised  by its weights, not by what it computes (an earlier version made the library)\n"
    assert line in described_in_words(library)
    line = "\nrecognised  by its weights and 3 outputs for a test pattern\n"
    assert line in described_in_words(crp.open_library(path))
    extended = crp.mine(
        model, DATASET, layers=["second"], k=2, patches=1, block_size=4, progress=False, path=tmp_path / "new.crp",
        extend=old,
    )  # fmt: skip
    assert known_outputs_in(extended.manifest) == known_outputs_in(crp.open_library(path).manifest)


def test_outputs_are_computed_once_for_a_prepared_model(path, monkeypatch):
    library, model = crp.open_library(path), Net().eval()
    ready = crp.prepared(model, library=library)
    assert [*ready.computed] == [((3, 12, 12), float(DATA[0].min()), float(DATA[0].max()))]
    monkeypatch.setattr("crp.same_model.plain_prediction", None)
    ready.check(library)
    crp.explain(ready, DATA[0], library)


def test_shards_of_two_machines_may_differ_by_rounding(tmp_path):
    """The first is kept; a shard of another function is refused."""
    subject.mined(tmp_path / "a.crp", shard=(1, 2))
    subject.mined(tmp_path / "b.crp", shard=(2, 2))
    first, other = (subject.work(tmp_path / f"{name}.crp") for name in "ab")
    identity = json.loads((other / IDENTITY).read_bytes())
    known = identity["manifest"]["model"]["known_outputs"]
    off = known["tolerance"] * max(map(abs, known["values"]))
    for much, fits in ((1.5, False), (0.5, True)):
        values = [value + much * off for value in known["values"]]
        changed = copy.deepcopy(identity)
        changed["manifest"]["model"]["known_outputs"] |= {"values": values, "tolerance": 2 * known["tolerance"]}
        (other / IDENTITY).write_text(json.dumps(changed))
        if fits:
            found = merge(subject.net(), subject.Samples(), path=tmp_path / "a.crp", others=[other], skip_bad=True)
            assert found.manifest["model"]["known_outputs"] == known
        else:
            sentence = "does not belong to the other shards: its model has the same weights, and its outputs for the "
            with pytest.raises(LibraryError, match=sentence):
                merge(subject.net(), subject.Samples(), path=tmp_path / "a.crp", others=[other], skip_bad=True)
    assert not first.exists()


def test_descriptions_without_known_outputs_do_not_differ_by_them():
    known = KnownOutputs(0.0, 1.0, (2,), (1.0, 2.0), 1e-3).to_json()
    kept = {"model": {"weights": "a", "known_outputs": known}}
    for other in ({"weights": "a"}, {"weights": "a", "known_outputs": {"omitted": "no"}}):
        assert difference_of(kept, {"model": other}, ()) == difference_of({"model": other}, kept, ()) == ""
    other = copy.deepcopy(kept)
    other["model"]["known_outputs"]["shape"] = [1, 2]
    assert difference_of(kept, other, ()) == "its model gives outputs of another shape, or for another test pattern"


def test_a_model_that_cannot_run_on_the_pattern_says_so(path):
    model = Net().eval()
    model.pool = nn.Flatten()
    with pytest.raises(ModelError, match=r"^The model cannot run on input of shape \[1, 3, 12, 12\]: "):
        crp.prepared(model, library=crp.open_library(path))


def test_a_constant_sample_still_gives_a_pattern():
    known = measured_outputs(Net().eval(), torch.zeros(3, 12, 12))
    assert (known["least"], known["greatest"]) == (0.0, 1.0)
