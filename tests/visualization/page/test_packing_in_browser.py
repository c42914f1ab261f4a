"""What the page's script unpacks is what Python packed, byte for byte."""

import base64
import json
import zlib
from importlib import resources

import numpy as np
import pytest

from crp.visualization.page.packing import packed, packed_floats, packed_json, packed_steps
from page_source import unpacked

RANDOM = np.random.default_rng(0)
CONTENTS = {
    "nothing": b"",
    "one byte": b"a",
    "noise, which zlib stores": RANDOM.bytes(70_000),
    "one long run": bytes(100_000),
    "runs of two": bytes(RANDOM.choice([65, 66], size=5_000).astype(np.uint8)),
    "text": json.dumps(RANDOM.normal(size=3_000).tolist()).encode(),
    "repeats far apart": RANDOM.bytes(30_000) * 2,
}


def fixed(content):
    """Packed with the codes that stand in no block."""
    packing = zlib.compressobj(9, zlib.DEFLATED, 15, 9, zlib.Z_FIXED)
    return base64.b64encode(packing.compress(content) + packing.flush()).decode()


@pytest.fixture(scope="session")
def script(tmp_path_factory):
    """A page that only has the script that unpacks."""
    source = resources.files("crp.visualization").joinpath("page", "templates", "unpacking.js").read_text()
    path = tmp_path_factory.mktemp("unpacking") / "page.html"
    path.write_text(f"<!doctype html><title>page</title><script>{source}</script>")
    return path


@pytest.mark.parametrize("pack", [packed, fixed, lambda content: base64.b64encode(zlib.compress(content, 0)).decode()])
def test_bytes_of_every_kind(browser, script, pack):
    browser.open(script)
    for name, content in CONTENTS.items():
        found = browser.run(
            f"btoa(Array.from(unpacked({json.dumps(pack(content))}), b => String.fromCharCode(b)).join(''))"
        )
        assert base64.b64decode(found) == content, name
    assert browser.complaints == []


def test_floats_keep_every_bit(browser, script):
    values = np.array([0.0, -0.0, 1e-45, -3.4e38, 1 / 3], np.float32)
    browser.open(script)
    found = browser.run(
        f"Array.from(floats({json.dumps(packed_floats(values))}), value => [value, Object.is(value, -0)])"
    )
    assert [(np.float32(value), negative) for value, negative in found] == [
        (value, bool(value == 0 and np.signbit(value))) for value in values
    ]


def test_damaged_data_say_so(browser, script):
    browser.open(script)
    text = base64.b64encode(b"\x78\xda" + b"\xff" * 40).decode()
    damaged = f"try {{ unpacked('{text}'); }} catch (error) {{ return error.message; }}"
    assert browser.run(f"(() => {{ {damaged} }})()") == "The data of this page are damaged."


def test_steps_stand_as_a_bit_or_as_two_bytes():
    steps = np.array([[0, 1, -1], [32767, -32767, 0], [256, -256, 255]])
    data = unpacked(packed_steps(steps, steps != 0))
    assert data[:2] == bytes([0b11011110, 0b1])
    high, low = np.frombuffer(data, np.uint8, offset=2).reshape(2, -1)
    assert (high.view(np.int8) * 256.0 + low).tolist() == [1, -1, 32767, -32767, 256, -256, 255]
    assert unpacked(packed_steps(np.zeros((3, 5)), np.zeros((3, 5), bool))) == bytes(2)
    # what is filled may be 0, too
    filled = np.eye(3, 5, dtype=bool)
    assert unpacked(packed_steps(np.zeros((3, 5)), filled)) == bytes([0b01000001, 0b010000]) + bytes(6)


def test_values_without_json_are_refused():
    with pytest.raises(ValueError, match="not JSON compliant"):
        packed_json({"share": float("nan")})
