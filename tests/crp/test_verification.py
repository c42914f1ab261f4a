"""`verify` on a small library: it holds; every kind of change is found, said in a sentence, and said where it is."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn
from torch.utils.data import TensorDataset
from zennit.composites import EpsilonPlusFlat

import crp
from crp.errors import InputError, LibraryError
from crp.library.checksums import FILE, replace_with_checksum, write_checksums
from crp.library.tables import table_bytes, write_table
from tests.durability import subject as durable

K = 3


def small_net() -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Flatten(),
                         nn.Linear(4 * 36, 3))  # fmt: skip


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return small_net()


@pytest.fixture(scope="module")
def dataset() -> TensorDataset:
    generator = torch.Generator().manual_seed(6)
    return TensorDataset(torch.randn(22, 3, 8, 8, generator=generator), torch.arange(22) % 3)


@pytest.fixture(scope="module")
def mined(model, dataset, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("verified") / "a.crp"
    return crp.mine(model, dataset, layers=["0", "2"], path=path, k=K, patches=2, block_size=8, progress=False,
                    patch_concepts={"0": [0, 1]}).path  # fmt: skip


@pytest.fixture
def library(mined, tmp_path) -> Path:
    return shutil.copytree(mined, tmp_path / "a.crp")


def changed(file: Path, name: str, change) -> None:
    """Change one array of a table, leaving checksums as they are."""
    arrays = load_file(file)
    arrays[name] = change(arrays[name].copy())
    write_table(file, arrays)


def test_a_sound_library(library, model, dataset):
    found = crp.verify(library)
    assert found.sound
    assert found.held == [
        "Every file is unchanged: its checksum is the one listed.",
        # 2 layers x 3 modes x 4 concepts x 3 references; 2 concepts x 3 modes x 2 patches in one layer
        "Every number is in its valid range: 72 references and 12 patches of 2 layers.",
    ]
    # 2 layers x 3 modes x 4 concepts x 2 patches, less 12
    missing = "36 patches have not been made yet: they are made when they are needed, or all at once by `crp patches "
    assert found.notes == [
        f"{missing}{library}`.",
        "Scores were not checked: give model and data to compute some of them again.",
    ]
    found = crp.verify(crp.open_library(library), model, dataset, blocks=3)
    assert found.sound, found.wrong
    same = r"The model computes what was mined: for a test pattern, outputs differ by at most \S+e-06 of the largest\."
    assert re.fullmatch(same, found.held.pop(3))
    assert found.held[2:] == [
        "The model has the weights that were mined.",
        "The data set is the one that was mined (22 samples).",
        "The rules are those that were mined with.",
        "72 references in 3 of 3 blocks of samples were computed again: their scores differ by at most 0.0e+00 of the "
        "largest in the layer (allowed with float32: 0.001), and no sample there is missing from the references.",
        "Class statistics and means of all samples were computed again and are equal.",
    ]
    assert str(found).splitlines()[0] == "ok     Every file is unchanged: its checksum is the one listed."


def test_every_changed_byte_is_found(library):
    dice = np.random.default_rng(0)
    for file in sorted(file for file in library.rglob("*") if file.is_file()):
        content = file.read_bytes()
        for place in dice.integers(0, len(content), 5):
            file.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
            assert not crp.verify(library).sound
        file.write_bytes(content)
    assert crp.verify(library).sound


def test_files_that_are_missing_or_too_many(library):
    (library / "notes.txt").write_text("mine")
    found = crp.verify(library)
    assert found.sound
    assert "'notes.txt' is not part of the library, and nothing reads it." in found.notes
    shutil.copy(library / "layers/0/patches.safetensors", library / "layers/2/more.safetensors")
    assert crp.verify(library).wrong == ["'layers/2/more.safetensors' has no checksum."]
    (library / "layers/2/more.safetensors").unlink()
    (library / "layers/2/statistics.safetensors").unlink()
    assert crp.verify(library).wrong[0] == "'layers/2/statistics.safetensors' is missing."


def test_without_checksums(library):
    for file in library.rglob(FILE):
        file.unlink()
    assert crp.verify(library).wrong == [
        f"It holds no checksums ({FILE}), so its files cannot be compared with what was written."
    ]


def test_no_library_at_all(tmp_path):
    path = tmp_path / "none"
    assert crp.verify(path).wrong == [f"There is no library '{path}': the folder does not exist."]


def test_folders_of_two_layers_swapped(library):
    (library / "layers" / "0").rename(library / "aside")
    (library / "layers" / "2").rename(library / "layers" / "0")
    (library / "aside").rename(library / "layers" / "2")
    found = crp.verify(library)
    assert [sentence.split(" ")[0] for sentence in found.wrong if "checksum" in sentence] == [
        f"'layers/{layer}/{table}.safetensors'"
        for layer in "02"
        for table in ("class_references", "means", "patches", "references", "statistics")
    ]


RESEALED = [
    # what an attacker who rewrites the checksums cannot hide from the checks of the structure
    ("layers/0/patches.safetensors", "sample", lambda x: x[::-1], "The patches of concept 0 of layer '0' by relevance"),
    ("layers/2/references.safetensors", "relevance.sample", lambda x: x + 22, "is not within -1 and 21)"),
    ("layers/2/references.safetensors", "activation.score", lambda x: x * np.nan, "a sample is not finite"),
]


@pytest.mark.parametrize(("name", "array", "change", "sentence"), RESEALED)
def test_numbers_that_do_not_go_together(library, name, array, change, sentence):
    changed(library / name, array, change)
    write_checksums(library)
    found = crp.verify(library)
    assert not found.sound
    assert sentence in found.wrong[0]


def test_false_scores_and_lists_are_found_by_computing_again(library, model, dataset):
    file = library / "layers/2/references.safetensors"
    content = file.read_bytes()
    arrays = load_file(file)
    score = arrays["relevance.score"].copy()
    score[1] *= 1.01
    replace_with_checksum(library, file, table_bytes({**arrays, "relevance.score": score}))
    assert crp.verify(library).sound
    (wrong,) = crp.verify(library, model, dataset, blocks=3).wrong
    assert wrong.startswith("Sample ")
    assert "for concept 1 of layer '2' by relevance, but " in wrong
    assert wrong.endswith(" when computed again.")
    # the best sample of a concept left out: the list that remains is in order and true, and not the best
    shorter = {
        name: np.concatenate([array[:, 1:], array[:, :1]], axis=1) if name.startswith("activation") else array
        for name, array in arrays.items()
    }
    left_out = arrays["activation.sample"][:, 0]
    for name, empty in (("sample", -1), ("score", -np.inf), ("target", -1), ("position", 0)):
        shorter[f"activation.{name}"][:, -1] = empty
    replace_with_checksum(library, file, table_bytes(shorter))
    found = crp.verify(library, model, dataset, blocks=3)
    assert [sentence for sentence in found.wrong if "but is not a reference" in sentence]
    assert any(f"Sample {sample} scores" in found.wrong[0] for sample in left_out)
    replace_with_checksum(library, file, content)
    assert crp.verify(library, model, dataset, blocks=3).sound


def test_false_statistics_are_found_by_computing_everything_again(library, model, dataset):
    file = library / "layers/0/statistics.safetensors"
    arrays = load_file(file)
    arrays["share"][1, 2] += 0.05
    replace_with_checksum(library, file, table_bytes(arrays))
    assert crp.verify(library, model, dataset, blocks=2).sound
    (wrong,) = crp.verify(library, model, dataset, blocks=3).wrong
    assert wrong == (
        "The share of class 1 in layer '0' differs by 0.05 from what all samples give when computed again."
    )


def test_a_layer_of_another_size(library, model, dataset):
    file = library / "manifest.json"
    file.write_text(file.read_text().replace('"concepts": 4', '"concepts": 3', 1))
    (*_, wrong) = crp.verify(library, model, dataset).wrong
    assert wrong == "This is not the layer '0' of the library: its concepts is 4, and the library has 3."


def test_what_does_not_belong_to_the_library(library, model, dataset):
    data, labels = dataset.tensors
    other = small_net()
    with torch.no_grad():
        other[0].bias[0] += 1
    (wrong,) = crp.verify(library, other, dataset).wrong
    assert "was mined with other weights" in wrong
    (wrong,) = crp.verify(library, model, TensorDataset(data + 1, labels)).wrong
    assert wrong.startswith("This is not the data set that was mined: its fingerprint is '")
    (wrong,) = crp.verify(library, model, dataset, composite=EpsilonPlusFlat()).wrong
    assert wrong.startswith("This is not the composite of the library: its name is 'EpsilonPlusFlat', and the library")
    (wrong,) = crp.verify(library, model, TensorDataset(data, labels.flip(0))).wrong
    assert wrong == "The labels of the data set are not those that were mined."
    with pytest.raises(InputError, match="give the model"):
        crp.verify(library, dataset=dataset)


def test_rules_of_the_same_name_with_other_options(model, dataset, tmp_path):
    path = crp.mine(model, dataset, layers=["0"], path=tmp_path / "b.crp", composite=EpsilonPlusFlat(), k=K, patches=0,
                    progress=False).path  # fmt: skip
    library, data = crp.open_library(path), dataset.tensors[0][0]
    assert crp.verify(path, model, dataset, composite=EpsilonPlusFlat()).sound
    other = EpsilonPlusFlat(epsilon=0.1)
    # the sentence says which rule, and both of its options
    differs = r"its options is \{'Epsilon': \['.*0\.1.*and the library has \{'Epsilon': \['.*1e-06"
    assert re.search(differs, crp.verify(path, model, dataset, composite=other).wrong[0])
    for refused in (
        lambda: crp.explain(model, data, library, composite=other),
        lambda: crp.compose(model, data[None], ["0"], target=0, library=library, composite=other),
    ):
        with pytest.raises(LibraryError, match=differs):
            refused()


def test_a_rule_that_is_a_function_must_be_given_again(model, dataset, tmp_path):
    def second(prediction, labels):
        return prediction.argsort(1)[:, -2]

    path = crp.mine(model, dataset, layers=["0"], path=tmp_path / "b.crp", targets=second, k=K, patches=0,
                    progress=False).path  # fmt: skip
    found = crp.verify(path, model, dataset)
    assert found.sound
    sentence = "No score was computed again: the library stores only the name of the target rule '"
    assert found.notes[-1].startswith(sentence)
    assert crp.verify(path, model, dataset, targets=second).sound
    assert "another class is explained" in crp.verify(path, model, dataset, targets="prediction").wrong[0]


def test_added_patches_keep_the_checksums_right_whatever_happens(library, model, dataset, monkeypatch):
    opened = crp.open_library(library)
    crp.add_patches(opened, model, dataset, "0", [3], progress=False)
    assert crp.verify(library).sound
    from crp.library import checksums

    before = {file: file.read_bytes() for file in library.rglob("*") if file.is_file()}
    for stop_at in (1, 2, 3):  # killed before, between and after the three writes
        writes = []

        def killed(path, content, *, writes=writes, stop_at=stop_at, write=checksums.write_file):
            if len(writes) == stop_at - 1:
                raise KeyboardInterrupt
            writes.append(path.name)
            write(path, content)

        with monkeypatch.context() as patched:
            patched.setattr(checksums, "write_file", killed)
            with pytest.raises(KeyboardInterrupt):
                crp.add_patches(opened, model, dataset, "0", [2], progress=False)
        assert crp.verify(library).sound
        for file, content in before.items():
            file.write_bytes(content)
    assert writes == [FILE, "patches.safetensors"]


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="there is no sha256sum")
def test_checksums_are_those_of_sha256sum(library):
    sums = [str(file.relative_to(library)) for file in sorted(library.rglob(FILE))]
    assert len(sums) == 3
    done = subprocess.run(["sha256sum", "--check", "--strict", *sums], cwd=library, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": OK") == 12


def test_a_library_with_skipped_samples_is_sound(tmp_path):
    library = durable.mined(tmp_path / "a.crp")
    assert [skipped["sample"] for skipped in library.manifest["skipped"]] == [durable.UNREADABLE]
    found = crp.verify(library, durable.net(), durable.Samples(), blocks=10)
    assert found.sound, found.wrong
    assert "Class statistics and means of all samples were computed again and are equal." in found.held


class Tokens(nn.Module):
    """One block of a transformer, with more tokens than channels."""

    def __init__(self):
        super().__init__()
        self.patches, self.head = nn.Conv2d(3, 4, 2, 2), nn.Linear(4, 3)
        self.token = nn.Parameter(torch.ones(1, 1, 4))
        self.block = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)

    def forward(self, data):
        data = self.patches(data).flatten(2).transpose(1, 2)
        data = torch.cat([self.token.expand(len(data), -1, -1), data], 1)
        return self.head(self.block(data)[:, 0])


def test_a_library_of_tokens_is_sound(tmp_path):
    torch.manual_seed(0)
    model, data = Tokens().eval(), TensorDataset(torch.rand(6, 3, 8, 8))
    library = crp.mine(
        model, data, layers=["block"], path=tmp_path / "a.crp", targets="prediction", k=3, patches=3, progress=False
    )
    assert library.space("block") == (17,)
    assert library.references("block", "activation").position.max() >= 4  # more than there are channels
    found = crp.verify(library, model, data)
    assert found.sound, str(found)
