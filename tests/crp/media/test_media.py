"""Media, their files, and the transform of sounds."""

import json
import struct
import wave
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from crp.errors import InputError
from crp.media import Axis, Medium, Recording, Stft, preprocessing_from, read_recording
from crp.media.any_preprocessing import read_input
from crp.media.sound import wav_bytes
from crp.preprocessing import Preprocessing, read_picture

VALUES = np.array([[0.0, 0.5, -1.0, 1.0], [0.25, -0.25, 0.0, 0.125]], dtype=np.float32)


class TestStft:
    def test_the_layer_computes_what_the_function_and_torch_compute(self):
        stft = Stft(rate=1000, window=32, hop=8)
        samples = torch.randn(2, 1, 200, generator=torch.Generator().manual_seed(0))
        found = stft.layer()(samples)
        assert found.shape == (2, 1, 16, 22)
        for one, expected in zip(found, samples, strict=True):
            np.testing.assert_allclose(one.numpy(), stft(expected.numpy()), atol=1e-6)
        window = torch.hann_window(32)
        reference = torch.stft(samples[:, 0], 32, 8, window=window, center=False, return_complex=True).abs()
        torch.testing.assert_close(found[:, 0], reference[:, :-1] / (window.sum() / 2), atol=1e-5, rtol=1e-5)

    def test_a_tone_has_its_amplitude_at_its_frequency(self):
        stft = Stft(rate=2000, window=128, hop=32)
        tone = 0.7 * np.sin(2 * np.pi * 500 * np.arange(2000) / 2000)[None]
        magnitude = stft(tone.astype(np.float32))[0]
        assert (stft.frequencies[magnitude.argmax(0)] == 500).all()
        assert magnitude.max() == pytest.approx(0.7, abs=1e-3)

    def test_samples_are_found_for_magnitudes(self):
        stft = Stft(rate=2000, window=64, hop=16)
        time = np.arange(1600) / 2000
        magnitude = stft((np.sin(2 * np.pi * 300 * time) + 0.5 * np.sin(2 * np.pi * 700 * time))[None])[0]
        found = stft.samples(magnitude)
        assert found.shape == (1600,)
        away = np.linalg.norm(stft(found[None])[0] - magnitude) / np.linalg.norm(magnitude)
        assert away < 0.2
        np.testing.assert_array_equal(found, stft.samples(magnitude))

    def test_refusals(self):
        with pytest.raises(InputError, match=r"^a short-time Fourier transform has .* the window 5 and the hop 2\.$"):
            Stft(10, 5, 2)
        with pytest.raises(InputError, match=r"T >= 32, not from shape \[1, 20\]\.$"):
            Stft(1000, 32, 8)(np.zeros((1, 20)))


class TestImages:
    VALUES = np.array([[[0, 4095]], [[100, 300]], [[5, 5]], [[-1, 3]]], dtype=np.float32)

    def test_chosen_channels_are_drawn_between_the_limits(self):
        image = Medium.image(("a", "b", "c", "d"), shown=("d", "b", 0), limits=(0, 200), unit="counts")
        assert image.shown == (3, 1, 0)
        # -1 is dark, 3 / 200 is 3.8 of 255; 100 / 200; 4095 is as bright as can be
        assert image.to_picture(self.VALUES).tolist() == [[[0, 128, 0], [4, 255, 255]]]
        assert image.display() == (
            "Of 4 channels, d is drawn as red, b as green and a as blue, from 0 counts (dark) to 200 counts (bright); "
            "values beyond look like the nearer of the two."
        )

    def test_by_default_each_of_the_first_three_has_its_own_range(self):
        assert Medium.image().to_picture(self.VALUES).tolist() == [[[0, 0, 0], [255, 255, 0]]]
        assert Medium.image().to_picture(self.VALUES[:2]).tolist() == [[[0, 0, 0], [255, 255, 255]]]
        one = Medium.image(("dapi", "gfp"), shown=[1])
        assert one.to_picture(self.VALUES[:2]).tolist() == [[[0, 0, 0], [255, 255, 255]]]
        assert one.display().startswith("Of 2 channels, gfp is drawn as grey; in every picture")
        assert Medium.image(shown=(3, 1, 0)).display().startswith("Channel 3 is drawn as red, channel 1 as green and")

    def test_refusals(self):
        for wrong, message in (
            ({"channels": ("red", "nir"), "shown": ("nri",)}, r"^There is no channel 'nri'; did you mean 'nir'\?$"),
            ({"shown": (0, 1)}, r"^One channel is drawn as grey, or three in colour, not 2\.$"),
            ({"channels": ("a", "b"), "shown": (2,)}, r"^There is no channel 2; they count from 0 to 1\.$"),
            ({"shown": (-1,)}, r"^There is no channel -1; they count from 0\.$"),
            ({"channels": ("a", "b", "c"), "shown": "abc"}, r"^shown is 'abc'; it must be a list of one channel"),
            ({"shown": 1}, r"^shown is 1; it must be a list of one channel or of three\.$"),
            ({"channels": "red"}, r"^channels is 'red'; it must be a list of names\.$"),
            ({"channels": ("a", "b", "a")}, r"^Two channels are named 'a'; each needs a name of its own\.$"),
            ({"limits": (3, 3)}, r"^The limits are 3 and 3; they must be finite, the smaller first\.$"),
            ({"limits": (0, float("inf"))}, r"^The limits are 0 and inf; they must be finite"),
            ({"limits": 4095}, r"^limits is 4095; it must be two numbers\.$"),
        ):
            with pytest.raises(InputError, match=message):
                Medium.image(**wrong)
        with pytest.raises(InputError, match=r"^Channel 2 is to be drawn, and the image has 1 channels\.$"):
            Medium.image(shown=(0, 1, 2)).to_picture(self.VALUES[:1])
        # names of other channels than there are would stand on pages
        names = Medium.image(("a", "b", "c")), Medium.signal(1, channels=("a",))
        for medium, values in zip(names, (self.VALUES[:2], VALUES), strict=True):
            named = len(medium.channels)
            with pytest.raises(InputError, match=rf"^The input has 2 channels, but {named} are named\.$"):
                medium.to_picture(values)

    def test_pixels_of_any_depth_are_read_as_they_are(self, tmp_path):
        pages = [Image.fromarray(np.full((2, 3), value, dtype=np.uint16)) for value in (7, 4095, 60000)]
        pages[0].save(tmp_path / "many.tif", save_all=True, append_images=pages[1:])
        found = read_recording(tmp_path / "many.tif").values
        assert (found.dtype, found.shape, found[:, 0, 0].tolist()) == (np.float32, (3, 2, 3), [7, 4095, 60000])
        pages[2].save(tmp_path / "one.png")
        assert read_recording(tmp_path / "one.png").values.max() == 60000
        Image.fromarray(np.arange(12, dtype=np.uint8).reshape(2, 2, 3)).save(tmp_path / "rgb.png")
        assert read_recording(tmp_path / "rgb.png").values[:, 0, 1].tolist() == [3, 4, 5]
        palette = Image.fromarray(np.array([[200, 0]], dtype=np.uint8)).convert("RGB").quantize()
        palette.save(tmp_path / "palette.png")
        assert read_recording(tmp_path / "palette.png").values[:, 0].tolist() == [[200, 0]] * 3
        data, medium = read_input(tmp_path / "many.tif", Medium.image(("x", "y", "z")))
        assert (data.shape, medium.kind) == ((3, 2, 3), "image")

    def test_what_pillow_would_cut_to_8_bits_is_refused(self, tmp_path):
        def chunk(name: bytes, content: bytes) -> bytes:
            return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

        pixels = zlib.compress(b"\0" + struct.pack(">3H", 60000, 300, 7))
        parts = [(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)), (b"IDAT", pixels), (b"IEND", b"")]
        path = tmp_path / "rgb16.png"
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))
        with pytest.raises(InputError, match=r"rgb16\.png' holds values of more than 8 bits in a way that Pillow"):
            read_recording(path)


    def test_colours_of_8_bits_are_read_wherever_the_file_keeps_its_tags(self, tmp_path):
        # compressed, Pillow tells the place of the tags (here often with the digits 16) beside the kind of values
        rng = np.random.default_rng(0)
        for width in range(8, 68):
            values = rng.integers(0, 256, (16, width, 3), dtype=np.uint8)
            Image.fromarray(values).save(tmp_path / "rgb.tif", compression="tiff_lzw")
            np.testing.assert_array_equal(read_recording(tmp_path / "rgb.tif").values, values.transpose(2, 0, 1))

    @staticmethod
    def tiff(values: np.ndarray, sign: int, planes: int = 1) -> bytes:
        """Return a TIFF of values `[c, H, W]`, each channel for itself; more than one are colours."""
        channels, rows, columns = values.shape
        content, size = values.tobytes(), values.nbytes // channels
        table = {
            256: (4, [columns]), 257: (4, [rows]), 258: (3, [8 * values.itemsize] * channels), 259: (3, [1]),
            262: (3, [2 if channels > 1 else 1]), 273: (4, [8 + i * size for i in range(channels)]),
            277: (3, [channels]), 278: (4, [rows]), 279: (4, [size] * channels), 284: (3, [planes]),
            339: (3, [sign] * channels),
        }  # fmt: skip
        entries = b""
        for tag, (kind, numbers) in table.items():  # what does not fit into 4 bytes stands after the values
            stored = struct.pack(f"<{len(numbers)}{'H' if kind == 3 else 'I'}", *numbers)
            if len(stored) > 4:
                content, stored = content + stored, struct.pack("<I", 8 + len(content))
            entries += struct.pack("<HHI", tag, kind, len(numbers)) + stored.ljust(4, b"\0")
        header = struct.pack("<2sHI", b"II", 42, 8 + len(content))
        return header + content + struct.pack("<H", len(table)) + entries + bytes(4)

    @pytest.mark.parametrize(
        ("values", "sign"),
        [
            (np.array([[[-128, -1], [0, 127]]], dtype=np.int8), 2),
            (np.array([[[-32768, -1], [0, 32767]]], dtype=np.int16), 2),
            (np.array([[[-(2**31), -256], [0, 2**30]]], dtype=np.int32), 2),
            (np.array([[[2**32 - 256, 2**31], [0, 7]]], dtype=np.uint32), 1),
            (np.array([[[200, 1], [0, 7]], [[1, 2], [3, 4]], [[5, 6], [7, 8]]], dtype=np.uint8), 1),
        ],
    )
    def test_signs_of_a_tiff_are_kept(self, tmp_path, values, sign):
        (tmp_path / "a.tif").write_bytes(self.tiff(values, sign, planes=2 if len(values) > 1 else 1))
        np.testing.assert_array_equal(read_recording(tmp_path / "a.tif").values, values.astype(np.float32))

    @pytest.mark.parametrize("channels", [1, 3])
    def test_channels_of_16_bits_one_after_the_other_are_refused(self, tmp_path, channels):
        # without a word, Pillow reads bytes of their neighbours as values
        values = np.full((channels, 2, 2), 3000, dtype=np.uint16)
        (tmp_path / "a.tif").write_bytes(self.tiff(values, 1, planes=2))
        with pytest.raises(InputError, match=r"a\.tif' holds values of more than 8 bits in a way that Pillow"):
            read_recording(tmp_path / "a.tif")

    @pytest.mark.parametrize(("dtype", "most"), [(np.uint8, 255), (np.uint16, 65535)])
    def test_white_as_zero_is_refused_as_values_and_inverted_as_a_picture(self, tmp_path, dtype, most):
        # Pillow inverts files of 8 bits, when it reads and when it writes them, and none of 16
        stored = np.array([[0, 0], [0, most]], dtype=dtype)
        content = self.tiff(stored[None], 1)
        black, white = (struct.pack("<HHIHH", 262, 3, 1, meaning, 0) for meaning in (1, 0))
        assert content.count(black) == 1
        (tmp_path / "a.tif").write_bytes(content.replace(black, white))
        with pytest.raises(InputError, match=r"a\.tif' stores white as 0 \(WhiteIsZero\), and readers disagree"):
            read_recording(tmp_path / "a.tif")
        assert np.asarray(read_picture(tmp_path / "a.tif"))[..., 0].tolist() == [[255, 255], [255, 0]]

    def test_a_page_of_more_channels_than_are_read_is_refused(self, tmp_path):
        image = Image.fromarray(np.zeros((4, 4, 4), dtype=np.uint8), "RGBA")
        image.save(tmp_path / "nir.tif")
        content = (tmp_path / "nir.tif").read_bytes()
        opacity, other = (struct.pack("<HHII", 338, 3, 1, meaning) for meaning in (2, 0))
        assert opacity in content
        (tmp_path / "nir.tif").write_bytes(content.replace(opacity, other))
        with pytest.raises(InputError, match=r"nir\.tif' has 4 channels, of which Pillow reads 3; save each as a page"):
            read_recording(tmp_path / "nir.tif")
        image.convert("RGB").save(tmp_path / "wide.tif", tiffinfo={339: (3, 3, 3)})
        with pytest.raises(InputError, match=r"wide\.tif' is damaged, or of a kind that Pillow does not read"):
            read_recording(tmp_path / "wide.tif")


class TestMedium:
    def test_a_rate_is_a_positive_number(self):
        for make in (Medium.signal, Medium.audio, Medium.video):
            for rate in (0, -25, float("inf"), "25"):
                with pytest.raises(InputError, match=r"^The rate is .*; it must be a positive number of values"):
                    make(rate)

    def test_a_channel_never_passes_for_another_whose_name_is_needed(self):
        values = np.arange(6, dtype=np.float32).reshape(2, 3)
        medium = Medium.signal(1, channels=("C3", "C4"))
        with pytest.raises(InputError, match=r"^it has no channel 'C3'; its channels are 'C4', 'Cz'\.$"):
            medium.of_recording(Recording(values, 1.0, ("C4", "Cz")))
        assert medium.of_recording(Recording(values, 1.0, ("C4", "C3")))[0][:, 0].tolist() == [3, 0]
        # names of another kind: the order counts, as in files without names
        assert medium.of_recording(Recording(values, 1.0, ("EEG 1", "EEG 2")))[0][:, 0].tolist() == [0, 3]

    def test_a_name_that_a_file_gives_to_two_channels_is_refused(self):
        values, names = np.zeros((3, 4), dtype=np.float32), ("T8-P8", "Cz", "T8-P8")
        assert Medium.signal(1, channels=("Cz",)).of_recording(Recording(values, 1.0, names))[0].shape == (1, 4)
        with pytest.raises(InputError, match=r"^it has 2 channels named 'T8-P8', and one is needed\.$"):
            Medium.signal(1, channels=("Cz", "T8-P8")).of_recording(Recording(values, 1.0, names))

    def test_json_keeps_it_and_a_library_tells_it_from_pictures(self):
        for medium in (
            Medium.signal(250, channels=("C3", "C4"), unit="µV"),
            Medium.audio(8000),
            Medium.spectrogram(Stft(2000, 128, 32)),
            Medium.volume((3, 2, 2), affine=np.diag([2, 2, 3, 1])),
            Medium.video(25),
            Medium.image(("a", "b", "c", "d"), shown=(3, 1, 0), limits=(0, 4095)),
        ):
            assert preprocessing_from(json.loads(json.dumps(medium.to_json()))) == medium
        assert preprocessing_from(Preprocessing(size=8).to_json()) == Preprocessing(size=8)

    def test_a_frame_lies_where_its_middle_is(self):
        frequency, time = Medium.spectrogram(Stft(2000, 128, 32)).axes
        assert (frequency.at(16), time.at(0), time.at(10)) == (250.0, 0.032, pytest.approx(0.192))

    def test_samples_become_a_spectrogram(self):
        medium = Medium.spectrogram(Stft(2000, 128, 32))
        assert medium.to_input(np.zeros(4000)).shape == (1, 64, 122)
        assert medium.to_input(np.zeros((1, 64, 122))).shape == (1, 64, 122)

    @pytest.mark.parametrize(
        ("medium", "values", "message"),
        [
            (Medium.signal(10, channels=("a", "b")), np.zeros((3, 9)), r"^It has 3 channels, and the model takes 2\.$"),
            (Medium.volume(), np.zeros((4, 4)), r"^An input of kind 'volume' has 4 axes, .* given \[4, 4\]\.$"),
            (Medium.audio(10), np.zeros((1, 0)), r"^An input of kind 'audio' has 2 axes, .* given \[1, 0\]\.$"),
        ],
    )
    def test_other_shapes_are_refused(self, medium, values, message):
        with pytest.raises(InputError, match=message):
            medium.to_input(values)

    def test_wrong_descriptions_are_refused(self):
        with pytest.raises(InputError, match=r"^There is no kind of input 'sound'; "):
            Medium("sound", (Axis("time"),))
        with pytest.raises(InputError, match=r"^A volume has 3 axes besides channels, given 1\.$"):
            Medium("volume", (Axis("time"),))
        with pytest.raises(InputError, match=r"^A medium has no entry 'axis'; "):
            Medium.from_json({"kind": "audio", "axis": []})
        with pytest.raises(InputError, match=r'^An input of kind .audio. needs "axes", a list of one axis besides'):
            Medium.from_json({"kind": "audio"})
        with pytest.raises(InputError, match=r'^An input of kind .volume. needs "axes", a list of 3 axes .* given 5'):
            Medium.from_json({"kind": "volume", "axes": 5})
        with pytest.raises(InputError, match=r"^An axis has no entry 'steps'; did you mean 'step'\?$"):
            Medium.from_json({"kind": "audio", "axes": [{"name": "time", "steps": 1}]})
        with pytest.raises(InputError, match=r"^There is no kind of input None; "):
            Medium.from_json({"axes": []})
        with pytest.raises(InputError, match=r"^this description of an input is damaged: TypeError"):
            Medium.from_json({"kind": "audio", "axes": [{"name": "time", "step": 1}], "stft": {"rates": 1}})


class TestFiles:
    def test_arrays(self, tmp_path):
        np.save(tmp_path / "a.npy", VALUES)
        np.testing.assert_array_equal(read_recording(tmp_path / "a.npy").values, VALUES)
        np.save(tmp_path / "b.npy", np.array(["a"]))
        with pytest.raises(InputError, match="numbers are needed"):
            read_recording(tmp_path / "b.npy")

    @pytest.mark.parametrize("width", [1, 2, 3, 4])
    def test_sounds_of_every_width(self, tmp_path, width):
        levels = np.array([0, 2 ** (8 * width - 2), -(2 ** (8 * width - 1))], dtype=np.int64)
        shifted = levels + (128 if width == 1 else 0)
        content = b"".join(int(level).to_bytes(width, "little", signed=width > 1) for level in shifted)
        with wave.open(str(tmp_path / "a.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(width)
            file.setframerate(8000)
            file.writeframes(content)
        found = read_recording(tmp_path / "a.wav")
        assert (found.rate, found.values.tolist()) == (8000, [[0, 0.5, -1]])

    def test_a_written_sound_is_read_back(self, tmp_path):
        (tmp_path / "a.wav").write_bytes(wav_bytes(VALUES, 100))
        found = read_recording(tmp_path / "a.wav")
        assert found.rate == 100
        np.testing.assert_allclose(found.values, VALUES, atol=1e-4)

    def test_tables_with_and_without_names_and_times(self, tmp_path):
        (tmp_path / "a.csv").write_text("Time,left,right\n0,0,1\n0.004,2,3\n0.008,4,5\n")
        found = read_recording(tmp_path / "a.csv")
        assert (found.rate, found.channels, found.values.tolist()) == (250, ("left", "right"), [[0, 2, 4], [1, 3, 5]])
        (tmp_path / "b.csv").write_text("0,1\n2,3\n")
        found = read_recording(tmp_path / "b.csv")
        assert (found.rate, found.channels, found.values.tolist()) == (None, (), [[0, 2], [1, 3]])
        (tmp_path / "c.csv").write_text("t,a\n0,1\n1,2\n5,3\n")
        with pytest.raises(InputError, match="not evenly spaced: from 1 to 4 s"):
            read_recording(tmp_path / "c.csv")

    def test_edf(self, tmp_path):
        edfio = pytest.importorskip("edfio")
        signals = [edfio.EdfSignal(np.arange(100.0) * sign, 50, label=name) for sign, name in ((1, "C3"), (-1, "C4"))]
        edfio.Edf(signals).write(tmp_path / "a.edf")
        found = read_recording(tmp_path / "a.edf")
        assert (found.rate, found.channels) == (50, ("C3", "C4"))
        np.testing.assert_allclose(found.values, [np.arange(100), -np.arange(100)], atol=0.01)

    def test_nifti_keeps_its_affine(self, tmp_path):
        nibabel = pytest.importorskip("nibabel")
        affine = np.diag([2.0, 2.0, 3.0, 1.0])
        values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
        nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / "a.nii.gz")
        data, medium = read_input(tmp_path / "a.nii.gz", Medium.volume())
        assert data.shape == (1, 2, 3, 4)
        assert [axis.step for axis in medium.axes] == [2, 2, 3]
        np.testing.assert_array_equal(medium.affine, affine)

    def test_channels_are_taken_by_name_and_rates_compared(self):
        medium = Medium.signal(100, channels=("b", "a"))
        data, _ = medium.of_recording(Recording(VALUES, 100, ("a", "b")))
        np.testing.assert_array_equal(data.numpy(), VALUES[::-1])
        with pytest.raises(InputError, match=r"^it has 50 values per second, and the model was given 100; resample it"):
            medium.of_recording(Recording(VALUES, 50, ("a", "b")))

    def test_refusals_name_the_file(self, tmp_path):
        (tmp_path / "a.txt").write_text("x")
        with pytest.raises(InputError, match=r"a\.txt' is not a file with numbers; these end in '\.npy'"):
            read_recording(tmp_path / "a.txt")
        with pytest.raises(InputError, match=r"^There is no file '.*b\.npy'\.$"):
            read_recording(tmp_path / "b.npy")
        np.save(tmp_path / "c.npy", np.array([np.nan]))
        with pytest.raises(InputError, match=r"c\.npy' holds NaN or infinite values\.$"):
            read_recording(tmp_path / "c.npy")
        (tmp_path / "d.npy").write_bytes(b"broken")
        with pytest.raises(InputError, match=r"d\.npy' is damaged and cannot be read"):
            read_recording(tmp_path / "d.npy")
        np.save(tmp_path / "e.npy", np.zeros((3, 5)))
        with pytest.raises(InputError, match=r"^'.*e\.npy': It has 3 channels, and the model takes 1\.$"):
            read_input(tmp_path / "e.npy", Medium.signal(10, channels=("x",)))
