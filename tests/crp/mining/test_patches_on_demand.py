"""A library whose patches are made when they are needed ends up as one that was mined with all of them."""

import random
import shutil

import numpy as np
import pytest
from torch.utils.data import TensorDataset

import crp
from crp.errors import InputError, LibraryError
from crp.library import open_library, patch_files
from crp.library.patch_segments import segment_files
from crp.library.summary import described_in_words, description
from crp.mining import add_patches, supply_patches
from crp.mining.patch_maker import PatchMaker

from .conftest import LAYERS, digests, mined


@pytest.fixture(scope="module")
def bare(model, dataset, tmp_path_factory):
    """The path of a library like `library`, without patches."""
    return mined(model, dataset, tmp_path_factory.mktemp("bare") / "small.crp", k=6, patches=2).path


@pytest.fixture
def path(bare, tmp_path):
    """A copy of it."""
    shutil.copytree(bare, tmp_path / "small.crp")
    return tmp_path / "small.crp"


def every(library):
    """All patches of a library, by layer."""
    files = {layer: library.patch_files(layer) for layer in library.layers}
    return {layer: files[layer].keys(range(library.limits(layer).concepts)) for layer in library.layers}


def segments(path):
    return sum(len(segment_files(layer)) for layer in (path / "layers").iterdir())


def test_nothing_is_made_before_it_is_needed(path, library):
    opened = open_library(path)
    assert opened.patch_counts()[0] == 0
    assert opened.patch_counts()[1] == library.patch_counts()[1] == library.patch_counts()[0]
    assert opened.patches("conv2", 3, "relevance") == ()


@pytest.mark.parametrize("seed", range(3))
def test_any_order_makes_the_same_bytes(path, model, dataset, library, seed):
    chance, opened = random.Random(seed), supply_patches(open_library(path), model, dataset)
    wanted = [(layer, key) for layer, keys in every(opened).items() for key in keys]
    chance.shuffle(wanted)
    while wanted:
        some = [wanted.pop() for _ in range(min(len(wanted), chance.randint(1, 30)))]
        opened.make_patches({layer: [key for at, key in some if at == layer] for layer in LAYERS})
        if chance.random() < 0.3:
            opened = supply_patches(open_library(path), model, dataset)
    assert digests(path) == digests(library.path)


def test_reading_a_patch_makes_it_and_no_other(path, model, dataset, library):
    opened = supply_patches(open_library(path), model, dataset)
    (found,) = opened.patches("conv2", 3, "relevance", count=1)
    expected = library.patches("conv2", 3, "relevance")[0]
    assert (found.sample, found.box) == (expected.sample, expected.box)
    np.testing.assert_array_equal(found.heatmap, expected.heatmap)
    assert open_library(path).patch_counts()[0] == 1
    assert open_library(path).with_patches("conv2") == []
    for mode in ("relevance", "activation", "negative"):
        opened.patches("conv2", 3, mode)
    assert open_library(path).with_patches("conv2") == [3]


def test_an_interruption_keeps_what_was_made(path, model, dataset, library, monkeypatch):
    made, of_group = [], PatchMaker.of_group

    def failing(self, group):
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(list(group))
        return of_group(self, group)

    monkeypatch.setattr(PatchMaker, "of_group", failing)
    with pytest.raises(KeyboardInterrupt) as caught:
        add_patches(open_library(path), model, dataset, progress=False)
    assert "the same call or command continues" in caught.value.__notes__[0]
    kept = sum(map(len, made))
    assert open_library(path).patch_counts()[0] == kept > 0
    assert crp.verify(path).sound
    monkeypatch.setattr(PatchMaker, "of_group", lambda self, group: made.append(list(group)) or of_group(self, group))
    add_patches(open_library(path), model, dataset, progress=False)
    again = [request for group in made[3:] for request in group]
    assert len(again) == library.patch_counts()[1] - kept
    assert digests(path) == digests(library.path)


def test_two_processes_complete_a_library_at_the_same_time(path, model, dataset, library, monkeypatch):
    of_group, groups = PatchMaker.of_group, []

    def meanwhile(self, group):
        groups.append(group)
        if len(groups) == 2:  # another process completes the library
            add_patches(open_library(path), model, dataset, progress=False)
        return of_group(self, group)

    monkeypatch.setattr(PatchMaker, "of_group", meanwhile)
    reader = open_library(path)
    before = reader.patch_counts()
    add_patches(open_library(path), model, dataset, progress=False)
    assert digests(path) == digests(library.path)
    assert before[0] == 0 < reader.patch_counts()[0] == before[1]
    assert reader.patches("conv1", 0, "relevance")[0].sample == library.patches("conv1", 0, "relevance")[0].sample


def test_many_segments_are_joined(path, model, dataset):
    opened = supply_patches(open_library(path), model, dataset)
    for key in every(opened)["conv2"][: patch_files.MOST + 2]:
        opened.make_patches({"conv2": [key]})
    assert len(segment_files(path / "layers" / "conv2")) == 2
    assert open_library(path).patch_counts()[0] == patch_files.MOST + 2


def test_the_first_patches_only(path, model, dataset, library, tmp_path):
    first = mined(model, dataset, tmp_path / "first.crp", k=6, patches=2, patches_now="first").path
    opened = open_library(first)
    for layer in LAYERS:
        files = opened.patch_files(layer)
        np.testing.assert_array_equal(files.made(), np.minimum(files.expected, 1))
        assert len(segment_files(files.table.parent)) == 1
        assert len(opened.patches(layer, 0, "activation")) == 1
    add_patches(opened, model, dataset, progress=False)
    assert digests(first) == digests(library.path)
    with pytest.raises(InputError, match=r"^patches_now is 'some': it is 'all', 'first' or 'none'\.$"):
        mined(model, dataset, tmp_path / "other.crp", patches_now="some")


def test_what_mine_returns_makes_its_patches(model, dataset, library, tmp_path):
    made = mined(model, dataset, tmp_path / "a.crp", k=6, patches=2)
    assert len(made.patches("conv2", 3, "relevance")) == 2
    assert made.patch_counts()[0] == 2
    made.make_patches(every(made))
    assert digests(made.path) == digests(library.path)


def test_a_library_that_cannot_be_written_keeps_patches_in_memory(path, model, dataset, monkeypatch, caplog):
    def refused(*_):
        raise LibraryError("'small.crp' cannot be written: Read-only file system.")

    monkeypatch.setattr(patch_files, "write_segment", refused)
    before, opened = digests(path), supply_patches(open_library(path), model, dataset)
    assert len(opened.patches("conv2", 3, "relevance")) == 2
    assert len(opened.patches("conv2", 4, "relevance")) == 2
    assert digests(path) == before
    assert caplog.messages == [
        "'small.crp' cannot be written: Read-only file system. Patches are kept in memory only."
    ]


def test_a_damaged_segment_is_reported_and_made_again(path, model, dataset, library, caplog):
    supply_patches(open_library(path), model, dataset).patches("conv2", 3, "relevance")
    (file,) = segment_files(path / "layers" / "conv2")
    file.write_bytes(file.read_bytes()[:-1])
    (wrong,) = crp.verify(path).wrong
    assert wrong == (
        f"'layers/conv2/patches/{file.name}' does not hold what was written (its name is its checksum)."
    )
    assert open_library(path).patches("conv2", 3, "relevance") == ()
    assert f"The file '{file}' of finished patches is damaged: they are made again." in caplog.messages
    add_patches(open_library(path), model, dataset, progress=False)
    assert digests(path) == digests(library.path)


def test_a_segment_is_read_from_the_library_only(path, model, dataset, tmp_path):
    supply_patches(open_library(path), model, dataset).patches("conv2", 3, "relevance")
    (file,) = segment_files(path / "layers" / "conv2")
    shutil.move(file, tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    assert open_library(path).patches("conv2", 3, "relevance") == ()


def test_patches_of_a_library_that_was_replaced_are_not_added_to_the_new_one(path, model, dataset, library):
    opened = supply_patches(open_library(path), model, dataset)
    data, labels = dataset.tensors
    mined(model, TensorDataset(data[:-1], labels[:-1]), path, k=6, patches=2, overwrite=True)
    with pytest.raises(LibraryError, match="has been replaced by another library: open it again"):
        opened.patches("conv2", 3, "relevance")
    assert segments(path) == 0


def test_verify_says_that_patches_behind_a_gap_are_not_checked(path, model, dataset):
    opened = supply_patches(open_library(path), model, dataset)
    opened.make_patches({"conv2": [key for key in every(opened)["conv2"] if key[2] == 1][:3]})
    found = crp.verify(path)
    assert any(f"and 0 patches of {len(LAYERS)} layers" in sentence for sentence in found.held)
    assert found.notes[0] == "3 patches were not checked: better ones of the same concept have not been made yet."


def test_verify_and_info_say_how_many_patches_there_are(path, model, dataset):
    total = open_library(path).patch_counts()[1]
    supply_patches(open_library(path), model, dataset).patches("conv2", 3, "relevance")
    opened, found = open_library(path), crp.verify(path)
    assert found.sound
    assert any(f"and 2 patches of {len(LAYERS)} layers" in sentence for sentence in found.held)
    assert found.notes[0] == (
        f"{total - 2} patches have not been made yet: they are made when they are needed, or all at once by "
        f"`crp patches {path}`."
    )
    assert f"(2 of {total} have been made; others are made when they are needed)" in described_in_words(opened)
    rows = {row["name"]: row for row in description(opened)["layers"]}
    assert rows["conv2"]["patches_made"] == 2
    assert rows["conv2"]["bytes"]["patches"] > rows["conv1"]["bytes"]["patches"]


def test_an_explanation_says_which_patches_are_missing(path, model, dataset, library):
    image = dataset.tensors[0][0]
    bare, whole = (crp.explain(model, image, open_library(at)) for at in (path, library.path))
    supplied = crp.explain(model, image, supply_patches(open_library(path), model, dataset))
    for layer, expected, made in zip(bare.layers, whole.layers, supplied.layers, strict=True):
        assert expected.glimpses.keys() == made.glimpses.keys()
        for part, other, filled in zip(layer.ranked, expected.ranked, made.ranked, strict=True):
            shown = other.relevance_patches + other.activation_patches
            assert part.relevance_patches == part.activation_patches == ()
            assert part.patches_missing == len(shown) > 0
            assert other.patches_missing == filled.patches_missing == 0
            again = filled.relevance_patches + filled.activation_patches
            assert [patch.sample for patch in again] == [patch.sample for patch in shown]
    assert bare.layers[0].glimpses == {}
    assert {node.patch is None for node in supplied.graph.nodes if node.layer in LAYERS} == {False}
    np.testing.assert_array_equal(bare.heatmap, supplied.heatmap)
