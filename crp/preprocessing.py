"""From a picture file to a model's input and back.

`read_picture` reads any picture file as 8-bit RGB, or says in one sentence why it cannot. `Preprocessing` turns
pictures into the tensors that a model was trained on, and such tensors back into pictures. torch is imported only when
a tensor is made, so that the help of the command line is shown quickly.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from crp.errors import InputError, nearest
from crp.files import user_path

if TYPE_CHECKING:
    import torch

INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
CHANNELS = {"RGB": 3, "L": 1}
# A tag of a TIFF file, and the value that says that 0 is white.
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes the input of a model.

    The steps are: convert, resize, crop, scale to 0..1, subtract the mean, divide by the standard deviation. Resizing
    and cropping round as torchvision's `Resize` and `CenterCrop` do for PIL pictures, so that the model's input is the
    same as in training.

    Parameters
    ----------
    size
        An int is the new short side, with the aspect ratio kept; a pair is the exact (height, width). None keeps the
        size.
    crop
        Side or (height, width) of the centre crop, taken after resizing. None keeps the whole picture.
    mean, std
        One number, or one per channel, on the scale 0..1. Stored with one number per channel.
    mode
        "RGB" (3 channels) or "L" (1 channel).
    interpolation
        "nearest", "bilinear", "bicubic" or "lanczos".

    Raises
    ------
    InputError
        If a value is out of range.

    Examples
    --------
    >>> Preprocessing.imagenet().to_input(np.zeros((300, 400, 3), dtype=np.uint8)).shape
    torch.Size([3, 224, 224])
    """

    size: int | tuple[int, int] | None = None
    crop: int | tuple[int, int] | None = None
    mean: float | tuple[float, ...] = 0.0
    std: float | tuple[float, ...] = 1.0
    mode: str = "RGB"
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        """Check the values and complete them."""
        if self.mode not in [*CHANNELS]:  # a list, because a value from a file may not be hashable
            raise InputError(f"The mode is {self.mode!r}; {nearest(str(self.mode), list(CHANNELS))}")
        if self.interpolation not in [*INTERPOLATIONS]:
            raise InputError(
                f"The interpolation is {self.interpolation!r}; {nearest(str(self.interpolation), list(INTERPOLATIONS))}"
            )
        for name in ("size", "crop"):
            object.__setattr__(self, name, _checked_size(name, getattr(self, name)))
        for name in ("mean", "std"):
            object.__setattr__(self, name, _one_for_each_channel(name, getattr(self, name), CHANNELS[self.mode]))
        if min(self.std) <= 0:
            raise InputError(f"The std is {self.std}; every value must be above 0.")

    @classmethod
    def imagenet(cls, size: int = 256, crop: int | None = 224) -> Preprocessing:
        """Return the preprocessing of torchvision's ImageNet classifiers."""
        return cls(size=size, crop=crop, mean=IMAGENET_MEAN, std=IMAGENET_STD)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Preprocessing:
        """Return the preprocessing that `to_json` wrote; raises InputError for anything else."""
        if not isinstance(values, Mapping):
            raise InputError(
                f"Preprocessing must be a JSON object such as {{'size': 256, 'crop': 224}}, not {values!r}."
            )
        names = [field.name for field in fields(cls)]
        for name in values:
            if name not in names:
                raise InputError(f"Preprocessing has no entry {name!r}; {nearest(name, names)}")
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON values (tuples become lists)."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def to_input(self, picture: Image.Image | np.ndarray) -> torch.Tensor:
        """Return the model's input for one picture.

        Parameters
        ----------
        picture
            A PIL picture, which is converted as `read_picture` converts a file, or a uint8 array `[H, W, 3]`,
            `[H, W, 1]` or `[H, W]`.

        Returns
        -------
        torch.Tensor
            float32 `[c, H, W]`, with 3 channels in mode "RGB" and 1 in mode "L".

        Raises
        ------
        InputError
            If the array has another form, the pixels have no range from black to white, or the crop is larger than the
            resized picture.
        """
        import torch

        if isinstance(picture, np.ndarray):
            picture = _picture_of(picture)
        else:
            try:
                picture = as_rgb_picture(picture)
            except ValueError as error:
                raise InputError(f"The picture cannot be used: {error}.") from None
        picture = self._cropped(self._resized(picture.convert(self.mode)))
        pixels = np.asarray(picture).reshape(picture.height, picture.width, -1)
        # what each of the 256 values becomes, by channel: the same numbers in a fraction of the time
        levels = np.arange(256, dtype=np.float32)[:, None] / np.float32(255)
        levels = (levels - np.array(self.mean, dtype=np.float32)) / np.array(self.std, dtype=np.float32)
        return torch.from_numpy(np.stack([level.take(pixels[..., c]) for c, level in enumerate(levels.T)]))

    def to_picture(self, tensor: torch.Tensor | np.ndarray) -> np.ndarray:
        """Return a model input `[c, H, W]` as a picture, uint8 `[H, W, 3]`.

        The normalisation is inverted, values are clipped to 0..255, and a single channel is repeated. Raises InputError
        for another number of channels.
        """
        values = _as_array(tensor)
        if values.ndim != 3 or values.shape[0] != CHANNELS[self.mode]:
            raise InputError(
                f"An input of mode {self.mode!r} has shape [{CHANNELS[self.mode]}, H, W], not {list(values.shape)}."
            )
        pixels = values.transpose(1, 2, 0) * np.array(self.std) + np.array(self.mean)
        return _as_rgb(pixels)

    def out_of_range(self, tensor: torch.Tensor) -> str:
        """Say that a model input `[..., c, H, W]` is not what pictures become; empty if it may be.

        Values may lie outside the range of pictures (noise, an attack), but not by more than the whole range: then they
        were not scaled to 0..1, or twice.

        >>> import torch
        >>> print(Preprocessing().out_of_range(torch.full((3, 2, 2), 255.0)))
        The input has values of 255 to 255, and pictures become values of 0 to 1: is it scaled as pictures are?
        """
        ends = [((value - mean) / std) for mean, std in zip(self.mean, self.std, strict=True) for value in (0.0, 1.0)]
        low, high = min(ends), max(ends)
        least, most = float(tensor.min()), float(tensor.max())
        if low - (high - low) <= least and most <= high + (high - low):
            return ""
        return (
            f"The input has values of {least:.3g} to {most:.3g}, and pictures become values of {low:.3g} to "
            f"{high:.3g}: is it scaled as pictures are?"
        )

    def _resized(self, picture: Image.Image) -> Image.Image:
        if self.size is None:
            return picture
        if isinstance(self.size, tuple):
            height, width = self.size
        else:
            short, long = sorted(picture.size)
            long = int(self.size * long / short)
            height, width = (long, self.size) if picture.width <= picture.height else (self.size, long)
        if Image.MAX_IMAGE_PIXELS is not None and height * width > 2 * Image.MAX_IMAGE_PIXELS:
            raise InputError(
                f"A picture of {picture.height} x {picture.width} pixels would be resized to {height} x {width}, more "
                f"than the {2 * Image.MAX_IMAGE_PIXELS:,} pixels allowed (PIL.Image.MAX_IMAGE_PIXELS)."
            )
        return picture.resize((width, height), INTERPOLATIONS[self.interpolation])

    def _cropped(self, picture: Image.Image) -> Image.Image:
        if self.crop is None:
            return picture
        height, width = self.crop if isinstance(self.crop, tuple) else (self.crop, self.crop)
        if height > picture.height or width > picture.width:
            raise InputError(
                f"The crop of {height} x {width} pixels does not fit into a picture of {picture.height} x "
                f"{picture.width}; give a size (now {self.size}) that makes pictures at least as large as the crop."
            )
        top, left = round((picture.height - height) / 2), round((picture.width - width) / 2)
        return picture.crop((left, top, left + width, top + height))


def shown_input(tensor: torch.Tensor | np.ndarray, preprocessing: Preprocessing | None = None) -> np.ndarray:
    """Return how a model's input `[c, *S]` is drawn.

    An input `[c, H, W]` becomes a picture, uint8 `[H, W, 3]`, by `preprocessing`, or by `scaled_picture` if there is
    none. Signals `[c, T]` and volumes `[c, D, H, W]` are returned as float32.
    """
    if tensor.ndim != 3:
        return _as_array(tensor).astype(np.float32)
    return scaled_picture(tensor) if preprocessing is None else preprocessing.to_picture(tensor)


def scaled_picture(tensor: torch.Tensor | np.ndarray) -> np.ndarray:
    """Return a finite `[c, H, W]` of unknown mean and standard deviation as a picture, uint8 `[H, W, 3]`.

    The smallest value becomes black and the largest white (a constant input is black). Three channels are red, green
    and blue; for any other number, the mean over channels is shown as grey.
    """
    values = _as_array(tensor)
    if values.ndim != 3:
        raise InputError(f"A picture is made from a tensor [c, H, W], not from shape {list(values.shape)}.")
    if values.shape[0] != 3:
        values = values.mean(axis=0, keepdims=True)
    low, high = values.min(), values.max()
    return _as_rgb((values.transpose(1, 2, 0) - low) / (high - low if high > low else 1))


def read_picture(path: str | PathLike[str]) -> Image.Image:
    """Read a picture file as 8-bit RGB, upright.

    Grey, palette, CMYK and 16-bit pictures are converted, transparent pictures are drawn on white, the camera's
    rotation (EXIF) is applied, and an animation gives its first frame. Colour profiles are ignored, as in the training
    of models. A TIFF whose pages have one size is refused: they may be channels or slices.

    Returns
    -------
    PIL.Image.Image
        A loaded picture of mode "RGB"; the file is closed.

    Raises
    ------
    InputError
        If the file does not exist, is not a picture, is damaged, or has more pixels than Pillow allows; names the file.
    """
    path = user_path(path)
    try:
        with warnings.catch_warnings():
            # Pillow warns of files that it can convert nevertheless (broken EXIF, large pictures).
            warnings.simplefilter("ignore")
            with Image.open(path) as picture:
                return as_rgb_picture(picture)
    except FileNotFoundError:
        raise InputError(f"There is no picture file '{path}'.") from None
    except IsADirectoryError:
        raise InputError(f"'{path}' is a folder, not a picture file.") from None
    except PermissionError:
        raise InputError(f"The picture file '{path}' cannot be read (permission denied).") from None
    except UnidentifiedImageError:
        raise InputError(f"'{path}' is not a picture: {_look_of(path)}.") from None
    except Image.DecompressionBombError:
        allowed = 2 * Image.MAX_IMAGE_PIXELS
        raise InputError(
            f"The picture '{path}' has more than the {allowed:,} pixels allowed (PIL.Image.MAX_IMAGE_PIXELS); make it "
            "smaller."
        ) from None
    except NotRgbError as error:
        raise InputError(f"The picture '{path}' cannot be read: {error}.") from None
    except Exception as error:  # Pillow's decoders raise nearly any type for damaged bytes
        raise InputError(
            f"The picture '{path}' is damaged and cannot be read ({' '.join(str(error).split())})."
        ) from error


class NotRgbError(ValueError):
    """Why a picture that is not damaged cannot become one RGB picture."""


def as_rgb_picture(picture: Image.Image) -> Image.Image:
    """Convert an open picture as `read_picture` does; raises `NotRgbError` if it cannot become one."""
    picture.load()
    if picture.format == "TIFF" and (pages := _alike_pages(picture)) > 1:
        raise NotRgbError(f"it has {pages} pages of one size, which may be channels or slices: a medium reads them")
    inverted = getattr(picture, "tag_v2", {}).get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    # older versions of Pillow open grey PNG files of 16 bits in the mode of 32 bits
    depth = 16 if picture.format == "PNG" else 32
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I"):
        picture = _from_16_bits(picture, depth)
        if inverted:  # Pillow has inverted those of 8 bits
            picture = ImageOps.invert(picture)
    elif picture.mode == "F":
        raise NotRgbError("its pixels are floating-point numbers; save it with 8 or 16 bits")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return picture.convert("RGB")


def _alike_pages(picture: Image.Image) -> int:
    """Count the first pages of a file that have one size; smaller copies of a page do not count."""
    first = picture.tell()
    sizes = []
    for page in range(picture.n_frames):
        picture.seek(page)
        sizes.append(picture.size)
    picture.seek(first)
    picture.load()
    return sizes.count(sizes[0])


def _from_16_bits(picture: Image.Image, depth: int) -> Image.Image:
    # Pillow's own conversion clips 16-bit greys to 255 instead of scaling them.
    values = np.asarray(picture).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise NotRgbError(f"its pixels range from {values.min()} to {values.max()}, but 0 to 65535 is allowed")
    if picture.mode == "I" and depth > 16 and 0 < values.max() <= 255:
        raise NotRgbError(
            f"its pixels are 32-bit numbers from {values.min()} to {values.max()}, and it is not known whether 255 or "
            "65535 is white; save it with 8 or 16 bits"
        )
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def _look_of(path: Path) -> str:
    start = path.read_bytes()[:64] if path.stat().st_size < 1 << 20 else path.open("rb").read(64)
    if not start:
        return "the file is empty"
    if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in start):
        return f"it is a text that begins with {start[:20].decode('ascii')!r}"
    return "it has no picture format that Pillow knows"


def _picture_of(array: np.ndarray) -> Image.Image:
    grey = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 1)
    if array.dtype != np.uint8 or not (grey or (array.ndim == 3 and array.shape[2] == 3)):
        raise InputError(
            f"A picture array is uint8 [H, W, 3], [H, W, 1] or [H, W], not {array.dtype} {list(array.shape)}."
        )
    return Image.fromarray(array.reshape(array.shape[:2]) if grey else array)


def _as_array(tensor: torch.Tensor | np.ndarray) -> np.ndarray:
    return np.asarray(
        tensor if isinstance(tensor, np.ndarray) else tensor.detach().cpu().double().numpy(), dtype=np.float64
    )


def _as_rgb(pixels: np.ndarray) -> np.ndarray:
    picture = np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(picture, (*picture.shape[:2], 3)))


def _checked_size(name: str, size: Any) -> int | tuple[int, int] | None:
    sides = size if isinstance(size, Sequence) and not isinstance(size, str) else (size,) * 2
    if size is None:
        return None
    if len(sides) != 2 or not all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in sides):
        raise InputError(f"The {name} is {size!r}; it must be a number of pixels above 0, or a pair (height, width).")
    return size if isinstance(size, int) else tuple(sides)


def _one_for_each_channel(name: str, values: Any, channels: int) -> tuple[float, ...]:
    numbers = tuple(values) if isinstance(values, Sequence) and not isinstance(values, str) else (values,) * channels
    if len(numbers) != channels or not all(isinstance(value, (int, float)) and abs(value) < 1e30 for value in numbers):
        raise InputError(f"The {name} is {values!r}; it must be one finite number, or {channels}, one per channel.")
    return tuple(float(value) for value in numbers)
