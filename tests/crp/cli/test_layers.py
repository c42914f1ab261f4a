"""`crp layers`, and mining without `--layers`."""

import json

from crp.library import open_library


def test_the_table(shop):
    done = shop.run("layers", "net.py:make", "--size", 12)
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["layer", "kind", "output", "layout", "sees"]
    assert lines[1].split() == ["*", "0", "Conv2d", "4", "x", "10", "x", "10", "channels", "first", "3", "x", "3"]
    assert lines[-1] == "Input 3 x 12 x 12. Mined by default (*):  --layers 0,2"


def test_what_it_chooses_is_mined_by_default(shop):
    rows = json.loads(shop.run("layers", "net.py:make", "--data", "photos", "--all", "--json").stdout)
    assert rows[2] == {
        "name": "2", "kind": "Conv2d", "shape": [5, 8, 8], "layout": "channels first", "receptive_field": [5, 5],
        "trunk": True, "chosen": True, "obstacle": "",
    }  # fmt: skip
    assert [row["name"] for row in rows] == [*"01234567"]
    done = shop.run("mine", "net.py:make", "photos", "--out", "by-default.crp")
    assert done.exit_code == 0, done.stderr
    assert open_library(shop.folder / "by-default.crp").layers == ("0", "2")
    assert "Mined layers: 0, 2; the last of each stage" in done.stderr


def test_without_data_or_size(shop):
    done = shop.run("layers", "net.py:make")
    assert done.exit_code == 2
    sentence = "It is not known which inputs 'net.py:make' takes; give --data DATA or --size PIXELS."
    assert done.stderr == f"Error: {sentence}\n"
