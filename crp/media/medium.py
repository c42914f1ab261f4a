"""What an input is: a signal, a sound, a spectrogram or a volume, with the meaning of its axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from crp.errors import InputError, nearest
from crp.preprocessing import scaled_picture

if TYPE_CHECKING:
    import torch

    from crp.media.recordings import Recording
    from crp.media.stft import Stft

# Spatial axes of each kind.
KINDS = {"signal": 1, "audio": 1, "spectrogram": 2, "volume": 3}


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
        "signal" `[c, T]`, "audio" `[c, T]` (can be played), "spectrogram" `[c, F, T]` with low frequencies first, or
        "volume" `[c, D, H, W]`.
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

    Raises
    ------
    InputError
        If there is no such kind, or the number of axes does not fit it.

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

    def __post_init__(self) -> None:
        """Check and convert the fields."""
        if self.kind not in [*KINDS]:
            raise InputError(f"There is no kind of input {self.kind!r}; {nearest(str(self.kind), list(KINDS))}")
        object.__setattr__(self, "axes", tuple(self.axes))
        object.__setattr__(self, "channels", tuple(map(str, self.channels)))
        if len(self.axes) != KINDS[self.kind]:
            raise InputError(f"A {self.kind} has {KINDS[self.kind]} axes besides channels, given {len(self.axes)}.")
        if self.affine is not None:
            object.__setattr__(self, "affine", tuple(tuple(map(float, row)) for row in self.affine))

    @classmethod
    def signal(cls, rate: float, *, channels: Sequence[str] = (), unit: str = "") -> Medium:
        """Return signals `[c, T]` with `rate` values per second."""
        return cls("signal", (Axis("time", "s", 0.0, 1 / rate),), channels, unit)

    @classmethod
    def audio(cls, rate: float) -> Medium:
        """Return sounds `[c, T]` with `rate` samples per second."""
        return cls("audio", (Axis("time", "s", 0.0, 1 / rate),))

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
    def from_json(cls, values: Mapping[str, Any]) -> Medium:
        """Return the medium that `to_json` wrote; raises InputError for anything else."""
        from crp.media.stft import Stft

        names = [field.name for field in fields(cls)]
        for name in values:
            if name not in names:
                raise InputError(f"A medium has no entry {name!r}; {nearest(name, names)}")
        try:
            stft = values.get("stft")
            axes = tuple(Axis(**axis) for axis in values["axes"])
            return cls(**{**values, "axes": axes, "stft": stft and Stft(**stft)})
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"this description of an input is damaged: {type(error).__name__} {error}.") from error

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        content = asdict(self)
        content["axes"] = [asdict(axis) for axis in self.axes]
        content["channels"] = list(self.channels)
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
            raise InputError(f"It has {len(values)} channels, and {len(self.channels)} are needed.")
        return torch.from_numpy(np.ascontiguousarray(values))

    def of_recording(self, recording: Recording) -> tuple[torch.Tensor, Medium]:
        """Return the model's input for what a file holds, and this medium with the file's affine.

        Channels are taken by name if the file has all that are needed.

        Raises
        ------
        InputError
            If rate or shape do not fit.
        """
        values = recording.values
        if set(self.channels) <= set(recording.channels):
            chosen = [recording.channels.index(name) for name in self.channels]
            values = values[chosen] if chosen else values
        rate = self._rate
        if rate is not None and recording.rate is not None and abs(recording.rate / rate - 1) > 1e-6:
            raise InputError(
                f"it has {recording.rate:g} values per second, and the model was given {rate:g}; resample it first."
            )
        known = self if recording.affine is None or self.kind != "volume" else self._at(recording.affine)
        return self.to_input(values), known

    def to_picture(self, tensor: torch.Tensor | np.ndarray) -> np.ndarray:
        """Return how an input `[c, *S]` is drawn: a spectrogram as uint8 `[F, T, 3]`, others as float32 `[c, *S]`."""
        if tensor.ndim != KINDS[self.kind] + 1:
            axes = KINDS[self.kind] + 1
            raise InputError(f"An input of kind {self.kind!r} has {axes} axes, given {list(tensor.shape)}.")
        if self.kind == "spectrogram":
            return scaled_picture(tensor)
        return np.asarray(tensor if isinstance(tensor, np.ndarray) else tensor.detach().cpu(), dtype=np.float32)

    @property
    def _rate(self) -> float | None:
        if self.stft is not None:
            return self.stft.rate
        return None if self.kind in ("volume", "spectrogram") else 1 / self.axes[0].step

    def _at(self, affine: np.ndarray) -> Medium:
        steps = np.sqrt((np.asarray(affine)[:3, :3] ** 2).sum(0))
        axes = tuple(replace(axis, step=float(step)) for axis, step in zip(self.axes, steps, strict=True))
        return replace(self, axes=axes, affine=tuple(map(tuple, np.asarray(affine).tolist())))
