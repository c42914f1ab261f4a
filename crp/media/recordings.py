"""Files with numbers: arrays, sounds, tables, EDF, NIfTI, videos, images; each format is a row of `READERS`."""

from __future__ import annotations

import csv
import wave
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence, UnidentifiedImageError

from crp.errors import InputError, listed
from crp.extras import optional
from crp.files import user_path

# Tags of a TIFF file, and three of their values.
_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLES_PER_PIXEL, _PLANES, _SAMPLE_FORMAT = 258, 262, 277, 284, 339
_WHITE_IS_ZERO, _SEPARATE, _SIGNED = 0, 2, 2
# Names of a table's column that holds times in seconds.
TIME = ("time", "t", "seconds")


@dataclass(frozen=True, eq=False)
class Recording:
    """What a file holds.

    Attributes
    ----------
    values
        float32 `[c, *S]`.
    rate
        Values per second; None if the file does not say it.
    channels
        Names of the channels; empty if the file does not say them.
    affine
        Of a NIfTI file, float64 `[4, 4]`: from indices to millimetres.
    """

    values: np.ndarray
    rate: float | None = None
    channels: tuple[str, ...] = ()
    affine: np.ndarray | None = None


def read_recording(path: str | PathLike[str]) -> Recording:
    """Read a file with numbers by its suffix, one of `READERS`.

    Raises
    ------
    InputError
        If the file is missing, damaged, or of another format, or the package that reads it is not installed.
    """
    path = user_path(path)
    reader = next((read for suffix, read in READERS.items() if path.name.lower().endswith(suffix)), None)
    if reader is None:
        raise InputError(f"'{path}' is not a file with numbers; these end in {listed(READERS)}.")
    if not path.is_file():
        raise InputError(f"There is no file '{path}'.")
    try:
        recording = reader(path)
    except InputError:
        raise
    except Exception as error:  # readers raise nearly any type for damaged bytes
        raise InputError(f"'{path}' is damaged and cannot be read ({' '.join(str(error).split())}).") from error
    if not recording.values.size or not np.isfinite(recording.values).all():
        raise InputError(f"'{path}' {'holds NaN or infinite values' if recording.values.size else 'is empty'}.")
    return recording


def _array(path: Path) -> Recording:
    values = np.load(path, allow_pickle=False)
    if values.dtype.kind not in "fiub":
        raise InputError(f"'{path}' holds {values.dtype}; numbers are needed.")
    return Recording(values.astype(np.float32))


def _sound(path: Path) -> Recording:
    try:
        with wave.open(str(path)) as file:
            count, width, rate = file.getnchannels(), file.getsampwidth(), file.getframerate()
            content = file.readframes(file.getnframes())
    except wave.Error:  # not PCM
        values, rate = optional("soundfile", "soundfile", f"'{path}'", "media").read(path, always_2d=True)
        return Recording(values.T.astype(np.float32), float(rate))
    return Recording(_pcm(content, width).reshape(-1, count).T.copy(), float(rate))


def _pcm(content: bytes, width: int) -> np.ndarray:
    """Convert samples of `width` bytes to float32 in -1..1."""
    if width == 1:  # unsigned
        return (np.frombuffer(content, dtype=np.uint8).astype(np.float32) - 128) / 128
    whole = np.frombuffer(content, dtype=np.uint8).reshape(-1, width)
    padded = np.zeros((len(whole), 4), dtype=np.uint8)
    padded[:, 4 - width :] = whole
    return (padded.view("<i4")[:, 0] / 2.0**31).astype(np.float32)


def _table(path: Path) -> Recording:
    """Read a row for each time and a column for each channel; the first row may name them."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.reader(file) if row]
    names = () if _is_numbers(rows[0]) else tuple(name.strip() for name in rows[0])
    values = np.array([[float(cell) for cell in row] for row in rows[1 if names else 0 :]]).T
    if not names or names[0].lower() not in TIME:
        return Recording(values.astype(np.float32), None, names)
    steps = np.diff(values[0])
    if not (steps > 0).all() or steps.max() - steps.min() > 0.01 * steps.mean():
        raise InputError(f"the times of '{path}' are not evenly spaced: from {steps.min():g} to {steps.max():g} s.")
    # the mean of many rounded steps
    rate = float(f"{1 / steps.mean():.6g}")
    return Recording(values[1:].astype(np.float32), rate, names[1:])


def _is_numbers(row: list[str]) -> bool:
    try:
        [float(cell) for cell in row]
    except ValueError:
        return False
    return True


def _edf(path: Path) -> Recording:
    edf = optional("edfio", "edfio", f"'{path}'", "media").read_edf(path)
    rates = {signal.sampling_frequency for signal in edf.signals}
    if len(rates) > 1:
        raise InputError(f"the channels of '{path}' have {listed(sorted(rates))} values per second; one is needed.")
    values = np.stack([signal.data for signal in edf.signals]).astype(np.float32)
    return Recording(values, float(rates.pop()), tuple(signal.label for signal in edf.signals))


def _nifti(path: Path) -> Recording:
    image = optional("nibabel", "nibabel", f"'{path}'", "media").load(path)
    values = image.get_fdata(dtype=np.float32)
    if values.ndim not in (3, 4):
        raise InputError(f"'{path}' has {values.ndim} axes; a volume has 3, or 4 with channels.")
    # channels are the last axis of a file and the first of an input
    values = values[None] if values.ndim == 3 else np.moveaxis(values, 3, 0)
    return Recording(np.ascontiguousarray(values), affine=np.asarray(image.affine, dtype=np.float64))


def _video(path: Path) -> Recording:
    """Read the frames of a video as `[3, T, H, W]`, red, green and blue from 0 to 255, upright."""
    with optional("av", "av", f"'{path}'", "media").open(str(path)) as container:
        if not container.streams.video:
            raise InputError(f"'{path}' holds no video.")
        stream = container.streams.video[0]
        frames, times = [], []
        for frame in container.decode(stream):
            frames.append(np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90))
            times.append(frame.time)
        told = float(stream.average_rate or 0)
    if not frames:
        raise InputError(f"'{path}' is empty.")
    return Recording(np.stack(frames).transpose(3, 0, 1, 2).astype(np.float32), _frame_rate(times, told, path))


def _frame_rate(times: Sequence[float | None], told: float, path: Path) -> float | None:
    """Return frames per second; times of frames are rounded in many formats, but each has to be about its own."""
    if len(times) < 2 or None in times:
        return told or None
    step = (times[-1] - times[0]) / (len(times) - 1)
    off = np.abs(np.asarray(times) - times[0] - step * np.arange(len(times)))
    if step <= 0 or off.max() > 0.5 * step:
        raise InputError(f"the frames of '{path}' are not evenly spaced; write it with a constant frame rate first.")
    # a file says its rate more exactly than the rounded times do
    return float(f"{told if told and abs(told * step - 1) < 0.01 else 1 / step:.6g}")


def _pixels(path: Path) -> Recording:
    """Read an image of any depth without scaling; pages of a file are channels."""
    try:
        with Image.open(path) as image:
            pages = [_values_of(page, path) for page in ImageSequence.Iterator(image)]
    except UnidentifiedImageError as error:
        raise InputError(
            f"'{path}' is damaged, or of a kind that Pillow does not read, such as more than 4 channels in a page or "
            "values of 64 bits; save it as .npy."
        ) from error
    if len({page.shape[1:] for page in pages}) > 1:
        raise InputError(f"the pages of '{path}' have several sizes; as channels of an image they need one.")
    return Recording(np.concatenate(pages))


def _values_of(page: Image.Image, path: Path) -> np.ndarray:
    """Return the values `[c, H, W]` of a page; what Pillow would change without a word is refused or read right."""
    tags = getattr(page, "tag_v2", {})  # of a TIFF
    bands, bits = len(page.getbands()), max(tags.get(_BITS_PER_SAMPLE, (8,)))
    wide = bits > 8 or any(";16" in str(tile.args) for tile in page.tile)
    if wide and (bands > 1 or tags.get(_PLANES) == _SEPARATE):
        raise InputError(
            f"'{path}' holds values of more than 8 bits in a way that Pillow does not keep; save each channel as a "
            "page of a TIFF file, or all as .npy."
        )
    if (count := tags.get(_SAMPLES_PER_PIXEL, bands)) > bands:
        raise InputError(
            f"'{path}' has {count} channels, of which Pillow reads {bands}; save each as a page of a TIFF file, or all "
            "as .npy."
        )
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:  # which Pillow inverts, but not in files of 16 bits
        raise InputError(
            f"'{path}' stores white as 0 (WhiteIsZero), and readers disagree on which values that means; save it with "
            "black as 0, or as .npy."
        )
    values = np.asarray(page.convert("RGB") if page.mode == "P" else page)
    signed = _SIGNED in tags.get(_SAMPLE_FORMAT, ())
    if signed and bits == 8:  # Pillow reads these as unsigned
        values = values.view(np.int8)
    if page.mode == "I" and bits == 32 and not signed:  # and these as signed
        values = values.view(np.uint32)
    values = values.astype(np.float32)
    return values[None] if values.ndim == 2 else values.transpose(2, 0, 1)


READERS: Mapping[str, Callable[[Path], Recording]] = {
    ".npy": _array,
    ".wav": _sound,
    ".csv": _table,
    ".edf": _edf,
    ".nii": _nifti,
    ".nii.gz": _nifti,
    **dict.fromkeys((".mp4", ".webm", ".mov", ".mkv", ".avi", ".gif"), _video),
    ".tif": _pixels,
    ".tiff": _pixels,
    ".png": _pixels,
}
