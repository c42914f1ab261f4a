"""The harness of `make bench`: its arithmetic, its tables, and a run with our side alone."""

import dataclasses
import doctest
import inspect
import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import environments, measuring, ours, report, subjects
from benchmarks.processes import Process, WorkerError
from benchmarks.rows import ROWS, Row, chosen

TINY = Row(
    "tiny", "a tiny network", kind="Mine", net="tiny", layers="conv", unit="sample", units=12, samples=12, size=8,
    trial_units=4, batches=(2, 4), floor_batches=(4,), memory_batch=4, most_gradients=1e9,
)
TIMES = {"ours": [0.1, 0.2, 0.4], "theirs": [1.0, 1.0, 1.0], "gradient": [0.1, 0.1, 0.1]}
FACTS = dict(processor="p", cores=2, memory_gb=24, system="s", python="3", torch="2", zennit="0", threads=2, gpu=None)


@pytest.mark.parametrize("module", [measuring, ours, report, subjects])
def test_examples_in_docstrings(module):
    outcome = doctest.testmod(module)
    assert outcome.attempted > 0
    assert outcome.failed == 0


def test_ratio_is_that_of_the_medians_with_the_range_of_single_rounds():
    # medians 6 and 2; rounds 4/1, 6/2, 20/40
    assert measuring.ratio([4.0, 6.0, 20.0], [1.0, 2.0, 40.0]) == measuring.Spread(3.0, 0.5, 4.0)


@pytest.mark.parametrize("seconds, repeats, expected", [(0.1, None, 15), (5, None, 5), (40, None, 3), (90, None, 2),
                                                        (200, None, 1), (200, 4, 4), (0.1, 1, 1)])
def test_rounds_go_on_while_they_are_fast(monkeypatch, seconds, repeats, expected):
    clock = [0.0]
    monkeypatch.setattr(measuring.time, "monotonic", lambda: clock[0])
    count = 0
    for _ in measuring.rounds(repeats):
        clock[0] += seconds
        count += 1
    assert count == expected


def test_overlap_counts_samples_wherever_they_stand():
    generator = np.random.default_rng(0)
    one, other = (np.stack([generator.permutation(20)[:8] for _ in range(5)]) for _ in range(2))
    by_hand = [len(set(a) & set(b)) / 8 for a, b in zip(one.tolist(), other.tolist(), strict=True)]
    assert ours.overlap(one, other).tolist() == by_hand


def test_names_of_rows_are_distinct_and_unknown_ones_are_refused():
    assert len({row.name for row in ROWS}) == len(ROWS)
    assert [row.name for row in chosen(["vgg16-mine"])] == ["vgg16-mine"]
    with pytest.raises(ValueError, match="There is no row 'vgg'; the rows are vgg16-generate, "):
        chosen(["vgg"])


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_row_has_its_kind_of_work_on_the_sides_that_run_it(row):
    for form in (row.in_form(quick=quick, gpu=gpu) for quick in (False, True) for gpu in (False, True)):
        kind = getattr(ours, form.kind)
        assert hasattr(kind, "figures" if form.measure == "figures" else "run")
        assert form.measure in ("timed", "sweep", "slope", "figures")
        assert max(form.batches, default=0) <= max(form.units, form.trial_units) or form.measure != "timed"
        assert form.unit != "sample" or form.sweep or form.units <= form.samples
    assert row.in_form(quick=True, gpu=False).least_ratio is None


def test_missed_goals_are_named_with_both_numbers():
    row = dataclasses.replace(TINY, least_ratio=6, most_gradients=1.5)
    result = {
        "row": "tiny",
        "seconds": TIMES,  # theirs / ours 5, gradients 2
        "memory": {"ours": 320, "theirs": 200},
        "differences": {"float64": 2e-9, "float32": 1e-6, "ours from float64": 5e-6, "theirs from float64": 2e-6},
    }
    assert report.missed(result, row) == [
        "theirs / ours is 5, the goal is at least 6",
        "gradients is 2, the goal is at most 1.5",
        "memory is 1.6, the goal is at most 1.5",
        "the difference in float64 is 2e-09, the goal is at most 1e-09",
        "the error in float32 is 5e-06, the goal is at most 4e-06",
    ]
    assert report.missed(result | {"memory": {}, "differences": {}}, dataclasses.replace(TINY, least_ratio=5)) == []


def test_a_difference_that_is_no_number_misses_its_goal():
    differences = dict.fromkeys(("float64", "float32", "ours from float64", "theirs from float64"), float("nan"))
    assert len(report.missed({"row": "tiny", "differences": differences}, TINY)) == 2


def test_tables_hold_each_result_once():
    results = [{"row": "tiny", "seconds": TIMES}, {"row": "other", "note": "no GPU"}]
    text = report.text(results, [TINY, dataclasses.replace(TINY, name="other", title="another")], FACTS)
    timed, skipped, _ = text.split("\n\n")
    assert timed.splitlines()[1].startswith("a tiny network  200 ms a sample (100 to 400)  1,000 ms a sample")
    assert "5.00 (2.50 to 10.00)" in timed
    assert skipped.splitlines()[1].split() == ["another", "no", "GPU"]


def test_written_rows_replace_those_of_before_and_leave_the_rest(tmp_path):
    page = tmp_path / "performance.md"
    page.write_text("prose <!-- cpu --> old <!-- end of cpu --> between <!-- cuda --> kept <!-- end of cuda --> end\n")
    moment = {"date": "2026-01-02", "commit": "abc"}
    for name, time in (("vgg16-mine", 1.0), ("resnet18-mine", 2.0), ("vgg16-mine", 3.0)):
        report.write([{"row": name, "seconds": {"ours": [time]}, **moment}], FACTS, tmp_path, "cpu")
    stored = json.loads((tmp_path / "performance.json").read_text())["cpu"]["results"]
    assert [(result["row"], result["seconds"]["ours"]) for result in stored] == [
        ("vgg16-mine", [3.0]), ("resnet18-mine", [2.0]),
    ]
    written = page.read_text()
    assert "| mining VGG16, all conv layers | 3,000 ms a sample" in written
    assert "abc of 2026-01-02." in written
    assert "old" not in written
    assert written.endswith("between <!-- cuda --> kept <!-- end of cuda --> end\n")


def test_a_page_without_markers_is_refused():
    with pytest.raises(ValueError, match="The page has no '<!-- cpu -->'"):
        report.between_markers("a page", "cpu", "body")


def test_both_sides_offer_the_same_kinds_of_work():
    # zennit-crp is in another environment: its side is read, not run
    source = (command.ROOT / "benchmarks" / "theirs.py").read_text()
    timed = {row.kind for row in ROWS if row.measure == "timed"}
    assert timed == {kind for kind in timed if f"class {kind}(Work)" in source and inspect.isclass(getattr(ours, kind))}


@pytest.fixture(scope="module")
def worker():
    with Process(sys.executable, "ours", {"device": "cpu", "threads": 1}) as process:
        yield process


@pytest.fixture
def sides(worker):
    return measuring.Sides(
        lambda side: Process(sys.executable, side, {"device": "cpu", "threads": 1}), worker, None, "nowhere"
    )


def test_our_side_is_timed_beside_the_gradient(sides):
    result = measuring.measured(sides, TINY, repeats=2, parts=["memory", "differences"])
    assert {name: len(seconds) for name, seconds in result["seconds"].items()} == {"ours": 2, "gradient": 2}
    assert all(second > 0 for seconds in result["seconds"].values() for second in seconds)
    assert result["batches"]["ours"] in (2, 4)
    assert result["memory"].keys() == {"ours"}
    assert "differences" not in result


def test_differences_are_relative_to_each_row_and_see_nan(worker, tmp_path):
    from safetensors.torch import save_file

    def compared(found, expected):
        for name, values in (("found", found), ("expected", expected)):
            save_file({"a": torch.tensor(values)}, tmp_path / name)
        return worker.ask("compare", path=str(tmp_path / "found"), reference=str(tmp_path / "expected"))["difference"]

    assert compared([[100.0, 0.0], [1.0, 2.0]], [[100.0, 1.0], [1.0, 4.0]]) == 0.5
    assert compared([[0.0, 0.0]], [[0.0, 0.0]]) == 0
    assert np.isnan(compared([[np.nan, 0.0], [1.0, 1.0]], [[1.0, 0.0], [1.0, 1.0]]))


def test_stored_scores_are_those_before_rounding(worker, tmp_path):
    row = dataclasses.replace(TINY, check_units=3)
    for dtype in ("float32", "float64"):
        measuring.prepare({"ours": worker}, row, "nowhere", str(tmp_path), dtype)
        worker.ask("check", path=str(tmp_path / dtype))
    found = worker.ask("compare", path=str(tmp_path / "float32"), reference=str(tmp_path / "float64"))
    assert 0 < found["difference"] < 1e-5


def test_what_a_worker_cannot_do_is_told(worker, tmp_path):
    row = dataclasses.replace(TINY, precisions=("float128",))
    measuring.prepare({"ours": worker}, row, "nowhere", str(tmp_path))
    with pytest.raises(WorkerError, match="float128"):
        worker.ask("run", units=2, batch=2)
    with pytest.raises(WorkerError, match="The worker of nobody ended"):
        Process(sys.executable, "nobody", {"device": "cpu", "threads": 1})


@pytest.mark.parametrize("more", [[], pytest.param(["samples-scaling"], marks=pytest.mark.slow)], ids=["none", "one"])
def test_the_command_runs_rows_with_our_side_alone(monkeypatch, capsys, more):
    """A row that cannot be run here says why: no GPU, no trained weights. One that can be run takes long."""
    monkeypatch.setenv("BENCH_OURS_PYTHON", sys.executable)
    arguments = ["--quick", "--only-ours", "--repeats", "1", "--threads", "1", "--data", "nowhere"]
    names = [*more, "squeezenet-lists", "vgg16-throughput"]
    assert command.main([*arguments, "--rows", ",".join(names)]) == 0
    table = capsys.readouterr().out
    assert ("ms a sample, 1,000 samples" in table) == bool(more)
    assert "no GPU" in table
    assert "skipped: no folder nowhere" in table


def test_the_command_refuses_a_row_that_there_is_not(capsys):
    with pytest.raises(SystemExit):
        command.main(["--rows", "vgg17"])
    assert "There is no row 'vgg17'" in capsys.readouterr().err


def test_the_command_needs_only_python_itself():
    script = "import benchmarks.__main__ as command; print(command.browsing().FLAGS[0])"
    # without the packages that are installed, as in the interpreter of `make bench`
    command = [sys.executable, "-S", "-c", script]
    done = subprocess.run(command, cwd=environments.ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "--headless=new"), done.stderr


def test_the_rows_measured_before_a_fault_of_the_command_are_kept(monkeypatch, capsys):
    monkeypatch.setattr(command, "interpreter", lambda side: sys.executable)
    monkeypatch.setattr(command, "browsing", lambda: 1 / 0)
    done = command.main(["--only-ours", "--rows", "squeezenet-pages,vgg16-throughput", "--data", "nowhere"])
    printed = capsys.readouterr()
    assert done == 1
    assert "ZeroDivisionError" in printed.err
    assert "failed" in printed.out
    assert "no GPU" in printed.out
