"""Files of videos: frames of one colour each, written by the package that reads them."""

import struct
import sys
from fractions import Fraction

import numpy as np
import pytest

from crp.errors import InputError
from crp.media import Medium, read_recording

COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255))


def written(path, codec, rate, times=None):
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height = 32, 16
        stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        for place, colour in enumerate(COLOURS):
            frame = av.VideoFrame.from_ndarray(np.full((16, 32, 3), colour, dtype=np.uint8), format="rgb24")
            frame.pts, frame.time_base = (times or range(9))[place], 1 / Fraction(rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.mark.parametrize(
    ("name", "codec", "rate", "told"),
    [
        ("a.mp4", "mpeg4", 25, 25.0),
        ("a.mp4", "mpeg4", Fraction(30000, 1001), 29.97),
        ("a.webm", "libvpx", 30, 30.0),
        ("a.gif", "gif", 10, 10.0),
    ],
)
def test_frames_and_their_rate(tmp_path, name, codec, rate, told):
    written(tmp_path / name, codec, rate)
    recording = read_recording(tmp_path / name)
    assert recording.values.shape == (3, 4, 16, 32)
    assert recording.rate == pytest.approx(told, rel=1e-5)
    np.testing.assert_allclose(recording.values[:, :, 8, 16].T, COLOURS, atol=24)  # what the codec loses
    data, medium = Medium.video(float(rate)).of_recording(recording)
    assert (data.shape, medium.axes[0].unit) == ((3, 4, 16, 32), "s")
    with pytest.raises(InputError, match=r"^it has .* values per second, and the model was given 24; resample it"):
        Medium.video(24).of_recording(recording)


def test_a_phone_held_upright(tmp_path):
    # the matrix of a track says that its frames are shown turned clockwise by 90 degrees
    av = pytest.importorskip("av")
    picture = np.zeros((16, 32, 3), dtype=np.uint8)
    picture[:, :16, 0] = 255
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    plain = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    turned = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 16 << 16, 0, 1 << 30)
    movie, track, rest = (tmp_path / "a.mp4").read_bytes().split(plain)
    (tmp_path / "a.mp4").write_bytes(movie + plain + track + turned + rest)
    values = read_recording(tmp_path / "a.mp4").values
    assert values.shape == (3, 1, 32, 16)
    assert values[0, 0, 4, 8] > 200
    assert values[0, 0, 28, 8] < 50


def test_frames_that_are_missing_are_not_taken_for_others(tmp_path):
    written(tmp_path / "a.mp4", "mpeg4", 25, times=(0, 1, 2, 7))
    with pytest.raises(InputError, match=r"the frames of '.*a\.mp4' are not evenly spaced; write it with"):
        read_recording(tmp_path / "a.mp4")


def test_without_the_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "a.mp4").write_bytes(b"0")
    with pytest.raises(InputError, match=r"a\.mp4' needs av: pip install crp-atlas\[media\] \(or av itself\)\.$"):
        read_recording(tmp_path / "a.mp4")
