"""`crp names`: names given, listed, exported from one library and merged into another."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from torch import nn, randn

import crp
from crp.cli import main


def run(*words: object) -> Result:
    return CliRunner().invoke(main, ["names", *map(str, words)])


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("names")
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    data = [(randn(3, 8, 8), index % 2) for index in range(12)]
    for name, given in (("a.crp", {}), ("b.crp", {"k": 3})):
        crp.mine(model, data, layers=["0"], path=folder / name, patches=0, progress=False, **given)
    return folder


def test_names_are_given_listed_exported_and_merged(models: Path) -> None:
    first, second, file = models / "a.crp", models / "b.crp", models / "shared.json"
    done = run(first)
    assert done.output == f"No concept has a name. Give one: crp names {first} --set 0/0=LABEL\n"
    given = ["--note", "two\nlines", "--tags", "a, b", "--verdict", "fine", "--author", "Ann"]
    done = run(first, "--set", "0/2=x = y", *given)
    assert done.exit_code == 0, done.output
    date = crp.open_library(first).given_names()["0", 2].date
    assert done.stdout.splitlines() == [
        "concept  label  verdict  tags  by",
        f"0/2      x = y  fine     a, b  Ann {date[:10]}",
        "    two",
        "    lines",
    ]
    assert run(first, "--export", file).exit_code == 0
    run(second, "--set", "0/2=older")
    stored = json.loads((second / "names.json").read_text())
    stored["names"][0]["date"] = "2020-01-01T00:00:00Z"
    (second / "names.json").write_text(json.dumps(stored))
    done = run(second, "--import", file)
    assert done.exit_code == 0, done.output
    kept = f"'x = y', fine, tag 'a', tag 'b', a note (Ann {date})"
    assert done.stderr.splitlines() == [
        "shared.json: 1 name, 1 new or newer.",
        "Pages and sites show them after crp atlas has made them again.",
        f"  0/2: {kept} is kept, 'older' (2020-01-01T00:00:00Z) is older",
    ]
    (told,) = json.loads(run(second, "--json").stdout)
    assert (told["label"], told["tags"], told["author"]) == ("x = y", ["a", "b"], "Ann")
    assert crp.open_library(second).names == {"0": ("", "", "x = y", "")}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--set", "0/2"], "A name is given as LAYER/ID=LABEL, such as conv5/37=stamp, given '0/2'."),
        (["--set", "0/4=x"], "There is no concept 4: layer '0' has the concepts 0 to 3."),
        (["--set", "1/0=x"], "The library has no layer '1'"),
        (["--note", "x"], "--note, --tags, --verdict and --author are for --set."),
        (["--import", "none.json"], "There is no file 'none.json'."),
        (["--set", "0/1=x", "--verdict", "good"], "There is no verdict 'good'"),
    ],
)
def test_what_cannot_be_named_is_refused_in_a_sentence(models: Path, words: list[str], sentence: str) -> None:
    done = run(models / "b.crp", *words)
    assert done.exit_code == 2
    assert sentence in " ".join(done.output.split())
