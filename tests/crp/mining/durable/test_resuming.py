"""An interrupted run resumes to the same bytes, and so do shards and processes that share a run."""

import logging
import random
from pathlib import Path

import pytest

from crp.errors import LibraryError
from crp.library.fingerprints import sampled_indices
from crp.mining.patch_maker import PatchMaker
from tests import processes
from tests.durability import subject
from tests.durability.sharing import ranks, split_run, torchrun
from tests.durability.subject import BLOCK, Interrupting, digest, mined, was_passed_from, work

ROOT = Path(__file__).resolve().parents[4]


def interrupted(path: Path, at: int, monkeypatch, **options) -> tuple[KeyboardInterrupt, Interrupting]:
    """Mine until sample `at` is read in the pass, after the reads for the fingerprint."""
    once = sum(index == at for index in [*sampled_indices(77), *sampled_indices(77)[:4]])
    samples = Interrupting(at, once + 1)
    monkeypatch.setattr(subject, "Samples", lambda length: samples)
    with pytest.raises(KeyboardInterrupt) as caught:
        mined(path, **options)
    monkeypatch.undo()
    return caught.value, samples


@pytest.mark.parametrize("at", [3, 40, 67])
def test_an_interrupted_pass_resumes_to_the_same_bytes(whole, tmp_path, monkeypatch, caplog, at):
    path = tmp_path / "a.crp"
    error, _ = interrupted(path, at, monkeypatch)
    assert not path.exists()
    if at < BLOCK:
        assert not hasattr(error, "__notes__")
        assert list(tmp_path.iterdir()) == []
    else:
        assert error.__notes__ == [f"Finished work is kept in '{work(path)}': the same command resumes from there."]
    samples = Interrupting(-1)
    monkeypatch.setattr(subject, "Samples", lambda length: samples)
    with caplog.at_level(logging.INFO, logger="crp.mining"):
        assert digest(mined(path).path) == digest(whole)
    assert [file.name for file in tmp_path.iterdir()] == ["a.crp"]
    done = at // BLOCK * BLOCK
    if done:
        assert f"Resuming: {done} of 77 samples are done." in caplog.messages
        assert was_passed_from(done, samples.read)


def test_other_labels_are_another_run(tmp_path, monkeypatch):
    """As when labels were wrong, and mining was stopped to mend them: half of the old statistics would be kept."""
    path, mended = tmp_path / "a.crp", subject.Samples()
    interrupted(path, 40, monkeypatch, patches=0)
    mended.labels = (mended.labels + 1) % 3
    monkeypatch.setattr(subject, "Samples", lambda length: mended)
    with pytest.raises(LibraryError, match="run of something else: it was mined with other labels"):
        mined(path, patches=0)
    counts = mined(path, restart=True, patches=0).statistics("0").count
    usable = [index for index in range(77) if index != subject.UNREADABLE]
    assert counts.tolist() == mended.labels[usable].bincount(minlength=3).tolist()
    by_prediction = mined(tmp_path / "b.crp", targets="prediction", patches=0)  # which labels do not concern
    assert "labels" not in by_prediction.manifest["data"]


def test_interrupted_patches_resume_to_the_same_bytes(whole, tmp_path, monkeypatch):
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
    assert "the same command resumes" in caught.value.__notes__[0]
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
    # two or three kills; with a shorter life there are up to thirty on a busy machine
    done = processes.run(["-m", "tests.durability.kills", "--runs", "1", "--longest", "0.8"], cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "1 of 1 libraries equal the library of an undisturbed run" in done.stdout


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


def test_one_process_resumes_the_work_of_others(whole, tmp_path):
    path = tmp_path / "a.crp"
    assert mined(path, shard=(2, 3)) is None
    # half of another split, whose part overlaps the first one: only one of them is used
    mined(path, shard=(1, 2))
    assert digest(mined(path).path) == digest(whole)


def test_overlapping_checkpoints_are_not_counted_twice(whole, tmp_path):
    path = tmp_path / "a.crp"
    mined(path, shard=(1, 2))
    (first,) = (work(path) / "parts").glob("*.safetensors")
    former = first.read_bytes()
    mined(path, shard=(2, 2))
    # as if killed after writing a part that includes the first one, before removing the first one
    first.with_name("rank-3.1.safetensors").write_bytes(former)
    assert digest(mined(path).path) == digest(whole)
