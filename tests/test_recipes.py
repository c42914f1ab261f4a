"""The recipes of docs/recipes.md, each run where its package is installed, and what they leave behind."""

import json
import re
import warnings
from pathlib import Path

import numpy as np
import pytest

import crp
from tests.test_docs import blocks_of

PAGE = Path(__file__).resolve().parents[1] / "docs" / "recipes.md"
BLOCKS = [block.text for block in blocks_of(PAGE.read_text(encoding="utf-8")) if block.language == "python"]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """The folder and the names that the first block of the page leaves."""
    folder, names = tmp_path_factory.mktemp("recipes"), {"__name__": "__main__"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        exec(BLOCKS[0], names)
    return folder, names


@pytest.fixture
def recipe(start: tuple[Path, dict], monkeypatch: pytest.MonkeyPatch):
    """Run the block that contains a text, after the first; returns all names."""
    folder, names = start
    monkeypatch.chdir(folder)

    def run(package: str, *texts: str) -> dict:
        found = dict(names)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other people's packages
            pytest.importorskip(package, reason=f"{package} is not installed")
            for text in texts:
                (block,) = [block for block in BLOCKS if text in block]
                exec(block, found)
        return found

    return run


def shares(names: dict) -> dict[str, float]:
    """Share by name of the metric, from the explanation itself."""
    layer = names["atlas"].explanation.layers[0]
    return {f"share/conv5/{part.concept}": part.share for part in (*layer.supporting, *layer.opposing)}


def is_the_page(path: Path) -> bool:
    return path.read_bytes() == Path("octagon.html").read_bytes()


def test_the_rows_are_those_of_the_explanation(start: tuple[Path, dict]) -> None:
    _, names = start
    assert {f"share/{row['layer']}/{row['concept']}": row["share"] for row in names["rows"]} == shares(names)
    first = names["atlas"].explanation.layers[0].ranked[0]
    assert names["rows"][0]["value_without"] == first.effect.after
    assert first.concept == 37


def test_jupyter(recipe) -> None:
    names = recipe("anywidget", "atlas.widget()", "widget.select(")
    widget, concept_map = names["widget"], names["atlas"].explanation.layers[0].concept_map
    assert widget.region.sum() == 9
    sums = concept_map.table[-3:, -3:].sum((0, 1), dtype=np.float64)
    assert widget.ranking[0] == (np.abs(sums).argmax(), pytest.approx(sums[np.abs(sums).argmax()]))


def test_weights_and_biases(recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SILENT", "true")
    names = recipe("wandb", "import wandb")
    names["wandb"].teardown()  # its process has then written everything
    (folder,) = Path("wandb").glob("offline-run-*")
    (page,), (table,), (figure,) = (
        list((folder / "files" / "media").rglob(name)) for name in ("*.html", "*.table.json", "*.png")
    )
    assert is_the_page(page)
    assert figure.read_bytes().startswith(b"\x89PNG")
    content = json.loads(table.read_text())
    assert [dict(zip(content["columns"], row, strict=True)) for row in content["data"]] == names["rows"]
    (log,) = folder.glob("*.wandb")  # what `wandb sync` sends: protocol buffers, with numbers as JSON
    sent = dict(re.findall(rb"(share/conv5/\d+)\x82\x01.(-?[\d.e-]+)", log.read_bytes(), re.S))
    assert {name.decode(): float(value) for name, value in sent.items()} == shares(names)
    assert list(names["files"].manifest.entries) == ["octagon.html"]


def test_mlflow(recipe) -> None:
    names = recipe("mlflow", "import mlflow")
    mlflow = names["mlflow"]
    run = mlflow.last_active_run()
    assert dict(run.data.metrics) == pytest.approx(shares(names))
    folder = Path(mlflow.artifacts.download_artifacts(run_id=run.info.run_id, dst_path="downloaded"))
    assert is_the_page(folder / "octagon.html")
    assert (folder / "octagon.png").read_bytes().startswith(b"\x89PNG")
    table = json.loads((folder / "concepts.json").read_text())  # pandas writes ten digits
    assert len(table["data"]) == len(names["rows"])
    for written, row in zip(table["data"], names["rows"], strict=True):
        assert dict(zip(table["columns"], written, strict=True)) == pytest.approx(row, abs=1e-9)


def test_tensorboard(recipe) -> None:
    names = recipe("tensorboard", "SummaryWriter")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator("runs/octagon").Reload()
    logged = {name: events.Scalars(name)[0].value for name in events.Tags()["scalars"]}
    assert logged == pytest.approx(shares(names), rel=1e-6)
    assert events.Images("atlas")[0].width > 500
    (text,) = events.Tensors("concepts/text_summary")
    lines = text.tensor_proto.string_val[0].decode().splitlines()
    assert lines[0] == "| layer | concept | name | share | value | value_without |"
    assert len(lines) == 2 + len(names["rows"])


def test_fiftyone(recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIFTYONE_DO_NOT_TRACK", "true")
    names = recipe("fiftyone", "import fiftyone")
    sample = names["samples"][1]
    explanation = crp.explain(names["model"], "9.png", names["library"])
    layer = explanation.layers[0]
    assert Path(sample.filepath) == Path("9.png").resolve()
    assert sample.prediction.label == "octagon"
    np.testing.assert_array_equal(sample.relevance.map, explanation.heatmap)
    assert sample.relevance.range == [-np.abs(explanation.heatmap).max(), np.abs(explanation.heatmap).max()]
    np.testing.assert_array_equal(sample.strongest.map, layer.ranked[0].heatmap)
    assert [one.share for one in sample.concepts.classifications] == [part.share for part in layer.ranked]
    expected = [f"conv5/{part.concept}" for part in layer.ranked if abs(part.share) >= 0.05]
    assert sample.tags == expected
    assert "conv5/37" in expected
    assert sample.to_mongo_dict()["concepts"]["classifications"][0]["share"] == layer.ranked[0].share


def test_lightning(recipe, capsys: pytest.CaptureFixture[str]) -> None:
    names = recipe("lightning", "import lightning")
    assert names["trainer"].current_epoch == 1  # stopped after the first
    assert float(names["trainer"].callback_metrics["concept_failures"]) == 1
    assert names["check"].sentences[0].startswith("The class 'octagon' uses conv5/37 with a mean share of")
    assert re.search(r"The class 'octagon' uses conv5/37", capsys.readouterr().out)
