"""Nothing in a library is executed or trusted: changed libraries end in a sentence, or are shown inert."""

import json
import sys

import pytest

from tests.mutants import running
from tests.mutants.running import run
from tests.mutants.worker import used

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory limits and /proc are Linux's")


# With seed 478, the first 11 have every kind.
@pytest.mark.parametrize(("count", "seed"), [(11, 478), pytest.param(1000, 0, marks=pytest.mark.slow)])
def test_changed_libraries_do_no_harm(count, seed):
    told = run(count, seed)
    assert [(line["index"], line.get("done"), line["failed"]) for line in told if line["failed"]] == []
    assert [line["index"] for line in told] == list(range(count))
    assert len({line["kind"] for line in told}) == 9
    ends = [line["outcomes"]["read"] for line in told]
    assert min(ends.count("refused"), ends.count("read")) > count / 10
    pages = [line["outcomes"]["page"] for line in told if "page" in line["outcomes"]]
    assert pages.count("read") > count / 50
    grown = max(line["memory"] for line in told) - told[0]["memory"]
    assert grown < 300e6


def test_the_look_at_changed_libraries_can_fail(tmp_path, monkeypatch):
    outcome, told = used("read", lambda path: 1 / 0, tmp_path)
    assert outcome == "failed"
    assert "ZeroDivisionError" in told
    monkeypatch.setattr(running, "HANGS", 1.0)
    for ends, sentence in (
        ("import time; print('{}', flush=True); time.sleep(60)", "no answer within 1 seconds"),
        ("import os; print('{}', flush=True); os.kill(os.getpid(), 11)", "the process ended with code -11: "),
    ):
        started = []

        class Worker(running.subprocess.Popen):
            def __init__(self, command, *, ends=ends, started=started, **options):
                started.append(command)
                super().__init__([sys.executable, "-c", ends], **options)

        with monkeypatch.context() as patched:
            patched.setattr(running.subprocess, "Popen", Worker)
            assert running._watched([0]) == ([{}], sentence)
        assert started[0][-1] == "0"


def test_names_and_sentences_that_reach_a_terminal(shop_of_names):
    shop, hostile = shop_of_names
    told = shop.run("info", "mined.crp")
    assert told.exit_code == 0
    for output in (told.output, shop.run("atlas", "mined.crp", "new.png").output):
        assert all(character.isprintable() or character == "\n" for character in output)
    assert hostile not in told.output


@pytest.fixture
def shop_of_names(tmp_path):
    from tests.crp.cli.conftest import make_shop

    shop, hostile = make_shop(tmp_path), "\x1b[2J\x07"
    file = tmp_path / "mined.crp" / "manifest.json"
    content = json.loads(file.read_text())
    content["class_names"] = [hostile] * 3
    content["source"] = {"model": f"net.py:{hostile}", "command": [hostile], "data": hostile}
    file.write_text(json.dumps(content))
    return shop, hostile
