"""What the pages tell a reader to run is run: README.md and docs/*.md.

A page is one story. Its ```python blocks run in order, in one namespace, in one empty folder; a ```bash block whose
first line starts with `crp ` runs in that folder too, command by command, in its place among them. Other bash blocks
(pip, make, git) are run by .ci/run. A block may be left out by a comment on the line above its fence, with the reason:
<!-- not run: needs a GPU -->
"""

import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from crp.library import open_library
from crp.sources.provenance import data_of
from tests import processes

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LANGUAGES = {"python", "bash", "text", "json", "bibtex", "toml"}  # another word would be a block that nobody runs
FENCE = re.compile(r"^(?:<!-- not run: *(?P<reason>.*?) *-->\n)?```(?P<language>.*)\n(?P<text>(?:.*\n)*?)```$", re.M)


@dataclass(frozen=True)
class Block:
    """One fenced block: where it stands (line of its first line of text), its language, its text, why it is not run."""

    line: int
    language: str
    text: str
    reason: str | None


def blocks_of(page: str) -> list[Block]:
    return [
        Block(page.count("\n", 0, match.start("text")) + 1, match["language"], match["text"], match["reason"])
        for match in FENCE.finditer(page)
    ]


def commands_of(text: str) -> list[list[str]]:
    """Arguments of each `crp` command of a bash block; a backslash at the end of a line continues it."""
    lines = text.replace("\\\n", " ").splitlines()
    return [words[1:] for line in lines if (words := shlex.split(line, comments=True))]


def run_command(arguments: Sequence[str], folder: Path | None = None) -> subprocess.CompletedProcess:
    """Run a `crp` command, by default in the current folder."""
    return processes.run(["-m", "crp", *arguments], cwd=folder or Path.cwd())


def demo(arguments: tuple[str, ...]) -> subprocess.CompletedProcess:
    """Run `crp demo`, with which several pages begin, once for all of them; the current folder gets what it made."""
    folder, done = made_by_demo(arguments)
    shutil.copytree(folder.name, Path.cwd(), dirs_exist_ok=True)
    return done


@cache
def made_by_demo(arguments: tuple[str, ...]) -> tuple[tempfile.TemporaryDirectory, subprocess.CompletedProcess]:
    folder = tempfile.TemporaryDirectory()
    return folder, run_command(arguments, Path(folder.name))


def run_page(path: Path, page: str) -> int:
    """Run the blocks of one page in the current folder; returns how many were run."""
    namespace = {"__name__": "__main__"}
    count = 0
    for block in blocks_of(page):
        if block.reason is not None:
            continue
        if block.language == "python":
            # Empty lines before the text make a traceback point into the page.
            exec(compile("\n" * (block.line - 1) + block.text, str(path), "exec"), namespace)
            count += 1
        elif block.language == "bash" and block.text.startswith("crp "):
            for arguments in commands_of(block.text):
                done = demo(tuple(arguments)) if arguments[0] == "demo" else run_command(arguments)
                assert done.returncode == 0, f"{path.name}:{block.line}: crp {shlex.join(arguments)}\n{done.stderr}"
            count += 1
    return count


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_blocks_are_well_formed(path: Path) -> None:
    page = path.read_text(encoding="utf-8")
    blocks = blocks_of(page)
    assert len(re.findall(r"^ *```", page, re.M)) == 2 * len(blocks), "a fence is indented or not closed"
    assert {block.language for block in blocks} <= LANGUAGES
    assert all(block.reason is None or len(block.reason.split()) >= 3 for block in blocks), "say why in a few words"
    assert page.count("<!-- not run") == sum(block.reason is not None for block in blocks)


def runs_something(path: Path) -> bool:
    return any(
        block.reason is None and (block.language == "python" or block.text.startswith("crp "))
        for block in blocks_of(path.read_text(encoding="utf-8"))
    )


# What recipes.md runs is run by test_recipes.py, with what needs other packages.
RUNNING = [path for path in PAGES if runs_something(path) and path.name != "recipes.md"]


@pytest.mark.parametrize("path", RUNNING, ids=lambda path: path.name)
def test_a_page_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_page(path, path.read_text(encoding="utf-8")) > 0


def test_the_demo_of_the_pages_tells_the_story() -> None:
    """The run that README.md begins with; the transformer, and a folder with a tilde, are among the slow tests."""
    folder, done = made_by_demo(("demo", "--out", "demo", "--samples", "200"))
    assert done.returncode == 0, done.stderr
    assert "'octagon'" in done.stdout
    assert re.search(r"Its strongest concept in conv\d is", " ".join(done.stdout.split()))
    made = Path(folder.name) / "demo"
    assert {path.name for path in made.iterdir()} == {"library.crp", "scene.png", "atlas.html", "atlas.png"}
    # the library knows that it was made of 200 scenes, so patches can be made of them later
    assert len(data_of(open_library(made / "library.crp"))) == 200


def test_the_front_page_runs_something() -> None:
    assert runs_something(ROOT / "README.md")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_inside_the_repository_lead_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\((?!https?://|#|mailto:)([^)#\s]+)", path.read_text(encoding="utf-8"))
    assert [target for target in targets if not (path.parent / target).exists()] == []


def section(title: str) -> str:
    """The text of a section of docs/architecture.md."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    return page.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def places_in(table: str) -> list[str]:
    """Paths named in the first column of a table, below the folder in bold above them."""
    places, top = [], ""
    for line in table.splitlines():
        names = re.findall(r"`([^`]+)`", line.split("|")[1]) if line.startswith("| ") else []
        if names and "**" in line.split("|")[1]:
            top = names[0]
        else:
            places += [top + name for name in names]
    return places


def test_the_architecture_names_every_folder_and_every_module_directly_below_the_three() -> None:
    there = []
    for top in ("attribution", "crp", "visualization"):
        there += [path.parent for path in (ROOT / top).glob("*/**/*.py")]
        there += [path for path in (ROOT / top).glob("*.py") if path.stem not in ("__init__", "__main__")]
    names = {path.relative_to(ROOT).as_posix() + ("/" if path.is_dir() else "") for path in there}
    assert sorted(places_in(section("The folders"))) == sorted(names)


def test_places_are_read_below_the_folder_in_bold() -> None:
    rows = ["| place | job |", "| --- | --- |", "| **`a/`** | |", "| `x.py`, `y/` | `z.py` |", "| **`c/`** | |"]
    table = "\n".join([*rows, "| `x.py` | |"])
    assert places_in(table) == ["a/x.py", "a/y/", "c/x.py"]


def test_the_architecture_lists_the_long_files() -> None:
    found = {
        path.relative_to(ROOT).as_posix()
        for folder in ("attribution", "benchmarks", "crp", "tests", "tutorials", "visualization")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".js", ".css") and len(path.read_text(encoding="utf-8").splitlines()) > 400
    }
    assert sorted(re.findall(r"^- `([^`]+)`: .", section("Long files"), re.M)) == sorted(found)


def test_every_page_is_on_the_map() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert [path.name for path in PAGES[1:] if path.name != "index.md" and f"]({path.name})" not in index] == []


# The checks above, seen to fail.

STORY = "# page\n\n```python\nx = 1\n```\ntext\n```bash\npip install nothing\n```\n```python\nassert x == 2\n```\n"


def test_blocks_share_a_namespace_and_a_wrong_one_fails_at_its_line(tmp_path: Path) -> None:
    assert run_page(Path("page.md"), STORY.replace("== 2", "== 1")) == 2
    with pytest.raises(AssertionError) as error:
        run_page(Path("page.md"), STORY)
    assert (Path(error.traceback[-1].path).name, error.traceback[-1].lineno + 1) == ("page.md", 11)


def test_a_block_with_a_reason_is_left_out() -> None:
    excluded = STORY.replace("```python\nassert", "<!-- not run: needs a GPU -->\n```python\nassert")
    assert run_page(Path("page.md"), excluded) == 1
    assert [block.reason for block in blocks_of(excluded)] == [None, None, "needs a GPU"]


def test_commands_are_split_as_a_shell_does() -> None:
    text = 'crp mine model.py:net \\\n  "my data" --layers a,b  # why\n\ncrp info out\n'
    assert commands_of(text) == [["mine", "model.py:net", "my data", "--layers", "a,b"], ["info", "out"]]


def test_a_command_that_fails_fails_the_page() -> None:
    with pytest.raises(AssertionError, match=r"page\.md:2: crp no-such-command"):
        run_page(Path("page.md"), "```bash\ncrp no-such-command\n```\n")
