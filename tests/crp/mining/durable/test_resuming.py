"""A run that ends anywhere goes on to the same bytes; so do shards and processes that share one."""

import json
import logging
import os
import random
from pathlib import Path

import pytest
import torch
from torch import nn

from crp.errors import InputError, LibraryError, SampleError
from crp.library import open_library
from crp.library.manifest import read_manifest
from crp.mining import add_patches, merge
from crp.mining.durable.locks import Lock
from crp.mining.patch_maker import PatchMaker
from tests import processes
from tests.durability import subject
from tests.durability.sharing import ranks, split_run, torchrun
from tests.durability.subject import BLOCK, UNREADABLE, Samples, digest, mined, net

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The library of a run that was left alone."""
    return mined(tmp_path_factory.mktemp("whole") / "a.crp", checkpoint=60).path


def work(path: Path) -> Path:
    return path.with_name(f"{path.name}.partial")


class Interrupting(Samples):
    """Interrupts when sample `at` is read for the `time`-th time."""

    def __init__(self, at: int, time: int = 1):
        super().__init__()
        self.at, self.left, self.read = at, time, []

    def __getitem__(self, index):
        self.read.append(index)
        self.left -= index == self.at
        if index == self.at and self.left == 0:
            raise KeyboardInterrupt
        return super().__getitem__(index)


def interrupted(path: Path, at: int, monkeypatch, **options) -> tuple[KeyboardInterrupt, Interrupting]:
    """Mine until sample `at` is read, after the few that are read for the fingerprint."""
    once = sum(index == at for index in [*subject_indices(), *subject_indices()[:4]])
    samples = Interrupting(at, once + 1)
    monkeypatch.setattr(subject, "Samples", lambda length: samples)
    with pytest.raises(KeyboardInterrupt) as caught:
        mined(path, **options)
    monkeypatch.undo()
    return caught.value, samples


def subject_indices() -> list[int]:
    from crp.library.fingerprints import sampled_indices

    return sampled_indices(77)


def was_passed_from(first: int, read: list[int]) -> bool:
    """Whether the pass over the data began at a sample: fingerprints and patches ask for no run as long as this."""
    runs = [list(range(begin, 77)) for begin in (first, first - 1)]
    there = [any(read[place : place + len(run)] == run for place in range(len(read))) for run in runs]
    return there == [True, False]


@pytest.mark.parametrize("at", [3, 40, 67])
def test_an_interrupted_pass_goes_on_to_the_same_bytes(whole, tmp_path, monkeypatch, caplog, at):
    path = tmp_path / "a.crp"
    error, _ = interrupted(path, at, monkeypatch)
    assert not path.exists()
    if at < BLOCK:
        assert not hasattr(error, "__notes__")
        assert list(tmp_path.iterdir()) == []
    else:
        assert error.__notes__ == [f"What was done is kept in '{work(path)}': the same command goes on from there."]
    samples = Interrupting(-1)
    monkeypatch.setattr(subject, "Samples", lambda length: samples)
    with caplog.at_level(logging.INFO, logger="crp.mining"):
        assert digest(mined(path).path) == digest(whole)
    assert [file.name for file in tmp_path.iterdir()] == ["a.crp"]
    done = at // BLOCK * BLOCK
    if done:
        assert f"Resuming: {done} of 77 samples are done." in caplog.messages
        assert was_passed_from(done, samples.read)


def test_interrupted_patches_go_on_to_the_same_bytes(whole, tmp_path, monkeypatch):
    path, made = tmp_path / "a.crp", []
    of_group = PatchMaker.of_group

    def failing(self, group):
        if len(made) == 4:
            raise KeyboardInterrupt
        made.append(group)
        return of_group(self, group)

    monkeypatch.setattr(PatchMaker, "of_group", failing)
    with pytest.raises(KeyboardInterrupt) as caught:
        mined(path)
    assert "the same command goes on" in caught.value.__notes__[0]
    first = list(made)

    def counting(self, group):
        made.append(group)
        return of_group(self, group)

    monkeypatch.setattr(PatchMaker, "of_group", counting)
    assert digest(mined(path).path) == digest(whole)
    again = [group for group in made[len(first) :] if group in first]
    assert again == []
    assert len(made) > len(first)


def test_killed_at_random_moments():
    done = processes.run(["-m", "tests.durability.kills", "--runs", "2"], cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "2 of 2 libraries equal the one of a run that was left alone" in done.stdout


@pytest.mark.slow
def test_killed_at_random_moments_a_hundred_times():
    done = processes.run(["-m", "tests.durability.kills", "--runs", "100", "--seed", "1"], cwd=ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 20))])
def test_shards_in_any_order_make_the_same_bytes(whole, tmp_path, seed):
    path, _ = split_run(tmp_path, random.Random(seed))
    assert digest(path) == digest(whole)
    assert not work(path).exists()


@pytest.mark.parametrize(
    ("started", "count"),
    [(ranks, 2), *(pytest.param(torchrun, count, marks=pytest.mark.slow) for count in (1, 2, 3))],
)
def test_processes_that_share_a_run_make_the_same_bytes(whole, tmp_path, started, count):
    started(tmp_path / "a.crp", count)
    assert digest(tmp_path / "a.crp") == digest(whole)
    assert not work(tmp_path / "a.crp").exists()


def test_one_process_goes_on_from_what_others_left(whole, tmp_path):
    path = tmp_path / "a.crp"
    assert mined(path, shard=(2, 3)) is None
    # half of another split: its parts overlap the first one's, which are dropped or used, never both
    mined(path, shard=(1, 2))
    assert digest(mined(path).path) == digest(whole)


def test_overlapping_checkpoints_are_not_counted_twice(whole, tmp_path):
    path = tmp_path / "a.crp"
    mined(path, shard=(1, 2))
    (first,) = (work(path) / "parts").glob("*.safetensors")
    former = first.read_bytes()
    mined(path, shard=(2, 2))
    # killed after a part that holds the first one was written, before the first one was removed
    first.with_name("rank-3.1.safetensors").write_bytes(former)
    assert digest(mined(path).path) == digest(whole)


@pytest.mark.parametrize("cut", [0, 100, -100])
def test_a_cut_checkpoint_costs_time_only(whole, tmp_path, caplog, cut):
    path = tmp_path / "a.crp"
    for place in (1, 2):
        mined(path, shard=(place, 2))
    file = work(path) / "parts" / "shard-1-of-2.1.safetensors"
    file.write_bytes(file.read_bytes()[:cut])
    assert digest(mined(path).path) == digest(whole)
    assert caplog.messages[0] == f"The checkpoint '{file}' is damaged: its samples are computed again."


def test_cut_segments_of_patches_are_made_again(whole, tmp_path, monkeypatch, caplog):
    path = tmp_path / "a.crp"

    def interrupts(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("crp.mining.durable.stages.write_patches", interrupts)
    with pytest.raises(KeyboardInterrupt):
        mined(path)
    monkeypatch.undo()
    file = work(path) / "segments" / "rank-0.3.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    assert digest(mined(path).path) == digest(whole)
    assert f"The file '{file}' of finished patches is damaged: they are made again." in caplog.messages


def test_a_cut_identity_is_refused_until_restarted(whole, tmp_path):
    path = tmp_path / "a.crp"
    mined(path, shard=(1, 2))
    file = work(path) / "identity.json"
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(LibraryError) as caught:
        mined(path)
    assert str(caught.value).startswith(f"'{file}' is damaged (")
    assert str(caught.value).endswith("): start anew (restart=True, --restart), or remove the folder.")
    assert digest(mined(path, restart=True).path) == digest(whole)


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        ({"k": 6}, "its settings.k is 5, and now it is 6"),
        ({"block_size": 16}, "its settings.block_size is 8, and now it is 16"),
        ({"threads": 1}, "its settings.threads is 2, and now it is 1"),
        ({"length": 76}, "its data.fingerprint is '"),
        ({"targets": "prediction"}, "its settings.targets is 'label', and now it is 'prediction'"),
        ({"patch_concepts": {"0": [1]}}, "its patch_concepts.0 is None, and now it is [1]"),
    ],
)
def test_another_run_does_not_go_on_from_it(tmp_path, options, difference):
    path = tmp_path / "a.crp"
    mined(path, shard=(1, 2))
    before = {file: file.stat().st_mtime_ns for file in work(path).rglob("*.safetensors")}
    with pytest.raises(LibraryError) as caught:
        mined(path, **options)
    sentence = str(caught.value)
    assert sentence.startswith(f"'{work(path)}' holds an interrupted run of something else: ")
    assert difference in sentence
    assert sentence.endswith("Choose another path, or start anew (restart=True, --restart).")
    assert {file: file.stat().st_mtime_ns for file in work(path).rglob("*.safetensors")} == before


def test_the_stored_number_of_threads_rules(whole, tmp_path):
    path = tmp_path / "a.crp"
    mined(path, shard=(1, 2))
    assert digest(mined(path, threads=None).path) == digest(whole)
    assert mined(tmp_path / "b.crp", threads=None).manifest["settings"]["threads"] == 4


def test_two_processes_do_not_mine_to_one_path(tmp_path):
    path = tmp_path / "a.crp"
    mined(path, shard=(1, 2))
    here = f"in '{work(path)}': wait for it to end, or choose another path."
    running = Lock(work(path) / "run.lock", shared=True)  # as a shard has it
    with pytest.raises(LibraryError) as caught:
        mined(path)
    assert str(caught.value) == f"Another process is mining it {here}"
    mined(path, shard=(2, 2))  # beside the other one
    shard = Lock(work(path) / "shard-2-of-2.lock")
    with pytest.raises(LibraryError) as caught:
        mined(path, shard=(2, 2))
    assert str(caught.value) == f"Another process is mining shard 2/2, or all of it, {here}"
    running.close()
    shard.close()
    assert mined(path).layers == ("0", "3")


def test_a_folder_of_somebody_else_is_left_alone(tmp_path):
    theirs = work(tmp_path / "a.crp") / "parts" / "thesis.tex"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("years")
    with pytest.raises(LibraryError) as caught:
        mined(tmp_path / "a.crp", restart=True)
    assert str(caught.value) == (
        f"'{work(tmp_path / 'a.crp')}' is needed for work, and holds something else: choose another path."
    )
    assert theirs.read_text() == "years"


def test_a_lock_ends_with_its_process_although_its_children_live(tmp_path):
    program = (
        "import os, sys, time; from pathlib import Path; from crp.mining.durable.locks import Lock; "
        "lock = Lock(Path(sys.argv[1])); child = os.fork(); "
        "print(child, flush=True) if child else time.sleep(60); os._exit(0)"
    )
    child = int(processes.run(["-c", program, tmp_path / "a.lock"], cwd=ROOT).stdout)
    os.kill(child, 0)  # alive
    Lock(tmp_path / "a.lock").close()
    os.kill(child, 9)


@pytest.mark.parametrize("after", [0, 6, 24, 42])
def test_a_full_disk_costs_nothing_that_was_done(whole, tmp_path, monkeypatch, after):
    path = tmp_path / "a.crp"
    former = mined(path, length=20).manifest
    written, fsync = [], os.fsync

    def full(file):
        if len(written) >= after:
            raise OSError(28, "No space left on device")
        written.append(file)
        fsync(file)

    monkeypatch.setattr("crp.files.sync_folder", lambda folder: None)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LibraryError) as caught:
        mined(path, overwrite=True)
    monkeypatch.undo()
    assert str(caught.value).endswith("cannot be written: No space left on device.")
    assert read_manifest(path) == former
    assert work(path).exists() == hasattr(caught.value, "__notes__") == (after > 0)
    assert digest(mined(path, overwrite=True).path) == digest(whole)


def test_a_library_put_aside_comes_back(whole, tmp_path):
    path = tmp_path / "a.crp"
    former = mined(path, length=20)
    mined(path, shard=(1, 2), overwrite=True)
    before = digest(former.path)
    os.rename(path, work(path) / "replaced")  # killed between the two renames
    with pytest.raises(LibraryError, match="exists: choose another path, or overwrite it"):
        mined(path)
    assert digest(path) == before
    os.rename(path, work(path) / "replaced")
    assert digest(mined(path, overwrite=True).path) == digest(whole)


class TestMerging:
    def test_says_which_samples_are_missing(self, tmp_path):
        path = tmp_path / "a.crp"
        mined(path, shard=(1, 3))
        with pytest.raises(LibraryError) as caught:
            merge(net(), Samples(), path=path, skip_bad=True)
        assert str(caught.value) == (
            "Samples 24 to 71 have not been mined yet: run the shard that is missing, or the whole command without "
            "--shard, which mines what is missing itself."
        )

    def test_needs_something(self, tmp_path):
        with pytest.raises(LibraryError) as caught:
            merge(net(), Samples(), path=tmp_path / "a.crp")
        folder = work(tmp_path / "a.crp")
        assert str(caught.value) == f"There is nothing to merge: '{folder}' is no folder that `crp mine` left."
        assert list(tmp_path.iterdir()) == []

    def test_refuses_what_does_not_belong_together(self, tmp_path):
        mined(tmp_path / "a.crp", shard=(1, 2))
        mined(tmp_path / "b.crp", shard=(2, 2), top=3)
        other = work(tmp_path / "b.crp")
        with pytest.raises(LibraryError) as caught:
            merge(net(), Samples(), path=tmp_path / "a.crp", others=[other])
        assert str(caught.value) == (
            f"'{other}' does not belong to what is merged: its settings.top is 10, and now it is 3."
        )

    def test_takes_settings_from_the_shards_and_the_function_from_the_caller(self, tmp_path):
        def second(prediction, labels):
            return prediction.argsort(1)[:, 1]

        told = {"targets": second, "relevance_score": "max", "class_names": ["a", "b", "c"], "precision": "bfloat16"}
        expected = digest(mined(tmp_path / "a.crp", **told).path)
        mined(tmp_path / "b.crp", shard=(1, 1), **told)
        again = {"path": tmp_path / "b.crp", "skip_bad": True, "progress": False}
        with pytest.raises(InputError, match=r"gives: pass that function as targets\.$"):
            merge(net(), Samples(), **again)
        assert digest(merge(net(), Samples(), targets=second, **again).path) == expected

    @pytest.mark.parametrize("shard", [(0, 3), (4, 3)])
    def test_shards_out_of_range(self, tmp_path, shard):
        sentence = f"There is no shard {shard[0]}/3: the shards of 3 are 1/3 to 3/3."
        with pytest.raises(InputError) as caught:
            mined(tmp_path / "a.crp", shard=shard)
        assert str(caught.value) == sentence


class TestExtending:
    @pytest.mark.parametrize("steps", [(40, 77), (48, 77), (5, 6, 30, 77), (77, 77)])
    def test_equals_mining_all_at_once(self, whole, tmp_path, steps):
        former = None
        for number, length in enumerate(steps):
            former = mined(tmp_path / f"{number}.crp", length=length, extend=former).path
        assert digest(former) == digest(whole)

    def test_does_not_read_again_what_the_library_knows(self, tmp_path, monkeypatch):
        mined(tmp_path / "a.crp", length=44)  # five full blocks
        samples = Interrupting(-1)
        monkeypatch.setattr(subject, "Samples", lambda length: samples)
        mined(tmp_path / "b.crp", extend=tmp_path / "a.crp", patches=2)
        assert was_passed_from(40, samples.read)

    def test_is_resumed_and_shared(self, whole, tmp_path):
        mined(tmp_path / "a.crp", length=40)
        path, extend = tmp_path / "b.crp", tmp_path / "a.crp"
        mined(path, shard=(2, 2), extend=extend)
        mined(path, shard=(1, 2), extend=extend)
        skip = {"skip_bad": True, "checkpoint": 0, "progress": False}
        assert digest(merge(net(), Samples(), path=path, **skip).path) == digest(whole)

    @pytest.mark.parametrize(
        ("options", "end"),
        [
            ({"k": 6}, "cannot be extended to this data set: its settings.k is 5, and now it is 6."),
            ({"layers": ["0"]}, "cannot be extended to this data set: its layers is "),
            ({"length": 30}, "cannot be extended to this data set: it was mined from 40 samples, and there are 30."),
        ],
    )
    def test_refuses_what_does_not_fit(self, tmp_path, options, end):
        mined(tmp_path / "a.crp", length=40)
        with pytest.raises(LibraryError) as caught:
            mined(tmp_path / "b.crp", extend=tmp_path / "a.crp", **options)
        assert f"The library '{tmp_path / 'a.crp'}' {end}" in str(caught.value)
        assert not work(tmp_path / "b.crp").exists()

    def test_refuses_other_samples_and_libraries_without_a_state(self, tmp_path, monkeypatch):
        mined(tmp_path / "a.crp", length=40)
        other = Samples()
        other.data[7] += 1
        monkeypatch.setattr(subject, "Samples", lambda length: other)
        with pytest.raises(LibraryError, match="its first 40 samples are not those that were mined"):
            mined(tmp_path / "b.crp", extend=tmp_path / "a.crp")
        (tmp_path / "a.crp" / "state.safetensors").unlink()
        with pytest.raises(LibraryError, match=r"cannot be extended: it holds no state\.safetensors\.$"):
            mined(tmp_path / "b.crp", extend=tmp_path / "a.crp")


class Spoilt(Samples):
    """Some samples cannot be read, or are not finite."""

    def __init__(self, unreadable=(), not_finite=(), far_label=()):
        super().__init__()
        self.unreadable, self.not_finite = unreadable, not_finite
        for index in far_label:
            self.labels[index] = 9

    def sample_name(self, index):
        return f"{index}.png"

    def __getitem__(self, index):
        if index in self.unreadable:
            raise OSError("gone")
        return self.data[index] * (torch.nan if index in self.not_finite else 1), int(self.labels[index])


class Overflowing(nn.Module):
    """Its output is infinite where the first value of a sample is above a hundred."""

    def __init__(self):
        super().__init__()
        self.net = net()

    def forward(self, data):
        return self.net(data) + torch.where(data[:, :1, 0, 0] > 100, torch.inf, 0.0)


class TestSkipping:
    def mined(self, path, samples, monkeypatch, model=None, **options):
        monkeypatch.setattr(subject, "Samples", lambda length: samples)
        if model is not None:
            monkeypatch.setattr(subject, "net", lambda: model)
        return mined(path, **options)

    @pytest.mark.parametrize("bad", [(21,), (0, 1), (8, 9, 10, 11, 12, 13, 14, 15), (3, 76), (72, 73, 74, 75, 76)])
    def test_leaves_the_bits_of_all_others(self, tmp_path, monkeypatch, bad):
        whole = self.mined(tmp_path / "a.crp", Spoilt(), monkeypatch, k=77)
        skipped = self.mined(tmp_path / "b.crp", Spoilt(unreadable=bad), monkeypatch, k=77)
        for layer in whole.layers:
            for mode in ("relevance", "activation"):
                ours, theirs = skipped.references(layer, mode), whole.references(layer, mode)
                for concept in range(len(ours.sample)):
                    kept = ~torch.isin(torch.tensor(theirs.sample[concept]), torch.tensor(bad)).numpy()
                    count = 77 - len(bad)
                    assert ours.sample[concept, :count].tolist() == theirs.sample[concept, kept].tolist()
                    assert ours.score[concept, :count].tolist() == theirs.score[concept, kept].tolist()
                    assert (ours.sample[concept, count:] == -1).all()
            assert skipped.statistics(layer).count.sum() == 77 - len(bad)
        assert skipped.manifest["skipped"] == [
            {"sample": index, "name": f"{index}.png", "fact": "could not be read: OSError: gone"} for index in bad
        ]

    def test_what_the_model_fails_on(self, tmp_path, monkeypatch, caplog):
        samples = Spoilt(not_finite=(30,), far_label=(31,))
        samples.data[[32, 50], 0, 0, 0] = 1000
        library = self.mined(tmp_path / "a.crp", samples, monkeypatch, Overflowing(), layers=["net.0"])
        output = "cannot be explained: The model's output is not finite (NaN or infinite) for this input."
        assert {entry["sample"]: entry["fact"] for entry in library.manifest["skipped"]} == {
            30: "holds NaN or infinite values.",
            31: "has label 9, but the model has the classes 0 to 2.",
            32: output,
            50: output,
        }
        assert library.statistics("net.0").count.sum() == 73
        assert caplog.messages[-1] == "4 of 77 samples were skipped; the library lists them."

    @pytest.mark.parametrize(
        ("samples", "sentence"),
        [
            (Spoilt(unreadable=(30,)), "Sample 30 ('30.png') could not be read: OSError: gone"),
            (Spoilt(not_finite=(30,)), "Sample 30 ('30.png') holds NaN or infinite values."),
            (Spoilt(far_label=(31,)), "Sample 31 ('31.png') has label 9, but the model has the classes 0 to 2."),
        ],
    )
    @pytest.mark.parametrize("workers", [0, 1])
    def test_without_it_one_sentence_names_the_sample(self, tmp_path, monkeypatch, samples, sentence, workers):
        with pytest.raises(SampleError) as caught:
            self.mined(tmp_path / "a.crp", samples, monkeypatch, skip_bad=False, workers=workers)
        assert str(caught.value) == sentence

    def test_the_sample_whose_output_is_not_finite_is_named(self, tmp_path, monkeypatch):
        samples = Spoilt()
        samples.data[45, 0, 0, 0] = 1000
        with pytest.raises(SampleError) as caught:
            self.mined(tmp_path / "a.crp", samples, monkeypatch, Overflowing(), layers=["net.0"], skip_bad=False)
        assert str(caught.value) == (
            "Sample 45 ('45.png') cannot be explained: The model's output is not finite (NaN or infinite) for this "
            "input."
        )
        assert "the same command goes on from there" in caught.value.__notes__[0]

    @pytest.mark.parametrize("labels", [(), (0, 21)])
    def test_patches_are_added_to_such_a_library_too(self, tmp_path, monkeypatch, labels):
        samples = Spoilt(unreadable=(21, 30))
        without_labels = [(samples.data[index], None) for index in labels]
        read = Spoilt.__getitem__
        monkeypatch.setattr(
            Spoilt,
            "__getitem__",
            lambda self, index: without_labels[labels.index(index)] if index in labels else read(self, index),
        )
        whole = self.mined(tmp_path / "a.crp", samples, monkeypatch)
        some = self.mined(tmp_path / "b.crp", samples, monkeypatch, patch_concepts={})
        for layer in ("3", "0"):
            concepts = range(some.shape(layer)[0])
            add_patches(some, net(), samples, layer, concepts, progress=False)
        assert [entry["sample"] for entry in whole.manifest["skipped"]] == sorted({21, 30, *labels})
        assert digest(some.path) == digest(whole.path)

    def test_all_of_them_is_an_error(self, tmp_path, monkeypatch):
        with pytest.raises(SampleError, match=r"^Sample 0 \('0\.png'\) could not be read: OSError: gone$"):
            self.mined(tmp_path / "a.crp", Spoilt(unreadable=range(77)), monkeypatch)


def test_the_state_is_over_full_blocks_and_reads_as_documented(whole):
    from safetensors.numpy import load_file

    state = load_file(whole / "state.safetensors")
    assert state["blocks"].tolist() == [[0, 77 // BLOCK]]
    fact = "could not be read: OSError: the disk has a scratch"
    assert json.loads(state["skipped"].tobytes()) == {str(UNREADABLE): fact}
    assert state["0/sums/count"].sum() == 77 // BLOCK * BLOCK - 1
    assert open_library(whole).statistics("0").count.sum() == 76
