from pathlib import Path

import pytest

from crp.errors import LibraryError
from crp.library.building import new_library


def build(path: Path, content: str, *, overwrite: bool = False, error: BaseException | None = None) -> None:
    with new_library(path, overwrite=overwrite) as folder:
        assert folder != path
        (folder / "manifest.json").write_text(content)
        if error:
            raise error


def test_the_folder_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "above" / "a.crp"
    build(path, "one")
    assert (path / "manifest.json").read_text() == "one"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError(), KeyboardInterrupt(), SystemExit()])
def test_nothing_changes_on_errors(tmp_path, error):
    path = tmp_path / "a.crp"
    with pytest.raises(type(error)):
        build(path, "one", error=error)
    assert list(tmp_path.iterdir()) == []
    build(path, "one")
    with pytest.raises(type(error)):
        build(path, "two", overwrite=True, error=error)
    assert (path / "manifest.json").read_text() == "one"
    assert list(tmp_path.iterdir()) == [path]


def test_only_libraries_are_overwritten(tmp_path):
    path = tmp_path / "a.crp"
    build(path, "one")
    with pytest.raises(LibraryError, match="exists: choose another path, or overwrite it"):
        build(path, "two")
    build(path, "two", overwrite=True)
    assert (path / "manifest.json").read_text() == "two"
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.tex").write_text("years")
    file = tmp_path / "file"
    file.write_text("text")
    for taken in (home, file):
        with pytest.raises(LibraryError) as caught:
            build(taken, "three", overwrite=True)
        assert str(caught.value) == (
            f"'{taken}' exists and is not a library: choose another path, or remove it yourself."
        )
    assert (home / "thesis.tex").read_text() == "years"


def test_a_folder_that_refuses(tmp_path, monkeypatch):
    def refusing(self, *args, **options):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refusing)
    with pytest.raises(LibraryError) as caught:
        build(tmp_path / "a.crp", "one")
    assert str(caught.value) == (
        f"No library can be written to '{tmp_path / 'a.crp'}': Permission denied ('{tmp_path}')."
    )


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "file").write_text("text")
    with pytest.raises(LibraryError, match="No library can be written to"):
        build(tmp_path / "file" / "a.crp", "one")
