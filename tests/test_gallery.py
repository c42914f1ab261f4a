"""The gallery: its pictures are there, described and light."""

import re
from pathlib import Path

from PIL import Image

DOCS = Path(__file__).resolve().parent.parent / "docs"
LARGEST = 3_000_000  # bytes, all together


def test_every_picture_is_shown_and_described_and_every_one_shown_is_there() -> None:
    shown = re.findall(r"!\[(.*?)\]\((gallery/.*?)\)", (DOCS / "gallery.md").read_text("utf-8"))
    files = sorted(f"gallery/{path.name}" for path in (DOCS / "gallery").iterdir())
    assert sorted(file for _, file in shown) == files
    assert [file for words, file in shown if len(words.split()) < 20] == []


def test_all_of_it_is_light() -> None:
    files = list((DOCS / "gallery").iterdir())
    assert sum(path.stat().st_size for path in files) < LARGEST
    for path in files:
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            assert 500 <= picture.width <= 1500, path.name


def test_the_script_makes_what_is_there() -> None:
    script = (DOCS.parent / "tutorials" / "gallery.py").read_text("utf-8")
    assert {path.stem for path in (DOCS / "gallery").iterdir()} == set(re.findall(r'yield "([a-z-]+)"', script))
