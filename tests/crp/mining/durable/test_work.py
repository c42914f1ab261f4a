"""The work folder: damaged files, other runs, locks, a full disk, and the state that it leaves in a library."""

import json
import os
import shutil
from pathlib import Path

import pytest

from crp.errors import LibraryError
from crp.library import open_library
from crp.library.locks import Lock
from crp.library.manifest import read_manifest
from tests import processes
from tests.durability.subject import BLOCK, UNREADABLE, digest, mined, work

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    """Work folders after the first of two shards, and after both."""
    path = tmp_path_factory.mktemp("halves") / "a.crp"
    folders = []
    for place in (1, 2):
        mined(path, shard=(place, 2))
        folders.append(shutil.copytree(work(path), path.parent / f"after-{place}"))
    return folders


@pytest.fixture(scope="module")
def half(halves):
    return halves[0]


@pytest.fixture(scope="module")
def twenty(tmp_path_factory):
    """The library of the first 20 samples."""
    return mined(tmp_path_factory.mktemp("twenty") / "a.crp", length=20).path


@pytest.mark.parametrize("cut", [0, 100, -100])
def test_a_truncated_checkpoint_costs_time_only(whole, halves, tmp_path, caplog, cut):
    path = tmp_path / "a.crp"
    shutil.copytree(halves[1], work(path))
    file = work(path) / "parts" / "shard-1-of-2.1.safetensors"
    file.write_bytes(file.read_bytes()[:cut])
    assert digest(mined(path).path) == digest(whole)
    assert caplog.messages[0] == f"The checkpoint '{file}' is damaged: its samples are computed again."


def test_truncated_segments_of_patches_are_made_again(whole, tmp_path, monkeypatch, caplog):
    path = tmp_path / "a.crp"

    def interrupts(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("crp.library.patch_files.PatchFiles.settle", interrupts)
    with pytest.raises(KeyboardInterrupt):
        mined(path)
    monkeypatch.undo()
    file = sorted((work(path) / "library" / "layers" / "3" / "patches").iterdir())[1]
    file.write_bytes(file.read_bytes()[:-1])
    assert digest(mined(path).path) == digest(whole)
    assert f"The file '{file}' of finished patches is damaged: they are made again." in caplog.messages


def test_a_truncated_identity_is_refused_until_restarted(whole, tmp_path):
    path = tmp_path / "a.crp"
    mined(path, shard=(1, 2))
    file = work(path) / "identity.json"
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(LibraryError) as caught:
        mined(path)
    assert str(caught.value).startswith(f"'{file}' is damaged (")
    assert str(caught.value).endswith("): start again (restart=True, --restart), or remove the folder.")
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
def test_a_run_with_other_settings_does_not_resume(half, tmp_path, options, difference):
    path = tmp_path / "a.crp"
    shutil.copytree(half, work(path))
    before = {file: file.stat().st_mtime_ns for file in work(path).rglob("*.safetensors")}
    with pytest.raises(LibraryError) as caught:
        mined(path, **options)
    sentence = str(caught.value)
    assert sentence.startswith(f"'{work(path)}' holds an interrupted run of something else: ")
    assert difference in sentence
    assert sentence.endswith("Choose another path, or start again (restart=True, --restart).")
    assert {file: file.stat().st_mtime_ns for file in work(path).rglob("*.safetensors")} == before


def test_the_stored_number_of_threads_is_used(whole, tmp_path):
    path = tmp_path / "a.crp"
    mined(path, shard=(1, 2))
    assert digest(mined(path, threads=None).path) == digest(whole)
    assert mined(tmp_path / "b.crp", threads=None, patches=0).manifest["settings"]["threads"] == 4


def test_two_processes_do_not_mine_to_one_path(tmp_path):
    path = tmp_path / "a.crp"
    mined(path, shard=(1, 2), patches=0)
    here = f"in '{work(path)}': wait until it ends, or choose another path."
    running = Lock(work(path) / "run.lock", shared=True)  # as a shard holds it
    with pytest.raises(LibraryError) as caught:
        mined(path, patches=0)
    assert str(caught.value) == f"Another process is mining {here}"
    mined(path, shard=(2, 2), patches=0)  # beside the other one
    shard = Lock(work(path) / "shard-2-of-2.lock")
    with pytest.raises(LibraryError) as caught:
        mined(path, shard=(2, 2), patches=0)
    assert str(caught.value) == f"Another process is mining shard 2/2 or the whole data set {here}"
    running.close()
    shard.close()
    assert mined(path, patches=0).layers == ("0", "3")


def test_a_folder_with_other_files_is_not_touched(tmp_path):
    theirs = work(tmp_path / "a.crp") / "parts" / "thesis.tex"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("years")
    with pytest.raises(LibraryError) as caught:
        mined(tmp_path / "a.crp", restart=True)
    assert str(caught.value) == (
        f"'{work(tmp_path / 'a.crp')}' is needed as a work folder, but holds something else: choose another path."
    )
    assert theirs.read_text() == "years"


def test_a_lock_ends_with_its_process_although_its_children_live(tmp_path):
    program = (
        "import os, sys, time; from pathlib import Path; from crp.library.locks import Lock; "
        "lock = Lock(Path(sys.argv[1])); started, start = os.pipe(); child = os.fork(); "
        "(os.read(started, 1), print(child, flush=True)) if child else (os.write(start, b'.'), time.sleep(60)); "
        "os._exit(0)"
    )
    child = int(processes.run(["-c", program, tmp_path / "a.lock"], cwd=ROOT).stdout)
    os.kill(child, 0)  # alive
    Lock(tmp_path / "a.lock").close()
    os.kill(child, 9)


@pytest.mark.parametrize("after", [0, 6, 24, 42])
def test_a_full_disk_loses_no_finished_work(whole, twenty, tmp_path, monkeypatch, after):
    path = tmp_path / "a.crp"
    former = read_manifest(shutil.copytree(twenty, path))
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


def test_a_library_moved_aside_is_restored(whole, tmp_path):
    path = tmp_path / "a.crp"
    former = mined(path, length=20)
    mined(path, shard=(1, 2), overwrite=True)
    before = digest(former.path)
    os.rename(path, work(path) / "replaced")  # as if killed between the two renames
    with pytest.raises(LibraryError, match="exists: choose another path, or overwrite it"):
        mined(path)
    assert digest(path) == before
    os.rename(path, work(path) / "replaced")
    assert digest(mined(path, overwrite=True).path) == digest(whole)


def test_the_state_covers_complete_blocks_and_reads_as_documented(whole):
    from safetensors.numpy import load_file

    state = load_file(whole / "state.safetensors")
    assert state["blocks"].tolist() == [[0, 77 // BLOCK]]
    fact = "could not be read: OSError: the disk has a scratch"
    assert json.loads(state["skipped"].tobytes()) == {str(UNREADABLE): fact}
    assert state["0/sums/count"].sum() == 77 // BLOCK * BLOCK - 1
    assert open_library(whole).statistics("0").count.sum() == 76
