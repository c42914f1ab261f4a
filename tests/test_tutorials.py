"""The tutorials run: the notebooks at a small setting, and the script people copy. Their pages show what they are.

A notebook is made smaller by replacing text in its cells; text that is not there is an error, so that the small setting
cannot silently become the large one.
"""

import re
import runpy
from collections.abc import Iterator, Mapping
from pathlib import Path

import nbformat
import pytest
from jupyter_client import AsyncKernelManager
from PIL import Image

from crp.library import open_library
from tutorials.render import FOLDER, PAGES, executed, kernel, page_of, reduced

SMALLER = {
    "conditional_attribution": {},
    "from_data_to_atlas": {
        'Scenes("train", 1000)': 'Scenes("train", 100)',
        'Scenes("test", 500)': 'Scenes("test", 50)',
        'Scenes("test", 200, tag="always")': 'Scenes("test", 60, tag="always")',
    },
    "removing_a_clever_hans": {
        "TRAINING, TEST = 250, 50": "TRAINING, TEST = 20, 5",
        "epochs=14": "epochs=2",
        # what has learnt so little may have the concept in all samples, and then it cannot be exchanged
        'refit(before, fitting, "conv4", suspect.concept, from_layer="conv4"': 'reactive(before, fitting, "conv4", 0',
    },
    "how_do_i_know_that_this_is_true": {},
    "whale_like_calls": {
        'Recordings("train", 600), Recordings("test", 300)': 'Recordings("train", 60), Recordings("test", 30)',
        "epochs=8": "epochs=1",
        'OtherShips("test", 300)': 'OtherShips("test", 30)',
        "share[concept] > 0.02": "share[concept] > -1",
    },
    "make_atlas": {'Scenes("train", 1000)': 'Scenes("train", 60)', '["conv4", "conv5"]': '["conv5"]'},
}
# What a network of so little training does says nothing, and depends on the processor. This one has learnt.
TRAINED = {"TRAINING, TEST = 250, 50": "TRAINING, TEST = 120, 15"}
NOTEBOOKS = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
LARGEST_PICTURE = 150_000  # bytes


def smaller(text: str, replacements: Mapping[str, str]) -> str:
    for old, new in replacements.items():
        assert old in text, f"{old!r} is to be replaced, and is not there"
        text = text.replace(old, new)
    return text


def stored(name: str) -> nbformat.NotebookNode:
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def printed(notebook: nbformat.NotebookNode, cell_id: str) -> str:
    (cell,) = [cell for cell in notebook.cells if cell.id == cell_id]
    return "".join(output.text for output in cell.outputs if output.output_type == "stream" and output.name == "stdout")


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?(?:e[-+]\d+)?", text)]


HEARD: dict[str, str] = {}  # half a minute of training
SLOW = ("removing_a_clever_hans", "how_do_i_know_that_this_is_true")  # trains two networks; a minute of measuring
RUNS = [
    *(
        pytest.param((name, SMALLER[name]), id=name, marks=[pytest.mark.slow] if name in SLOW else [])
        for name in NOTEBOOKS
    ),
    pytest.param(("removing_a_clever_hans", TRAINED), id="removing_a_clever_hans, trained", marks=pytest.mark.slow),
    pytest.param(("whale_like_calls", HEARD), id="whale_like_calls, trained", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module")
def started() -> Iterator[AsyncKernelManager]:
    """One kernel for all notebooks: starting it, with all that they import, takes longer than most of them."""
    with kernel() as manager:
        yield manager


@pytest.fixture(scope="module", params=RUNS)
def run(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, started: AsyncKernelManager
) -> tuple:
    """Name, setting, the notebook with its output, and the folder in which it ran."""
    name, setting = request.param
    folder = tmp_path_factory.mktemp(name)
    notebook = nbformat.reads(nbformat.writes(stored(name)), as_version=4)
    cells = "\0".join(cell.source for cell in notebook.cells)
    for cell, source in zip(notebook.cells, smaller(cells, setting).split("\0"), strict=True):
        cell.source = source
    return name, setting, executed(notebook, folder, started), folder


def test_a_notebook_runs_and_draws_what_its_page_shows(run: tuple) -> None:
    name, _, notebook, _ = run
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert [output.text for output in outputs if output.get("name") == "stderr" and "Warning" in output.text] == []
    pictures = page_of(notebook, name)[1]
    assert set(pictures) == {path.name for path in PAGES.glob(f"{name}-*.png")}
    assert len(reduced(max(pictures.values(), key=len))) <= LARGEST_PICTURE


def test_what_a_notebook_says_is_so(run: tuple) -> None:
    name, setting, notebook, folder = run
    if name == "conditional_attribution":
        logit, arrived = numbers(printed(notebook, "heatmap"))
        assert arrived == pytest.approx(logit, rel=0.1)
        assert numbers(printed(notebook, "ledger"))[0] < 1e-5
        assert printed(notebook, "flow-down") == "as above: True\n"
        assert numbers(printed(notebook, "concept-map"))[-1] < 1e-5
    elif name == "how_do_i_know_that_this_is_true":
        first, second = printed(notebook, "trained").split("\n\n")[:2]
        assert first.startswith("The network is trained")
        assert second.startswith("This network looks untrained")
        default, paper, epsilon = (numbers(line) for line in printed(notebook, "rules").splitlines()[1:])
        assert default[0] == epsilon[0] > paper[0] + 0.1
        assert default[2] > paper[2]
        same, own, merged, plain_zplus, merged_zplus, not_merged = printed(notebook, "canonisation").splitlines()
        assert numbers(same)[-1] < 1e-4
        assert numbers(own) == numbers(merged)
        assert numbers(plain_zplus) == numbers(merged_zplus)
        assert numbers(not_merged) == numbers(merged_zplus)
    elif name == "whale_like_calls" and setting is not HEARD:
        assert len(printed(notebook, "masking").splitlines()) == 6
        assert len(printed(notebook, "by-relevance").splitlines()) == 7
        assert "data-sound" in (folder / "out" / "upsweep.html").read_text(encoding="utf-8")
    elif name == "whale_like_calls":
        assert numbers(printed(notebook, "training"))[-1] >= 95
        assert printed(notebook, "mining").startswith("prediction: upsweep")
        first, second = (numbers(line) for line in printed(notebook, "hears").splitlines()[1:3])
        # share, lowest and highest frequency, part on the call: the sounder, then the call
        assert first[1] >= 20
        assert first[2] > 600
        assert first[4] <= 2
        assert second[3] < 350
        assert second[4] >= 50
        # right on the same ship, right on others, false alarms, upsweeps found
        nothing, sounder, *_, call = (numbers(line)[-4:] for line in printed(notebook, "masking").splitlines()[1:])
        assert nothing[0] >= 95
        assert nothing[1] <= 80
        assert nothing[2] >= 40
        assert sounder[1] >= nothing[1] + 10
        assert sounder[2] <= 5
        assert call[3] <= 20
    elif name == "removing_a_clever_hans" and setting is not TRAINED:
        for cell in ("test", "correcting", "teaching", "retraining"):
            lines = printed(notebook, cell).splitlines()
            assert len(lines) == 4
            assert all(0 <= numbers(line)[-1] <= 100 for line in lines)
        assert printed(notebook, "saving") == "same output: True\n"
        assert len(printed(notebook, "numbers-many").splitlines()) == 3
    elif name == "removing_a_clever_hans":
        assert numbers(printed(notebook, "training"))[0] >= 85
        assert numbers(printed(notebook, "numbers-one"))[-2] >= 50
        assert numbers(printed(notebook, "stamps"))[-1] >= 25
        suspect = printed(notebook, "suspects").splitlines()[0].split()
        assert suspect[1] == "octagon"
        stamps = printed(notebook, "stamps").partition("[")[2].partition("]")[0].split(", ")
        assert suspect[0].removeprefix("conv4/") in stamps
        before, fixed, taught, after = (
            [numbers(line)[-1] for line in printed(notebook, cell).splitlines()]
            for cell in ("test", "correcting", "teaching", "retraining")
        )
        # octagons without a stamp, octagons with one, others with one that are called octagons, all without stamps
        assert before[0] <= 20
        assert before[1] >= 90
        assert before[2] >= 90
        assert fixed[2] <= 15
        assert fixed[3] >= before[3] - 5
        assert printed(notebook, "saving") == "same output: True\n"
        assert taught[0] >= fixed[0] + 40
        assert taught[2] <= before[2] - 40
        assert taught[3] >= before[3]
        assert after[0] >= 70
        assert after[2] <= 15
        assert after[3] >= before[3] + 10
        shown, _, uses = printed(notebook, "numbers-many").splitlines()
        assert numbers(shown)[-1] <= 5
        assert uses == "octagons still use the suspect: False"
    else:
        assert numbers(printed(notebook, "accuracy"))[-1] >= 90
        assert printed(notebook, "explain").startswith("prediction: octagon")
        assert numbers(printed(notebook, "explain"))[-2] >= 70
        said = [numbers(line)[-1] for line in printed(notebook, "hans-many").splitlines()]
        assert said[0] >= 95
        assert said[1] <= 10
        assert said[2] >= 70
        assert said[3] <= 10
        assert open_library(folder / "out" / "scenes.crp").manifest["data"]["length"] == 100
        assert "octagon" in (folder / "out" / "atlas.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_stored_without_output(name: str) -> None:
    notebook = stored(name)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.id for cell in code if cell.outputs or cell.execution_count is not None or cell.metadata] == []
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert notebook.metadata.language_info == {"name": "python"}
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    # Words, not what an editor rolls: pictures are named by them, and a change shows where it was made.
    assert [cell_id for cell_id in ids if not re.fullmatch(r"[a-z]+(-[a-z]+)*", cell_id)] == []


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_page_is_its_notebook(name: str) -> None:
    """But for output, the page is what the renderer makes of the notebook; run `make tutorials` where it is not."""
    page = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    without_output = re.sub(r"```text\n.*?\n```\n\n|!\[[^]]*\]\([^)]*\)\n\n", "", page, flags=re.S)
    assert without_output == page_of(stored(name), name)[0]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_pictures_of_a_page_are_there_and_light(name: str) -> None:
    page = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    files = sorted(PAGES.glob(f"{name}-*.png"))
    assert sorted(re.findall(r"!\[[^]]*\]\(([^)]*)\)", page)) == [file.name for file in files]
    for file in files:
        assert file.stat().st_size <= LARGEST_PICTURE, file.name
        with Image.open(file) as picture:
            assert picture.width <= 1000, file.name


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_links_lead_somewhere(name: str) -> None:
    page = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?://|#)([^)\s]+)\)", page)
    assert [target for target in targets if not (PAGES / target).exists()] == []
    sources = "".join(cell.source for cell in stored(name).cells if cell.cell_type == "markdown")
    targets = re.findall(r"\]\((?!https?://|#)([^)\s]+)\)", sources)
    assert [target for target in targets if not (FOLDER / target).exists()] == []


def test_the_script_people_copy_mines_once_and_writes_a_page_for_each_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "make_atlas.py"
    text = (FOLDER / script.name).read_text(encoding="utf-8")
    script.write_text(smaller(text, SMALLER["make_atlas"]), encoding="utf-8")
    runpy.run_path(str(script), run_name="__main__")
    pages = {path.stem: path.read_text(encoding="utf-8") for path in Path("out").glob("*.html")}
    assert sorted(pages) == ["octagon", "red-star"]
    assert all(name.replace("-", " ") in page for name, page in pages.items())
    manifest = Path("out/library.crp/manifest.json")
    written = manifest.stat().st_mtime_ns

    capsys.readouterr()
    runpy.run_path(str(script), run_name="__main__")
    assert capsys.readouterr().out.split() == [str(Path("out/red-star.html")), str(Path("out/octagon.html"))]
    assert manifest.stat().st_mtime_ns == written


def test_every_tutorial_has_a_small_setting() -> None:
    assert {*NOTEBOOKS, "make_atlas"} == set(SMALLER)


def test_a_text_that_is_not_there_is_not_replaced_in_silence() -> None:
    assert smaller("count = 1000", {"1000": "10"}) == "count = 10"
    with pytest.raises(AssertionError, match="'2000' is to be replaced, and is not there"):
        smaller("count = 1000", {"2000": "10"})
