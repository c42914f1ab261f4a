"""Pictures of every kind become the right RGB; preprocessing is torchvision's, and is undone by to_picture."""

import json
import struct
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from crp.compat import import_zennit_safely
from crp.errors import InputError
from crp.preprocessing import Preprocessing, read_picture, scaled_picture

GRADIENT = np.stack(
    np.broadcast_arrays(np.arange(0, 240, 8)[:, None], np.arange(0, 200, 5)[None, :], 7), axis=-1
).astype(np.uint8)


def pixels(path):
    picture = read_picture(path)
    assert picture.mode == "RGB"
    return np.asarray(picture)


def saved(picture, path, **options):
    picture.save(path, **options)
    return path


class TestReadPicture:
    def test_rgb_is_read_as_it_is(self, tmp_path):
        assert np.array_equal(pixels(saved(Image.fromarray(GRADIENT), tmp_path / "a.png")), GRADIENT)

    def test_grey_is_repeated(self, tmp_path):
        read = pixels(saved(Image.fromarray(GRADIENT[..., 0]), tmp_path / "a.png"))
        assert np.array_equal(read, GRADIENT[..., [0, 0, 0]])

    def test_one_bit(self, tmp_path):
        read = pixels(saved(Image.fromarray(np.array([[True, False]])), tmp_path / "a.png"))
        assert read.tolist() == [[[255] * 3, [0] * 3]]

    def test_palette(self, tmp_path):
        picture = Image.fromarray(np.array([[0, 1]], dtype=np.uint8), mode=None).convert("P")
        picture.putpalette([10, 20, 30, 40, 50, 60])
        assert pixels(saved(picture, tmp_path / "a.png")).tolist() == [[[10, 20, 30], [40, 50, 60]]]

    def test_transparent_palette_entry_is_white(self, tmp_path):
        picture = Image.fromarray(np.array([[0, 1]], dtype=np.uint8)).convert("P")
        picture.putpalette([10, 20, 30, 40, 50, 60])
        assert pixels(saved(picture, tmp_path / "a.png", transparency=0)).tolist() == [[[255] * 3, [40, 50, 60]]]

    def test_transparency_is_laid_over_white(self, tmp_path):
        array = np.array([[[200, 0, 0, 0], [200, 0, 0, 255], [200, 0, 0, 51]]], dtype=np.uint8)
        # a fifth of (200, 0, 0) and four fifths of white
        assert pixels(saved(Image.fromarray(array), tmp_path / "a.png")).tolist() == [
            [[255] * 3, [200, 0, 0], [244, 204, 204]]
        ]

    def test_transparent_colour_of_an_rgb_png_is_white(self, tmp_path):
        picture = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], dtype=np.uint8))
        assert pixels(saved(picture, tmp_path / "a.png", transparency=(1, 2, 3))).tolist() == [[[255] * 3, [4, 5, 6]]]

    def test_grey_with_alpha(self, tmp_path):
        array = np.array([[[100, 255], [100, 0]]], dtype=np.uint8)
        assert pixels(saved(Image.fromarray(array), tmp_path / "a.png")).tolist() == [[[100] * 3, [255] * 3]]

    def test_cmyk_jpeg(self, tmp_path):
        picture = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # no cyan, full magenta and yellow: red
        assert (
            np.abs(pixels(saved(picture, tmp_path / "a.jpg", quality=100))[0, 0].astype(int) - [255, 0, 0]).max() <= 2
        )

    def test_16_bit_grey_is_scaled_not_clipped(self, tmp_path):
        array = np.array([[0, 257, 257 * 100, 65535, 300]], dtype=np.uint16)
        assert pixels(saved(Image.fromarray(array), tmp_path / "a.png"))[0, :, 0].tolist() == [0, 1, 100, 255, 1]
        assert pixels(saved(Image.fromarray(array), tmp_path / "a.tif"))[0, :, 1].tolist() == [0, 1, 100, 255, 1]

    def test_numbers_of_32_bits_that_may_be_of_8_or_16_bits_are_refused(self, tmp_path):
        few, many = (np.array([[0, 200, most]], dtype=np.int32) for most in (255, 65535))
        with pytest.raises(InputError, match=r"its pixels are 32-bit numbers from 0 to 255, and it is not known"):
            read_picture(saved(Image.fromarray(few), tmp_path / "a.tif"))
        assert pixels(saved(Image.fromarray(many), tmp_path / "b.tif"))[0, :, 0].tolist() == [0, 1, 255]
        # 16 bits are known to be 16 bits, however dark they are
        assert pixels(saved(Image.fromarray(few.astype(np.uint16)), tmp_path / "c.png"))[0, :, 0].tolist() == [0, 1, 1]

    @pytest.mark.parametrize("mode", ["RGB", "L"])
    def test_an_open_picture_is_the_same_input_as_its_file(self, tmp_path, mode):
        # a library is mined from files; a picture that is open must not be explained with other pixels
        colours = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4) * 10
        turned = Image.Exif()
        turned[274] = 6
        paths = [
            saved(Image.fromarray(np.array([[0, 300, 4000, 65535]], dtype=np.uint16)), tmp_path / "grey16.png"),
            saved(Image.fromarray(colours, "RGBA"), tmp_path / "transparent.png"),
            saved(Image.fromarray(colours[..., :3].copy()), tmp_path / "turned.png", exif=turned),
        ]
        for path in paths:
            with Image.open(path) as picture:
                found = Preprocessing(mode=mode).to_input(picture)
            assert torch.equal(found, Preprocessing(mode=mode).to_input(read_picture(path))), path
        with pytest.raises(InputError, match=r"^The picture cannot be used: its pixels are floating-point numbers;"):
            Preprocessing(mode=mode).to_input(Image.fromarray(np.ones((2, 2), dtype=np.float32)))

    @pytest.mark.parametrize(
        ("orientation", "turn"),
        [
            (1, np.copy),
            (2, np.fliplr),
            (3, lambda picture: np.rot90(picture, 2)),
            (4, np.flipud),
            (6, lambda picture: np.rot90(picture, -1)),
            (8, np.rot90),
        ],
    )
    def test_rotation_by_exif_is_applied(self, tmp_path, orientation, turn):
        exif = Image.Exif()
        exif[0x0112] = orientation
        assert np.array_equal(pixels(saved(Image.fromarray(GRADIENT), tmp_path / "a.png", exif=exif)), turn(GRADIENT))

    def test_first_frame_of_an_animation(self, tmp_path):
        frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
        path = saved(frames[0], tmp_path / "a.gif", save_all=True, append_images=frames[1:])
        assert pixels(path)[0, 0].tolist() == [255, 0, 0]

    def test_pages_of_one_size_are_refused(self, tmp_path):
        pages = [Image.new("L", (8, 8), value) for value in (200, 10, 90)]
        path = saved(pages[0], tmp_path / "a.tif", save_all=True, append_images=pages[1:])
        with pytest.raises(InputError, match=r"a\.tif' cannot be read: it has 3 pages of one size"):
            pixels(path)
        smaller = pages[1].resize((4, 4))
        path = saved(pages[0], tmp_path / "b.tif", save_all=True, append_images=[smaller])
        assert pixels(path)[0, 0].tolist() == [200, 200, 200]

    @pytest.mark.parametrize("suffix", ["webp", "bmp", "ppm", "tif"])
    def test_other_formats(self, tmp_path, suffix):
        path = saved(
            Image.fromarray(GRADIENT), tmp_path / f"a.{suffix}", **({"lossless": True} if suffix == "webp" else {})
        )
        assert np.array_equal(pixels(path), GRADIENT)

    def test_suffix_does_not_matter(self, tmp_path):
        assert np.array_equal(pixels(saved(Image.fromarray(GRADIENT), tmp_path / "a.jpg", format="PNG")), GRADIENT)


class TestReadPictureRefuses:
    def refused(self, path):
        with pytest.raises(InputError) as caught:
            read_picture(path)
        assert "\n" not in str(caught.value)
        return str(caught.value).replace(str(path), "FILE")

    def test_missing(self, tmp_path):
        assert self.refused(tmp_path / "none.png") == "There is no picture file 'FILE'."

    def test_folder(self, tmp_path):
        assert self.refused(tmp_path) == "'FILE' is a folder, not a picture file."

    def test_text(self, tmp_path):
        (tmp_path / "a.png").write_text("once upon a time there was a picture")
        assert (
            self.refused(tmp_path / "a.png")
            == "'FILE' is not a picture: it is a text that begins with 'once upon a time the'."
        )

    def test_empty(self, tmp_path):
        (tmp_path / "a.png").touch()
        assert self.refused(tmp_path / "a.png") == "'FILE' is not a picture: the file is empty."

    def test_other_bytes(self, tmp_path):
        (tmp_path / "a.png").write_bytes(bytes(range(200, 256)))
        assert (
            self.refused(tmp_path / "a.png")
            == "'FILE' is not a picture: it has no picture format that Pillow knows."
        )

    @pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "tif", "webp"])
    def test_cut_off(self, tmp_path, suffix):
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        path = saved(Image.fromarray(noise), tmp_path / f"a.{suffix}")
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        assert self.refused(path).startswith(
            ("The picture 'FILE' is damaged and cannot be read (", "'FILE' is not a picture: ")
        )

    def test_decompression_bomb(self, tmp_path):
        header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
        chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
        (tmp_path / "a.png").write_bytes(
            b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
        )
        assert self.refused(tmp_path / "a.png") == (
            "The picture 'FILE' has more than the 178,956,970 pixels allowed (PIL.Image.MAX_IMAGE_PIXELS); make it "
            "smaller."
        )

    def test_floating_point_pixels(self, tmp_path):
        path = saved(Image.fromarray(np.ones((4, 4), dtype=np.float32)), tmp_path / "a.tif")
        assert self.refused(path) == (
            "The picture 'FILE' cannot be read: its pixels are floating-point numbers; save it with 8 or 16 bits."
        )

    @settings(max_examples=150, deadline=None)
    @given(position=st.floats(0, 1), byte=st.integers(0, 255), suffix=st.sampled_from(["jpg", "png", "gif", "webp"]))
    def test_one_changed_byte_gives_a_picture_or_a_sentence(self, tmp_path_factory, position, byte, suffix):
        path = tmp_path_factory.mktemp("changed") / f"a.{suffix}"
        Image.fromarray(GRADIENT).save(path)
        content = bytearray(path.read_bytes())
        content[int(position * (len(content) - 1))] = byte
        path.write_bytes(content)
        try:
            outcome = read_picture(path).mode
        except InputError as error:
            outcome = str(error)
        assert outcome == "RGB" or (str(path) in outcome and "\n" not in outcome)


class TestPreprocessing:
    def test_scales_and_normalises_by_hand(self):
        picture = np.array([[[0, 51, 255], [255, 102, 0]]], dtype=np.uint8)
        made = Preprocessing(mean=(0.5, 0.2, 0.0), std=(0.5, 0.1, 2.0)).to_input(picture)
        expected = [[[-1.0, 1.0]], [[0.0, 2.0]], [[0.5, 0.0]]]
        assert (made.dtype, made.shape) == (torch.float32, (3, 1, 2))
        assert torch.allclose(made, torch.tensor(expected), atol=1e-6)

    def test_default_is_zero_to_one(self):
        assert Preprocessing() == Preprocessing(mean=(0, 0, 0), std=(1, 1, 1))
        assert torch.equal(Preprocessing().to_input(GRADIENT), torch.from_numpy(GRADIENT).permute(2, 0, 1) / 255)

    def test_every_value_is_that_of_the_formula_in_float32(self):
        picture = np.arange(256 * 3, dtype=np.uint32).reshape(16, 16, 3).astype(np.uint8)
        preprocessing = Preprocessing.imagenet()
        made = Preprocessing(mean=preprocessing.mean, std=preprocessing.std).to_input(picture)
        pixels = torch.from_numpy(picture).permute(2, 0, 1) / 255
        mean, std = (torch.tensor(values)[:, None, None] for values in (preprocessing.mean, preprocessing.std))
        assert torch.equal(made, (pixels - mean) / std)
        assert made.is_contiguous()

    def test_grey(self):
        made = Preprocessing(mode="L", mean=0.5).to_input(GRADIENT[..., :1])
        assert torch.allclose(made, torch.from_numpy(GRADIENT[None, ..., 0]) / 255 - 0.5)

    @pytest.mark.parametrize("shape", [(300, 400), (401, 300), (256, 256), (100, 333), (257, 311)])
    @pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
    def test_is_what_torchvision_does(self, shape, interpolation):
        import_zennit_safely()
        transforms = pytest.importorskip("torchvision.transforms")
        picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8))
        theirs = transforms.Compose([
            transforms.Resize(64, interpolation=transforms.InterpolationMode(interpolation)), transforms.CenterCrop(51),
            transforms.ToTensor(), transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ])  # fmt: skip
        ours = Preprocessing(
            size=64, crop=51, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), interpolation=interpolation
        )
        assert torch.allclose(ours.to_input(picture), theirs(picture), atol=1e-6)

    def test_exact_size_and_pair_crop(self):
        assert Preprocessing(size=(20, 50), crop=(10, 40)).to_input(GRADIENT).shape == (3, 10, 40)

    @settings(max_examples=50, deadline=None)
    @given(seed=st.integers(0, 2**32 - 1), mean=st.floats(-2, 2), std=st.floats(0.01, 10), grey=st.booleans())
    def test_to_picture_undoes_to_input(self, seed, mean, std, grey):
        picture = np.random.default_rng(seed).integers(0, 256, (3, 5, 1 if grey else 3), dtype=np.uint8)
        preprocessing = Preprocessing(mean=mean, std=std, mode="L" if grey else "RGB")
        assert np.array_equal(
            preprocessing.to_picture(preprocessing.to_input(picture)), np.broadcast_to(picture, (3, 5, 3))
        )

    def test_to_picture_clips(self):
        assert Preprocessing(mode="L").to_picture(torch.tensor([[[-3.0, 0.4, 9.0]]]))[0, :, 0].tolist() == [0, 102, 255]

    @settings(max_examples=50, deadline=None)
    @given(
        size=st.none() | st.integers(1, 999) | st.tuples(st.integers(1, 999), st.integers(1, 999)),
        mean=st.tuples(*[st.floats(-9, 9)] * 3),
        std=st.tuples(*[st.floats(0.001, 9)] * 3),
    )
    def test_json_and_back(self, size, mean, std):
        preprocessing = Preprocessing(size=size, crop=size, mean=mean, std=std, interpolation="lanczos")
        assert Preprocessing.from_json(json.loads(json.dumps(preprocessing.to_json()))) == preprocessing

    @pytest.mark.parametrize(
        "settings_, sentence",
        [
            ({"size": 0}, "The size is 0; it must be a number of pixels above 0, or a pair (height, width)."),
            (
                {"crop": (3, -1)},
                "The crop is (3, -1); it must be a number of pixels above 0, or a pair (height, width).",
            ),
            (
                {"size": "large"},
                "The size is 'large'; it must be a number of pixels above 0, or a pair (height, width).",
            ),
            ({"mean": (0, 0)}, "The mean is (0, 0); it must be one finite number, or 3, one per channel."),
            ({"mean": float("nan")}, "The mean is nan; it must be one finite number, or 3, one per channel."),
            ({"std": (1, 0, 1)}, "The std is (1.0, 0.0, 1.0); every value must be above 0."),
            ({"mode": "RGBA"}, "The mode is 'RGBA'; did you mean 'RGB'?"),
            ({"interpolation": "cubic"}, "The interpolation is 'cubic'; did you mean 'bicubic'?"),
        ],
    )
    def test_refuses(self, settings_, sentence):
        with pytest.raises(InputError) as caught:
            Preprocessing(**settings_)
        assert str(caught.value) == sentence

    def test_refuses_unknown_entries(self):
        with pytest.raises(InputError, match=r"^Preprocessing has no entry 'crops'; did you mean 'crop'\?$"):
            Preprocessing.from_json({"crops": 3})
        for name in ("mode", "interpolation"):
            with pytest.raises(InputError, match=rf"^The {name} is \{{\}}; there are "):
                Preprocessing.from_json({name: {}})

    def test_refuses_a_crop_larger_than_the_picture(self):
        with pytest.raises(InputError) as caught:
            Preprocessing(crop=64).to_input(GRADIENT)
        assert str(caught.value) == (
            "The crop of 64 x 64 pixels does not fit into a picture of 30 x 40; "
            "give a size (now None) that makes pictures at least as large as the crop."
        )

    def test_refuses_arrays_that_are_no_pictures(self):
        with pytest.raises(
            InputError, match=r"^A picture array is uint8 \[H, W, 3\], \[H, W, 1\] or \[H, W\], not float64 \[4, 4\]\.$"
        ):
            Preprocessing().to_input(np.zeros((4, 4)))

    def test_refuses_inputs_of_other_channels(self):
        with pytest.raises(InputError, match=r"^An input of mode 'RGB' has shape \[3, H, W\], not \[1, 4, 4\]\.$"):
            Preprocessing().to_picture(torch.zeros(1, 4, 4))


class TestScaledPicture:
    def test_smallest_is_black_and_largest_white(self):
        assert scaled_picture(torch.tensor([[[-1.0, 0.0, 4.0]]]))[0].tolist() == [[0] * 3, [51] * 3, [255] * 3]

    def test_other_channel_counts_are_averaged(self):
        assert scaled_picture(torch.tensor([[[0.0, 2.0]], [[0.0, 4.0]]]))[0].tolist() == [[0] * 3, [255] * 3]

    def test_constant_is_black(self):
        assert scaled_picture(torch.full((3, 2, 2), 7.0)).max() == 0
