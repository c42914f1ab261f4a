import os
import stat
from pathlib import Path

import pytest

from crp.errors import InputError, LibraryError
from crp.files import user_path, write_file

CONTENTS = {"bytes": b"new", "pieces": [b"n", memoryview(b"ew")], "function": lambda file: file.write(b"new")}


def names(folder: Path) -> list[tuple[str, bytes]]:
    return [(file.name, file.read_bytes()) for file in folder.iterdir()]


@pytest.mark.parametrize("content", CONTENTS)
def test_a_file_holds_its_new_content_and_nothing_lies_beside_it(tmp_path, content):
    file = tmp_path / ("a" * 250)  # no room for a longer name
    file.write_bytes(b"older content")
    write_file(file, CONTENTS[content])
    assert names(tmp_path) == [("a" * 250, b"new")]


def test_a_name_that_no_file_can_have_is_refused():
    assert user_path("é" * 127 + "a") == Path("é" * 127 + "a")
    with pytest.raises(InputError, match=r"^The name 'é.*é' is too long for a file: at most 255 bytes are allowed\.$"):
        user_path(Path("folder") / ("é" * 128))


@pytest.mark.parametrize("refusal", [LibraryError, InputError])
def test_a_full_disk_leaves_the_former_file(tmp_path, monkeypatch, refusal):
    write_file(tmp_path / "a", b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(refusal) as caught:
        write_file(tmp_path / "a", b"new", refusal=refusal)
    assert str(caught.value) == f"'{tmp_path / 'a'}' cannot be written: No space left on device."
    assert names(tmp_path) == [("a", b"old")]
    write_file(tmp_path / "a", b"new", durable=False)  # does not wait for the disk
    assert names(tmp_path) == [("a", b"new")]


def test_a_file_is_on_the_disk_before_it_has_its_name_and_then_the_name_is(tmp_path, monkeypatch):
    done, replace = [], os.replace

    def sync(descriptor):
        done.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else os.fstat(descriptor).st_size)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", lambda *paths: (done.append("renamed"), replace(*paths)))
    write_file(tmp_path / "a", b"new", durable=False)
    assert done == ["renamed"]
    done.clear()
    write_file(tmp_path / "a", b"newer")
    assert done == [5, "renamed", "folder"]


def test_an_error_of_the_writing_function_leaves_the_former_file(tmp_path):
    write_file(tmp_path / "a", b"old")

    def half(file):
        file.write(b"ne")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_file(tmp_path / "a", half)
    assert names(tmp_path) == [("a", b"old")]


def test_a_tilde_is_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/a.crp") == user_path(Path("~/a.crp")) == tmp_path / "a.crp"
    assert user_path("~") == tmp_path
    assert user_path("a~b/~c") == Path("a~b/~c")
    assert user_path("~no-such-user/a") == Path("~no-such-user/a")
