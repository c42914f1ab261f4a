"""What the page's script unpacks is what Python packed, byte for byte."""

import base64
import json
import zlib
from importlib import resources

import numpy as np
import pytest

from crp.visualization.page.packing import in_text, packed, packed_floats, packed_json, packed_steps
from page_source import steps_in, unpacked

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
    return in_text(packing.compress(content) + packing.flush())


@pytest.fixture(scope="session")
def script(tmp_path_factory):
    """A page that only has the script that unpacks."""
    source = resources.files("crp.visualization").joinpath("page", "templates", "unpacking.js").read_text()
    path = tmp_path_factory.mktemp("unpacking") / "page.html"
    path.write_text(f"<!doctype html><title>page</title><script>{source}</script>")
    return path


@pytest.mark.parametrize("pack", [packed, fixed, lambda content: in_text(zlib.compress(content, 0))])
def test_bytes_of_every_kind(browser, script, pack):
    browser.open(script)
    for name, content in CONTENTS.items():
        found = browser.run(
            f"btoa(Array.from(unpacked({json.dumps(pack(content))}), b => String.fromCharCode(b)).join(''))"
        )
        assert base64.b64decode(found) == content, name
    assert browser.complaints == []


@pytest.mark.parametrize("count", range(6))
def test_bytes_of_any_number_and_value_are_written(browser, script, count):
    """Also those at which a last group of less than four bytes is largest."""
    browser.open(script)
    for content in (b"\xff" * count, bytes(count), bytes(range(250, 250 + count))):
        text = in_text(content)
        assert not set(text) & set("<>&\"'\\/")
        assert bytes(browser.run(f"[...bytes({json.dumps(text)})]")) == content


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
    text = json.dumps(in_text(b"\x78\xda" + b"\xff" * 40))
    damaged = f"try {{ unpacked({text}); }} catch (error) {{ return error.message; }}"
    assert browser.run(f"(() => {{ {damaged} }})()") == "The data of this page are damaged."


def test_steps_stand_as_codes_of_their_rows():
    """By hand: bits of what is filled, signs, the parameter of each row, and the codes, the lowest bit first."""
    steps = np.array([[0, 1, -1], [4, -5, 0]])
    # row 0 has k = 0, and 1 is "10"; row 1 has k = 1, and 4 and 5 are "110" with "0" and "1" behind
    assert unpacked(packed_steps(steps, steps != 0)) == bytes([0b011110, 0b1010, 0, 1, 0b00110101, 0b1011])
    assert unpacked(packed_steps(np.zeros((3, 5)), np.zeros((3, 5), bool))) == bytes(2 + 3)
    # what is filled may be 0, too
    filled = np.eye(3, 5, dtype=bool)
    assert unpacked(packed_steps(np.zeros((3, 5)), filled)) == bytes([0b01000001, 0b010000, 0, 0, 0, 0, 0])


SIZES = {"of all sizes": 32767, "small": 3, "single ones": 1}


@pytest.mark.parametrize("most", SIZES.values(), ids=SIZES.keys())
def test_steps_come_back(most):
    random = np.random.default_rng(most)
    steps = random.integers(-most, most, (40, 30), endpoint=True) * (random.random((40, 30)) < 0.6)
    steps[7], steps[8, :2] = 0, (-32768, 32767)
    filled = (steps != 0) | (random.random(steps.shape) < 0.1)
    assert (steps_in(packed_steps(steps, filled), *steps.shape) == steps).all()


def test_values_without_json_are_refused():
    with pytest.raises(ValueError, match="not JSON compliant"):
        packed_json({"share": float("nan")})
