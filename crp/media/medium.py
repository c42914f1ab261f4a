"""What an input is: a signal, sound, spectrogram, volume, video or image of many channels, with its axes."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np

from crp.errors import InputError, listed, nearest, shortened
from crp.preprocessing import scaled_picture

if TYPE_CHECKING:
    import torch

    from crp.media.recordings import Recording
    from crp.media.stft import Stft

# Spatial axes of each kind.
KINDS = {"signal": 1, "audio": 1, "spectrogram": 2, "image": 2, "volume": 3, "video": 3}


@dataclass(frozen=True)
class Axis:
    """One axis: value i lies at `start + i * step`.

    Parameters
    ----------
    name
        Such as "time", "frequency" or "slice".
    unit
        Such as "s", "Hz" or "mm"; empty if values are counted.
    start, step
        Where the first value lies, and how far apart values are.
    """

    name: str
    unit: str = ""
    start: float = 0.0
    step: float = 1.0

    def at(self, index: float) -> float:
        """Return where a value, or a place between values, lies."""
        return self.start + index * self.step


@dataclass(frozen=True)
class Medium:
    """What the inputs of a model are, and how files become such inputs; stands where a `Preprocessing` may stand.

    Parameters
    ----------
    kind
        "signal" `[c, T]`, "audio" `[c, T]` (can be played), "spectrogram" `[c, F, T]` with low frequencies first,
        "image" `[c, H, W]` with any channels and values, "volume" `[c, D, H, W]`, or "video" `[c, T, H, W]`.
    axes
        The spatial axes, in the order of the input's.
    channels
        Names of the channels; may be empty.
    unit
        Of the values; may be empty.
    affine
        For a volume, the 4 x 4 matrix from indices to millimetres of its file, row by row.
    stft
        For a spectrogram, how it is made from samples; without it, files hold spectrograms.
    shown
        For an image, the channel that is drawn as grey, or the three as red, green and blue, by name or number; kept
        as numbers. Empty for the first three; of one or two channels, the first as grey.
    limits
        For an image, the values drawn as black and as full colour, in each channel that is shown. None for the smallest
        and the largest value of each channel in each picture.

    Raises
    ------
    InputError
        If there is no such kind, the number of axes does not fit it, a channel is named twice, or channels or limits
        cannot be drawn.

    Examples
    --------
    >>> eeg = Medium.signal(250, channels=("C3", "C4"), unit="µV")
    >>> eeg.axes[0].at(125), eeg.to_input(np.zeros((2, 1000))).shape
    (0.5, torch.Size([2, 1000]))
    """

    kind: str
    axes: tuple[Axis, ...]
    channels: tuple[str, ...] = ()
    unit: str = ""
    affine: tuple[tuple[float, ...], ...] | None = None
    stft: Stft | None = None
    shown: tuple[int, ...] = ()
    limits: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """Check and convert the fields."""
        if self.kind not in [*KINDS]:
            raise InputError(f"There is no kind of input {self.kind!r}; {nearest(str(self.kind), list(KINDS))}")
        object.__setattr__(self, "axes", tuple(self.axes))
        object.__setattr__(self, "channels", _channels(self.channels))
        if len(self.axes) != KINDS[self.kind]:
            raise InputError(f"A {self.kind} has {KINDS[self.kind]} axes besides channels, given {len(self.axes)}.")
        if self.affine is not None:
            object.__setattr__(self, "affine", tuple(tuple(map(float, row)) for row in self.affine))
        self._check_display()

    @classmethod
    def signal(cls, rate: float, *, channels: Sequence[str] = (), unit: str = "") -> Medium:
        """Return signals `[c, T]` with `rate` values per second."""
        return cls("signal", (_time(rate),), channels, unit)

    @classmethod
    def audio(cls, rate: float) -> Medium:
        """Return sounds `[c, T]` with `rate` samples per second."""
        return cls("audio", (_time(rate),))

    @classmethod
    def spectrogram(cls, stft: Stft) -> Medium:
        """Return spectrograms `[c, F, T]` that `stft` makes; a frame lies where its middle is."""
        time = Axis("time", "s", stft.window / 2 / stft.rate, stft.hop / stft.rate)
        return cls("spectrogram", (Axis("frequency", "Hz", 0.0, stft.rate / stft.window), time), stft=stft)

    @classmethod
    def volume(
        cls, spacing: Sequence[float] = (1.0, 1.0, 1.0), *, unit: str = "mm", affine: Any = None
    ) -> Medium:
        """Return volumes `[c, D, H, W]` whose values are `spacing` apart along D, H and W."""
        axes = [Axis(name, unit, 0.0, step) for name, step in zip(("slice", "row", "column"), spacing, strict=True)]
        return cls("volume", tuple(axes), affine=affine)

    @classmethod
    def video(cls, rate: float, *, channels: Sequence[str] = ()) -> Medium:
        """Return videos `[c, T, H, W]` with `rate` frames per second."""
        return cls("video", (_time(rate), Axis("row"), Axis("column")), channels)

    @classmethod
    def image(
        cls,
        channels: Sequence[str] = (),
        *,
        shown: Sequence[str | int] = (),
        limits: tuple[float, float] | None = None,
        unit: str = "",
    ) -> Medium:
        """Return images `[c, H, W]` with any number of channels and any range of values.

        Parameters
        ----------
        channels
            Their names.
        shown
            Which channels are drawn, by name or number: one as grey, or three as red, green and blue.
        limits
            The values drawn as black and as full colour.
        unit
            Of the values.
        """
        return cls("image", (Axis("row"), Axis("column")), channels, unit, shown=shown, limits=limits)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Medium:
        """Return the medium that `to_json` wrote; raises InputError for anything else."""
        from crp.media.stft import Stft

        _check_entries(values, [field.name for field in fields(cls)], "A medium")
        kind = values.get("kind")
        if kind not in KINDS:
            raise InputError(f"There is no kind of input {kind!r}; {nearest(str(kind), list(KINDS))}")
        try:
            stft = values.get("stft")
            return cls(**{**values, "axes": _axes(kind, values.get("axes")), "stft": stft and Stft(**stft)})
        except InputError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"this description of an input is damaged: {type(error).__name__} {error}.") from error

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        content = asdict(self)
        content["axes"] = [asdict(axis) for axis in self.axes]
        content["channels"] = list(self.channels)
        if self.kind == "image":
            content |= {"shown": list(self.shown), "limits": self.limits and list(self.limits)}
        else:  # as media were written before there were images
            del content["shown"], content["limits"]
        content["affine"] = None if self.affine is None else [list(row) for row in self.affine]
        return content

    def to_input(self, values: np.ndarray) -> torch.Tensor:
        """Return the model's input, float32 `[c, *S]`, for values `[c, *S]`, or `[*S]` of one channel.

        With an `stft`, samples `[c, T]` become a spectrogram.

        Raises
        ------
        InputError
            If the shape or the number of channels does not fit.
        """
        import torch

        values = np.asarray(values, dtype=np.float32)
        if self.stft is not None and values.ndim < 3:
            values = self.stft(values if values.ndim == 2 else values[None])
        axes = KINDS[self.kind]
        values = values[None] if values.ndim == axes else values
        if values.ndim != axes + 1 or 0 in values.shape:
            raise InputError(
                f"An input of kind {self.kind!r} has {axes + 1} axes, the first for channels, given "
                f"{list(values.shape)}."
            )
        if self.channels and len(values) != len(self.channels):
            raise InputError(f"It has {len(values)} channels, and the model takes {len(self.channels)}.")
        return torch.from_numpy(np.ascontiguousarray(values))

    def of_recording(self, recording: Recording) -> tuple[torch.Tensor, Medium]:
        """Return the model's input for what a file holds, and this medium with the file's affine.

        Channels are taken by name if the file has all that are needed.

        Raises
        ------
        InputError
            If rate or shape do not fit, or the file has several channels of a name that is needed, or some of the
            needed names and not all.
        """
        values = recording.values
        lacking = [name for name in self.channels if name not in recording.channels]
        if 0 < len(lacking) < len(self.channels):  # in the file's order, one channel would pass for another
            raise InputError(f"it has no channel {lacking[0]!r}; its channels are {listed(recording.channels)}.")
        if set(self.channels) <= set(recording.channels):
            for name in self.channels:
                if (count := recording.channels.count(name)) > 1:
                    raise InputError(f"it has {count} channels named {name!r}, and one is needed.")
            chosen = [recording.channels.index(name) for name in self.channels]
            values = values[chosen] if chosen else values
        rate = self._rate
        allowed = 1e-3 if self.kind == "video" else 1e-6  # 29.97 frames are 30000 / 1001
        if rate is not None and recording.rate is not None and abs(recording.rate / rate - 1) > allowed:
            raise InputError(
                f"it has {recording.rate:g} values per second, and the model was given {rate:g}; resample it first."
            )
        known = self if recording.affine is None or self.kind != "volume" else self._at(recording.affine)
        return self.to_input(values), known

    def to_picture(self, tensor: torch.Tensor | np.ndarray) -> np.ndarray:
        """Return how an input is drawn: a spectrogram or image as uint8 `[h, w, 3]`, others as float32 `[c, *S]`."""
        if tensor.ndim != KINDS[self.kind] + 1:
            axes = KINDS[self.kind] + 1
            raise InputError(f"An input of kind {self.kind!r} has {axes} axes, given {list(tensor.shape)}.")
        if self.channels and len(tensor) != len(self.channels):
            raise InputError(f"The input has {len(tensor)} channels, but {len(self.channels)} are named.")
        if self.kind == "spectrogram":
            return scaled_picture(tensor)
        if self.kind == "image":
            return self._drawn(_array(tensor))
        return _array(tensor)

    def display(self) -> str:
        """Say which channels of an image are drawn, and with which values, as a sentence; empty for other kinds."""
        if self.kind != "image":
            return ""
        chosen = self.shown or ((0, 1, 2) if len(self.channels) > 2 else (0,))
        if not (self.shown or self.channels):
            what = "The first three channels are drawn as red, green and blue (of one or two, the first as grey)"
        else:
            names = [self._named(index) for index in chosen]
            of_all = f"Of {len(self.channels)} channels, " if len(self.channels) > len(chosen) else ""
            colours = "red, {} as green and {} as blue".format(*names[1:]) if len(names) == 3 else "grey"
            what = f"{of_all}{names[0]} is drawn as {colours}"
            what = what if self.channels else what.capitalize()
        if self.limits is None:
            return f"{what}; in every picture the smallest value of a channel is dark and the largest bright."
        low, high = (f"{value:g}{self.unit and f' {self.unit}'}" for value in self.limits)
        return f"{what}, from {low} (dark) to {high} (bright); values beyond look like the nearer of the two."

    def _check_display(self) -> None:
        if isinstance(self.shown, str) or not isinstance(self.shown, Collection):
            raise InputError(f"shown is {self.shown!r}; it must be a list of one channel or of three.")
        shown = tuple(map(self._number, self.shown))
        object.__setattr__(self, "shown", shown)
        if len(shown) not in (0, 1, 3):
            raise InputError(f"One channel is drawn as grey, or three in colour, not {len(shown)}.")
        if self.limits is not None:
            try:
                low, high = map(float, self.limits)
            except (TypeError, ValueError):
                raise InputError(f"limits is {self.limits!r}; it must be two numbers.") from None
            if not -math.inf < low < high < math.inf:
                raise InputError(f"The limits are {low:g} and {high:g}; they must be finite, the smaller first.")
            object.__setattr__(self, "limits", (low, high))

    def _number(self, channel: str | int) -> int:
        """Return the number of a channel that is to be drawn."""
        count = len(self.channels)
        if isinstance(channel, str):
            if channel not in self.channels:
                raise InputError(f"There is no channel {channel!r}; {nearest(channel, list(self.channels))}")
            return self.channels.index(channel)
        if not isinstance(channel, Integral) or not 0 <= channel < (count or math.inf):
            last = f" to {count - 1}" if count else ""
            raise InputError(f"There is no channel {channel!r}; they count from 0{last}.")
        return int(channel)

    def _named(self, index: int) -> str:
        return self.channels[index] if self.channels else f"channel {index}"

    def _drawn(self, values: np.ndarray) -> np.ndarray:
        chosen = self.shown or ((0, 1, 2) if len(values) > 2 else (0,))
        if max(chosen) >= len(values):
            raise InputError(f"Channel {max(chosen)} is to be drawn, and the image has {len(values)} channels.")
        values = values[list(chosen)].astype(np.float64)
        if self.limits is None:
            low, high = values.min((1, 2), keepdims=True), values.max((1, 2), keepdims=True)
        else:
            low, high = self.limits
        level = np.clip((values - low) / np.where(high > low, high - low, 1), 0, 1)
        picture = np.rint(255 * level).astype(np.uint8).transpose(1, 2, 0)
        return np.ascontiguousarray(np.broadcast_to(picture, (*picture.shape[:2], 3)))

    @property
    def _rate(self) -> float | None:
        if self.stft is not None:
            return self.stft.rate
        return None if self.kind in ("volume", "spectrogram", "image") else 1 / self.axes[0].step

    def _at(self, affine: np.ndarray) -> Medium:
        steps = np.sqrt((np.asarray(affine)[:3, :3] ** 2).sum(0))
        axes = tuple(replace(axis, step=float(step)) for axis, step in zip(self.axes, steps, strict=True))
        return replace(self, axes=axes, affine=tuple(map(tuple, np.asarray(affine).tolist())))


def _axes(kind: str, values: Any) -> tuple[Axis, ...]:
    """Return the axes that JSON values describe."""
    if isinstance(values, list) and all(isinstance(axis, Mapping) and "name" in axis for axis in values):
        for axis in values:
            _check_entries(axis, [field.name for field in fields(Axis)], "An axis")
        return tuple(Axis(**axis) for axis in values)
    count, example = KINDS[kind], '{"name": "time", "unit": "s", "step": 0.004}'
    what = f"a list of {count} axes" if count > 1 else "a list of one axis"
    raise InputError(
        f"An input of kind {kind!r} needs \"axes\", {what} besides that of channels, each such as {example}, given "
        f"{shortened(values)}."
    )


def _check_entries(values: Mapping[str, Any], names: Sequence[str], what: str) -> None:
    for name in values:
        if name not in names:
            raise InputError(f"{what} has no entry {name!r}; {nearest(name, names)}")


def _time(rate: float) -> Axis:
    if not isinstance(rate, Real) or not 0 < rate < math.inf:
        raise InputError(f"The rate is {rate!r}; it must be a positive number of values per second.")
    return Axis("time", "s", 0.0, 1 / rate)


def _channels(names: Sequence[str]) -> tuple[str, ...]:
    if isinstance(names, str) or not isinstance(names, Collection):
        raise InputError(f"channels is {names!r}; it must be a list of names.")
    names = tuple(map(str, names))
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"Two channels are named {name!r}; each needs a name of its own.")
    return names


def _array(tensor: torch.Tensor | np.ndarray) -> np.ndarray:
    return np.asarray(tensor if isinstance(tensor, np.ndarray) else tensor.detach().cpu(), dtype=np.float32)
