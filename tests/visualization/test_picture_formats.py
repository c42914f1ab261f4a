"""Pictures as bytes: what each format keeps, and what takes its place where Pillow cannot write it."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from crp.visualization import encoding as images
from crp.visualization import picture_formats as formats


def decoded(uri, mode=None):
    header, data = uri.split(",")
    picture = Image.open(io.BytesIO(base64.b64decode(data)))
    return header, np.asarray(picture if mode is None else picture.convert(mode))


def test_crops_keep_the_colours_of_single_pixels() -> None:
    """A yellow ring, two pixels wide, on green: where a colour is kept for four pixels, it becomes pale green."""
    y, x = np.mgrid[:18, :18]
    ring = np.abs(np.hypot(y - 8.5, x - 8.5) - 5) < 1
    small = np.where(ring[..., None], (240, 220, 100), (20, 110, 90)).astype(np.uint8)
    assert np.array_equal(decoded(formats.crop_uri(small, side=84, quality=65), "RGB")[1], small)
    large = np.tile(small, (4, 4, 1))
    yellow = np.tile(ring, (4, 4))

    def distance(uri: str) -> float:
        return float(np.abs(decoded(uri, "RGB")[1].astype(int) - large)[yellow].mean())

    assert distance(formats.crop_uri(large, side=84, quality=65)) < 6
    assert distance(formats.photo_uri(large, quality=65)) > 12  # what the difference above is worth


def shown(uri, picture):
    """A heatmap as a page shows it: over the faded picture."""
    _, stored = decoded(uri, "RGBA")
    ground = images.fitted(images.faded(picture), max(stored.shape[:2]))
    opacity = stored[..., 3:] / 255
    return stored[..., :3] * opacity + ground * (1 - opacity)


@pytest.fixture
def scene():
    """A picture with detail, and a heatmap with grains of both signs."""
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 256, size=(28, 36, 3), dtype=np.uint8))
    picture = np.asarray(coarse.resize((288, 224), Image.Resampling.BICUBIC))
    hills = np.asarray(Image.fromarray(random.normal(size=(7, 9)).astype(np.float32)).resize((288, 224)))
    return picture, hills * random.random(hills.shape)


def error(one, other):
    return float(np.sqrt(np.mean((np.asarray(one, float) - other) ** 2)))


def test_a_large_heatmap_has_a_third_of_the_bytes_of_a_jpeg_and_is_nearer_to_its_values(scene):
    picture, heatmap = scene
    uri = formats.tinted_uri(picture, heatmap, side=288, quality=19)
    assert uri.startswith("data:image/avif;base64,")
    exact = images.tinted(picture, heatmap)
    before = formats.jpeg(exact, 68)
    assert len(base64.b64decode(uri.split(",")[1])) < len(before) / 2
    assert error(shown(uri, picture), exact) < error(Image.open(io.BytesIO(before)), exact)


def test_the_sign_of_every_strong_pixel_survives(scene):
    picture, heatmap = scene
    _, stored = decoded(formats.tinted_uri(picture, heatmap, side=288, quality=19), "RGBA")
    strong = np.abs(images.scaled(heatmap, power=images.ROOT)) > 0.5
    inks = stored[strong][:, :3].astype(int)
    nearer_for = np.abs(inks - images.FOR_INK).sum(1) < np.abs(inks - images.AGAINST_INK).sum(1)
    wrong = nearer_for != (heatmap[strong] > 0)
    assert strong.sum() > 1000
    # at edges between signs, colour has half the resolution
    assert wrong.mean() < 0.02


def test_a_heatmap_of_nothing_hides_nothing(scene):
    picture, heatmap = scene
    _, stored = decoded(formats.tinted_uri(picture, 0 * heatmap, side=288, quality=19), "RGBA")
    assert stored[..., 3].max() <= 1  # of 255: less than a level of what is below


def test_without_avif_a_heatmap_is_a_jpeg_with_its_ground(scene, monkeypatch):
    picture, heatmap = scene
    monkeypatch.setattr(formats, "_AVIF", False)
    header, stored = decoded(formats.tinted_uri(picture, heatmap, side=288, quality=19))
    assert header == "data:image/jpeg;base64"
    assert error(stored, images.tinted(picture, heatmap)) < 16


def test_an_encoder_without_the_options_of_libaom_writes_heatmaps_all_the_same(scene, monkeypatch):
    picture, heatmap = scene
    save = Image.Image.save

    def refusing(self, file, kind, **options):
        if "advanced" in options:
            raise ValueError("Setting advanced codec options failed: Invalid codec-specific option")
        save(self, file, kind, **options)

    formats._even.cache_clear()
    monkeypatch.setattr(Image.Image, "save", refusing)
    try:
        uri = formats.tinted_uri(picture, heatmap, side=288, quality=19)
    finally:
        formats._even.cache_clear()
    assert uri.startswith("data:image/avif;base64,")
    assert error(shown(uri, picture), images.tinted(picture, heatmap)) < 13


def test_a_small_heatmap_is_kept_as_levels_of_two_inks():
    random = np.random.default_rng(1)
    picture = random.integers(0, 256, size=(12, 9, 3), dtype=np.uint8)
    heatmap = random.normal(size=(12, 9))
    uri = formats.tinted_uri(picture, heatmap, side=50, quality=19)
    assert uri.startswith("data:image/png")
    # 127 levels a sign
    assert np.abs(shown(uri, picture) - images.tinted(picture, heatmap)).max() <= 255 / 127


def test_a_large_heatmap_looks_the_same_when_it_is_shrunk():
    picture = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8).repeat(10, 0).repeat(10, 1)
    rows, columns = np.mgrid[-1:1:700j, -1:1:900j]
    heatmap = np.exp(-8 * (rows**2 + columns**2)) - np.exp(-20 * ((rows - 0.5) ** 2 + (columns - 0.5) ** 2))
    drawn = shown(formats.tinted_uri(picture, heatmap, side=90, quality=50), picture)
    whole = images.fitted(images.tinted(picture, heatmap), 90)
    assert drawn.shape == whole.shape == (70, 90, 3)
    assert np.abs(drawn - whole).mean() < 4


def test_png_keeps_every_bit():
    picture = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    header, back = decoded(formats.png_uri(picture))
    assert header == "data:image/png;base64"
    np.testing.assert_array_equal(back, picture)


def test_small_pictures_are_png_and_large_ones_shrunk_webp():
    assert formats.picture_uri(np.zeros((32, 20, 3), dtype=np.uint8), side=8, quality=70).startswith("data:image/png")
    header, back = decoded(formats.picture_uri(np.full((100, 200, 3), 120, dtype=np.uint8), side=50, quality=70))
    assert header == "data:image/webp;base64"
    assert back.shape == (25, 50, 3)
    assert np.abs(back.astype(int) - 120).max() <= 2


def test_a_photo_as_webp_is_as_near_as_a_larger_jpeg(scene, monkeypatch):
    picture, _ = scene
    webp = formats.photo(picture, 56)
    monkeypatch.setattr(formats, "_WEBP", False)
    assert formats.photo_uri(picture, 56).startswith("data:image/jpeg;base64,")
    other = formats.photo(picture, 56)
    assert len(webp) < 0.8 * len(other)
    assert error(Image.open(io.BytesIO(webp)), picture) < 1.1 * error(Image.open(io.BytesIO(other)), picture)


def test_a_strip_of_patches_is_as_near_as_larger_webps(scene):
    picture, _ = scene
    strip = np.ascontiguousarray(picture[:72, :216])
    parts = [np.ascontiguousarray(strip[:, left : left + 72]) for left in (0, 72, 144)]
    apart = [formats.photo(part, 50) for part in parts]
    together = formats.patches_photo(strip)
    assert len(together) < sum(map(len, apart))
    errors = [error(Image.open(io.BytesIO(one)), part) for one, part in zip(apart, parts, strict=True)]
    assert error(Image.open(io.BytesIO(together)), strip) < 1.15 * np.mean(errors)


@pytest.mark.parametrize(("missing", "kind"), [("", "avif"), ("_AVIF", "webp"), ("_AVIF _WEBP", "jpeg")])
def test_patches_are_written_in_what_pillow_can_write(missing, kind, scene, monkeypatch):
    for format in missing.split():
        monkeypatch.setattr(formats, format, False)
    header, back = decoded(formats.patches_uri(scene[0]), "RGB")
    assert (header, back.shape) == (f"data:image/{kind};base64", scene[0].shape)


@pytest.mark.parametrize("webp", [True, False])
def test_veils_hold_their_opacity(webp, monkeypatch):
    monkeypatch.setattr(formats, "_WEBP", webp)
    header, back = decoded(formats.veils_uri(np.array([[[0, 0], [0, 255], [0, 102]]], np.uint8)), "RGBA")
    assert header == f"data:image/{'webp' if webp else 'png'};base64"
    np.testing.assert_array_equal(back[0, :, 3], [0, 255, 102])


def test_a_whole_picture_is_kept_if_it_fits_and_shrunk_as_little_as_it_takes():
    noise = np.random.default_rng(0).integers(0, 256, (150, 200, 3), dtype=np.uint8)
    whole, size = formats.whole_photo(noise, 10**9)
    assert size == (150, 200) == np.asarray(Image.open(io.BytesIO(whole))).shape[:2]
    for most in (len(whole) - 1, len(whole) // 3, len(whole) // 20):
        content, size = formats.whole_photo(noise, most)
        assert len(content) <= most
        assert len(formats._whole(images.fitted(noise, max(size) + 10))) > most
        assert np.asarray(Image.open(io.BytesIO(content))).shape[:2] == size
        assert size[1] / size[0] == pytest.approx(4 / 3, abs=0.03)


@pytest.mark.parametrize(("missing", "kind"), [("", "avif"), ("_AVIF", "webp"), ("_AVIF _WEBP", "jpeg")])
def test_a_whole_picture_has_the_type_that_its_address_says(missing, kind, scene, monkeypatch):
    for format in missing.split():
        monkeypatch.setattr(formats, format, False)
    content, _ = formats.whole_photo(scene[0], 10**9)
    assert Image.open(io.BytesIO(content)).format.lower() == kind
    header, back = decoded(formats.avif_uri(content), "RGB")
    assert header == f"data:image/{kind};base64"
    assert error(back, scene[0]) < 8
