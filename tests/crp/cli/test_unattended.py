"""`crp mine` and `crp merge` where things go wrong or are shared: what people are told, and that nothing is lost."""

import resource
import shlex
import signal
import time

import pytest
import torch

from crp.library import open_library
from tests import processes
from tests.durability.subject import digest

from .conftest import picture

# The third time that sample 7 is read, after the fingerprint and a look whether it answers the same, takes a minute.
SLOW = """
import time, torch


class Slow:
    times = 0

    def __len__(self):
        return 9

    def __getitem__(self, index):
        self.times += index == 7
        if index == 7 and self.times == 2 and not __import__("os").path.exists("go"):
            open("waiting", "w").close()
            time.sleep(60)
        return torch.full((3, 12, 12), float(index))
"""
MINE = ("mine", "net.py:make", "photos", "--layers", "0,2", "--patches", "1", "--block-size", "2", "--checkpoint", "0")


def test_ctrl_c_says_how_to_go_on(shop):
    (shop.folder / "slow.py").write_text(SLOW)
    words = ["mine", "net.py:make", "slow.py:Slow", "--out", "x.crp", "--block-size", "2", "--checkpoint", "0"]
    process = processes.start(["-m", "crp", *words], cwd=shop.folder)
    while not (shop.folder / "waiting").exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate()
    assert process.returncode == 130
    kept = "Interrupted. Finished work is kept in 'x.crp.partial': the same command resumes from there."
    assert stderr.splitlines()[-1] == kept
    (shop.folder / "go").touch()
    resumed = shop.run(*words)
    assert resumed.exit_code == 0, resumed.output
    assert "Resuming: 6 of 9 samples are done." in resumed.stderr
    assert shop.run(*words[:4], "y.crp", *words[5:]).exit_code == 0
    assert not (shop.folder / "x.crp.partial").exists()
    tables = ("layers/2/references.safetensors", "layers/2/patches.safetensors", "state.safetensors")
    for table in tables:
        assert (shop.folder / "x.crp" / table).read_bytes() == (shop.folder / "y.crp" / table).read_bytes()


def test_a_file_size_limit_is_one_sentence_and_the_former_library_stays(shop):
    before = digest(shop.folder / "mined.crp")
    words = [*MINE, "--out", "mined.crp", "--overwrite"]
    done = processes.run(["-m", "crp", *words], cwd=shop.folder, limits={resource.RLIMIT_FSIZE: 6000})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].startswith("Error: 'mined.crp.partial/")
    assert "cannot be written: File too large." in done.stderr.splitlines()[-1]
    assert digest(shop.folder / "mined.crp") == before
    assert shop.run(*words).exit_code == 0
    assert shop.run(*MINE, "--out", "again.crp").exit_code == 0
    for name in ("mined", "again"):
        assert open_library(shop.folder / f"{name}.crp").manifest["settings"]["block_size"] == 2
    assert digest(shop.folder / "mined.crp") == digest(shop.folder / "again.crp")


def test_shards_are_merged(shop):
    assert shop.run(*MINE, "--out", "whole.crp").exit_code == 0
    for place in (2, 1):
        result = shop.run(*MINE, "--out", "x.crp", "--shard", f"{place}/2")
        assert result.stdout == f"Shard {place}/2 is done. When all are done:  crp merge x.crp\n"
    refused = shop.run("merge", "x.crp")
    assert refused.exit_code == 2
    assert refused.stderr.splitlines()[-1] == (
        f"Error: The folder 'x.crp.partial' names the model '{shop.folder}/net.py:make', which is code that is not run "
        f"without your consent; give --model '{shop.folder}/net.py:make', or --trust if you trust the folder."
    )
    merged = shop.run("merge", "x.crp", "--model", "net.py:make")
    assert merged.exit_code == 0, merged.output
    assert digest(shop.folder / "x.crp") == digest(shop.folder / "whole.crp")
    library, following = merged.stdout.splitlines()
    assert library == "Library: x.crp"
    command, *words = shlex.split(following.removeprefix("Next:"))
    assert (command, *words[:2], *words[3:]) == ("crp", "atlas", "x.crp", "--model", "net.py:make")
    explained = shop.run(*words)
    assert explained.exit_code == 0, explained.output


def test_data_that_is_code_is_named_again(shop):
    (shop.folder / "slow.py").write_text(SLOW)
    (shop.folder / "go").touch()
    words = ("mine", "net.py:make", "slow.py:Slow", "--out", "x.crp", "--shard", "1/1")
    assert shop.run(*words).exit_code == 0
    refused = shop.run("merge", "x.crp", "--model", "net.py:make")
    assert f"names the data '{shop.folder}/slow.py:Slow', which is code" in refused.stderr
    assert shop.run("merge", "x.crp", "--model", "net.py:make", "--data", "slow.py:Slow").exit_code == 0


@pytest.mark.parametrize("share", ["2", "0/2", "3/2", "a/2"])
def test_a_shard_that_is_none(shop, share):
    result = shop.run(*MINE, "--out", "x.crp", "--shard", share)
    assert result.exit_code == 2
    sentence = f"There is no shard {share}: " if share[1:] == "/2" and share[0] != "a" else f"'{share}' is not one of"
    assert sentence in result.stderr
    assert not list(shop.folder.glob("x.crp*"))


def test_bad_samples_are_skipped_when_told(shop):
    (shop.folder / "photos" / "bee" / "1.png").write_bytes(b"\x89PNG")
    words = (*MINE, "--out", "x.crp")
    refused = shop.run(*words)
    assert refused.exit_code == 2
    sentence = refused.stderr.splitlines()[-1]
    assert sentence.startswith("Error: Sample 2 could not be read: 'photos/bee/1.png' is not a picture: ")
    assert shop.run(*words, "--skip-bad").exit_code == 0
    library = open_library(shop.folder / "x.crp")
    assert [entry["sample"] for entry in library.manifest["skipped"]] == [2]
    assert library.manifest["source"]["command"][-1] == "--skip-bad"


def test_a_longer_folder_extends_a_library(shop):
    (shop.folder / "flat").mkdir()
    words = ("mine", "net.py:make", "flat", "--layers", "2", "--block-size", "2")
    for index in range(5):
        picture(index).save(shop.folder / "flat" / f"{index}.png")
    assert shop.run(*words, "--out", "five.crp").exit_code == 0
    for index in range(5, 8):
        picture(index).save(shop.folder / "flat" / f"{index}.png")
    extended = shop.run(*words, "--out", "eight.crp", "--extend", "five.crp")
    assert "Resuming: 4 of 8 samples are done." in extended.stderr
    assert shop.run(*words, "--out", "whole.crp").exit_code == 0
    assert digest(shop.folder / "eight.crp") == digest(shop.folder / "whole.crp")


@pytest.mark.parametrize(
    ("cores", "words", "processes"),
    [(64, (), 16), (64, ("--threads", 8), 8), (7, (), None), (64, ("--shard", "1/2"), None)],
)
def test_idle_cores_are_pointed_out(shop, monkeypatch, cores, words, processes):
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    monkeypatch.setattr("crp.sources.fitting.pick_device", lambda name, place: torch.device("cpu"))
    told = shop.run(*MINE, "--out", "x.crp", *words).stderr
    if processes is None:
        assert "torchrun" not in told
    else:
        assert f" of 64 cores; `torchrun --nproc-per-node {processes} -m crp mine ...` uses all of them" in told
