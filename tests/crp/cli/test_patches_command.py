"""`crp patches`, and pages of a library whose patches have not been made yet."""

import html
import shutil

from crp.library import open_library
from tests.durability.subject import digest

MINE = ("mine", "net.py:make", "photos", "--layers", "0,2", "--patches", 2)
MISSING = "Its patches have not been made yet: crp patches LIBRARY makes them."


def test_patches_completes_a_library(shop):
    assert shop.run(*MINE, "--out", "whole.crp", "--patches-now", "all").exit_code == 0
    assert shop.run(*MINE, "--out", "later.crp").exit_code == 0
    assert open_library(shop.folder / "later.crp").patch_counts()[0] == 0
    told = shop.run("patches", "later.crp", "--trust", "--layers", "2")
    assert told.exit_code == 0, told.output
    made, total = open_library(shop.folder / "later.crp").patch_counts()
    assert 0 < made < total
    assert told.stdout == f"{made} of {total} patches of later.crp have been made.\n"
    assert shop.run("patches", "later.crp", "--model", "net.py:make").exit_code == 0
    assert digest(shop.folder / "later.crp") == digest(shop.folder / "whole.crp")


def test_a_page_makes_the_patches_that_it_needs_or_says_that_they_are_missing(shop):
    assert shop.run(*MINE, "--out", "later.crp").exit_code == 0
    (shop.folder / "photos").rename(shop.folder / "moved")
    atlas = ("atlas", "later.crp", "new.png", "--trust", "--out", "a.html")
    bare = shop.run(*atlas)
    assert bare.exit_code == 0, bare.output
    assert "patches have not been made yet, and cannot be made now: The data '" in bare.stderr
    page = html.unescape((shop.folder / "a.html").read_text())
    assert MISSING in page
    assert 'class="patches"' not in page
    made = shop.run(*atlas, "--data", "moved")
    assert made.exit_code == 0, made.output
    assert made.stderr == ""
    page = html.unescape((shop.folder / "a.html").read_text())
    assert MISSING not in page
    assert 'class="patches"' in page
    assert open_library(shop.folder / "later.crp").patch_counts()[0] > 0
    shutil.copytree(shop.folder / "moved", shop.folder / "other")
    (next((shop.folder / "other").rglob("*.png"))).unlink()
    wrong = shop.run(*atlas, "--data", "other")
    assert wrong.exit_code == 2
    assert "This is not the data set that was mined: its length is 5, and the library has 6" in wrong.stderr


def test_a_site_has_all_patches_of_its_layers_or_says_which_are_missing(shop):
    assert shop.run(*MINE, "--out", "later.crp").exit_code == 0
    assert shop.run("atlas", "later.crp", "--site", "--out", "bare").exit_code == 0
    assert MISSING in (shop.folder / "bare" / "concepts" / "0" / "1.html").read_text()
    site = shop.run("atlas", "later.crp", "new.png", "--site", "--trust", "--layers", "0", "--out", "site")
    assert site.exit_code == 0, site.output
    opened = open_library(shop.folder / "later.crp")
    assert opened.with_patches("0") == [0, 1, 2, 3]
    assert opened.with_patches("2") == []
    assert "not been made yet" not in (shop.folder / "site" / "concepts" / "0" / "1.html").read_text()
    # the same command draws the concepts again, now with their patches
    assert shop.run("atlas", "later.crp", "--site", "--out", "bare").exit_code == 0
    assert "not been made yet" not in (shop.folder / "bare" / "concepts" / "0" / "1.html").read_text()
