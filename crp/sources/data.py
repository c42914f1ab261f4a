"""A map-style data set named by a string.

All data sets here have `preprocessing` (or None), `class_names` (or None), `labelled` and `sample_name(i)`. `data[i]`
is `(float32 [c, H, W], label)` if labelled, otherwise the tensor alone.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crp.class_names import class_places
from crp.dataset_items import class_names_of, is_picture, parts_of, read_item
from crp.errors import InputError, listed, nearest
from crp.extras import optional
from crp.files import expanded
from crp.media.any_preprocessing import AnyPreprocessing, read_input
from crp.media.medium import Medium
from crp.media.recordings import READERS
from crp.preprocessing import Preprocessing
from crp.sources.class_order import ClassOrder
from crp.sources.python import called, named_object

DEMO = "demo"
_SPLITS = "dataset_dict.json"
SUFFIXES = (
    *(".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".webp"),
    *(".tif", ".tiff", ".ppm", ".pgm", ".pnm"),
)


def load_data(spec: str, preprocessing: Preprocessing | None = None, *, class_names: Sequence[str] | None = None):
    """Load a map-style data set.

    Parameters
    ----------
    spec
        A folder of pictures (with one subfolder per class, if labelled), a folder that `save_to_disk` of Hugging Face
        `datasets` wrote, an .npz file with `images`, "demo", "demo:NETWORK" or "demo:NETWORK:COUNT" (the built-in data
        of a built-in network), or "package.module:function" or "file.py:function": a function without arguments that
        returns a map-style data set, or the data set itself. Code of the last two kinds is executed.
    preprocessing
        How pictures become model input; by default they are scaled to 0..1. For data sets of model inputs it only says
        how these are shown as pictures, and a data set's own `preprocessing` takes precedence.
    class_names
        Names of the model's classes; they take precedence over those of the data set. The data set's own names, such as
        subfolders of a folder, must then be among them, and say which class a label is.

    Returns
    -------
    PictureFolder, PictureArrays or MapData

    Raises
    ------
    InputError
        If there is no such data set, or it is empty or not map-style.
    """
    spec = expanded(spec)
    names = None if class_names is None else tuple(class_names)
    if spec == DEMO or spec.startswith(f"{DEMO}:"):
        return _built_in(spec.removeprefix(DEMO).removeprefix(":") or "cnn", preprocessing, names)
    if _is_saved(Path(spec)):
        return MapData(_load_saved(Path(spec)), preprocessing, names, "sample", spec)
    if Path(spec).is_dir():
        return PictureFolder(Path(spec), preprocessing or Preprocessing(), names)
    if spec.endswith(".npz"):
        return PictureArrays(Path(spec), preprocessing, names)
    if ":" not in spec:
        raise InputError(
            f"The data '{spec}' are not a folder, an .npz file, 'demo', 'package.module:function' or "
            "'file.py:function'."
        )
    named = named_object(spec)
    makes_data = isinstance(named, type) or not hasattr(named, "__getitem__")
    data = called(spec, named) if makes_data and callable(named) else named
    if not (hasattr(data, "__getitem__") and hasattr(data, "__len__")):
        raise InputError(
            f"'{spec}' gives a {type(data).__name__}, whose samples cannot be read by index; "
            "a map-style data set with __len__ and __getitem__ is needed."
        )
    return MapData(_filled(data, spec), preprocessing, names, "sample", spec)


def _built_in(network: str, preprocessing: Preprocessing | None, names: tuple[str, ...] | None) -> MapData:
    """Return the built-in data that `crp demo` mines with a network."""
    from crp.demo.demo_kinds import DEMO_SAMPLES, KIND_OF

    network, _, count = network.partition(":")
    if network not in KIND_OF:
        raise InputError(f"There are no built-in data '{DEMO}:{network}'; {nearest(network, list(KIND_OF))}")
    if count and not count.isdecimal():
        raise InputError(f"'{DEMO}:{network}:{count}' must end with a number of samples.")
    kind = KIND_OF[network]
    data = kind.functions.data(network, int(count) if count else DEMO_SAMPLES)
    return MapData(data, preprocessing, names, kind.word.lower(), f"{DEMO}:{network}")


def _is_saved(folder: Path) -> bool:
    """Whether `save_to_disk` of Hugging Face `datasets` wrote a folder."""
    return any((folder / name).is_file() for name in (_SPLITS, "state.json"))


def _load_saved(folder: Path) -> Any:
    if (folder / _SPLITS).is_file():
        splits = json.loads((folder / _SPLITS).read_text(encoding="utf-8"))["splits"]
        raise InputError(
            f"The folder '{folder}' holds the data sets {listed(splits)}; name one of them: '{folder / splits[0]}'."
        )
    data = optional("datasets", "datasets", f"The data set '{folder}'", "datasets").load_from_disk(str(folder))
    return _filled(data, str(folder))


def _filled(data: Any, spec: str) -> Any:
    if len(data) == 0:
        raise InputError(f"The data set '{spec}' is empty; at least one sample is needed.")
    return data


def is_code(spec: str) -> bool:
    """Return whether a name of a data set refers to code, and not to pictures or the built-in data."""
    spec = expanded(spec)
    built_in = spec == DEMO or spec.startswith(f"{DEMO}:")
    return not built_in and not Path(spec).is_dir() and not spec.endswith(".npz")


class PictureFolder:
    """Pictures in a folder, read on access.

    If the folder has class subfolders (with pictures at any depth), the label is the index of the subfolder in
    alphabetical order, or of its name in `class_names`. A flat folder has no labels. Hidden files and files without the
    suffix of a picture are ignored.

    Raises
    ------
    InputError
        If there are no pictures, if there are pictures both in the folder and in subfolders, or if a subfolder is not a
        class name.
    """

    def __init__(self, path: Path, preprocessing: AnyPreprocessing, class_names: tuple[str, ...] | None) -> None:
        self.path = path
        self.preprocessing = preprocessing
        suffixes, files = suffixes_for(preprocessing), _called(preprocessing)
        flat = _files(path.iterdir(), suffixes)
        folders = {
            folder.name: within
            for folder in sorted(path.iterdir())
            if folder.is_dir() and (within := _files(folder.rglob("*"), suffixes))
        }
        if not flat and not folders:
            raise InputError(f"The folder '{path}' holds no {files} ({listed(suffixes, 20)}).")
        if flat and folders:
            raise InputError(
                f"The folder '{path}' holds {files} ({listed([flat[0].name], 1)}) and subfolders of {files} "
                f"({listed(folders, 2)}); move all {files} into class subfolders, or none."
            )
        self.labelled = bool(folders)
        self.class_names = class_names if class_names or flat else tuple(folders)
        labels = _labels(path, tuple(folders), class_names)
        self._files = flat or [file for within in folders.values() for file in within]
        self._labels = [label for label, within in zip(labels, folders.values(), strict=True) for _ in within]

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self._files)

    def __getitem__(self, index: int) -> Tensor | tuple[Tensor, int]:
        """Return a sample, with its label if there are labels."""
        try:
            data = read_input(self._files[index], self.preprocessing)[0]
        except InputError as error:
            # errors of reading name the file, and those of the preprocessing do not
            raise (
                error if str(self._files[index]) in str(error) else InputError(f"'{self._files[index]}': {error}")
            ) from None
        return (data, self._labels[index]) if self.labelled else data

    def sample_name(self, index: int) -> str:
        """Return the path of the picture relative to the folder."""
        return self._files[index].relative_to(self.path).as_posix()


class PictureArrays:
    """Pictures in an .npz file, which is read completely (never with pickle).

    `images` is uint8 `[N, H, W, 3]` or `[N, H, W]` (pictures to preprocess), or float `[N, c, H, W]` (model inputs).
    `labels` is optional: `N` whole numbers from 0, or `[N, classes]` of 0 and 1. So is `class_names`: strings.

    Raises
    ------
    InputError
        If an entry is missing or of another kind; names the file and the entry.
    """

    def __init__(self, path: Path, preprocessing: Preprocessing | None, class_names: tuple[str, ...] | None) -> None:
        self.path = path
        arrays = _read_arrays(path)
        if "images" not in arrays:
            raise InputError(f"'{path}' has no array 'images'; {nearest('images', list(arrays))}")
        images = arrays["images"]
        as_pictures = images.dtype == np.uint8 and (images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3))
        as_inputs = images.dtype.kind == "f" and images.ndim == 4
        if not (as_pictures or as_inputs):
            raise InputError(
                f"'images' of '{path}' is {images.dtype} {list(images.shape)}; uint8 [N, H, W, 3] or float "
                "[N, c, H, W] is needed."
            )
        if images.size == 0:
            raise InputError(f"'images' of '{path}' is empty, {list(images.shape)}; at least one sample is needed.")
        self._images = images if as_pictures else images.astype(np.float32)
        self.preprocessing = (preprocessing or Preprocessing()) if as_pictures else preprocessing
        self._as_pictures = as_pictures
        self._labels = _checked_labels(path, arrays["labels"], len(images)) if "labels" in arrays else None
        self.labelled = self._labels is not None
        stored = tuple(str(name) for name in arrays["class_names"].reshape(-1)) if "class_names" in arrays else None
        self.class_names = class_names or stored
        self._order = ClassOrder(stored, class_names, str(path))

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self._images)

    def __getitem__(self, index: int) -> Tensor | tuple[Tensor, int | set[int] | np.ndarray]:
        """Return a sample, with its label if there are labels."""
        image = self._images[index]
        data = self.preprocessing.to_input(image) if self._as_pictures else torch.from_numpy(image.copy())
        if not self.labelled:
            return data
        label = self._labels[index]
        try:
            return data, self._order.label(label if label.ndim else int(label))
        except InputError as error:
            raise InputError(f"'{self.sample_name(index)}' {error}") from None

    def sample_name(self, index: int) -> str:
        """Return the file's name with the index of the picture."""
        return f"{self.path.name}[{index}]"


class MapData:
    """Any map-style data set that mining reads (`crp.dataset_items`), with class names and preprocessing."""

    def __init__(
        self, data: Any, preprocessing: Preprocessing | None, class_names: tuple[str, ...] | None, word: str, spec: str
    ) -> None:
        self.data = data
        own = class_names_of(data)
        self.class_names = class_names or own
        # a rule of the data set's own makes classes of labels, which may be masks
        self._order = ClassOrder(None if self.targets else own, class_names, spec)
        self._known = getattr(data, "preprocessing", None) or preprocessing
        self._word = word

    @cached_property
    def preprocessing(self) -> Preprocessing | None:
        """How pictures become model input; those of the data set are scaled to 0..1 if nothing else is known."""
        return self._known or (Preprocessing() if is_picture(self._first[0]) else None)

    @cached_property
    def labelled(self) -> bool:
        """Whether the first sample has a label."""
        return self._first[1] is not None

    @cached_property
    def _first(self) -> tuple[Any, Any]:
        with self._named(0):
            return parts_of(self.data[0])

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.data)

    def __getitem__(self, index: int) -> Any:
        """Return a sample, with its label if it has one."""
        with self._named(index):
            data, label = read_item(self.data[index], self.preprocessing)
            label = self._order.label(label)
        return data if label is None else (data, label)

    def sample_name(self, index: int) -> str:
        """Return the data set's own name of the sample, or its index."""
        return self.data.sample_name(index) if hasattr(self.data, "sample_name") else f"{self._word} {index}"

    @property
    def shown(self) -> Callable[[int], Any] | None:
        """The data set's own `shown(index)`: where what the sample shows is, bool `[*S]`; None without one."""
        return getattr(self.data, "shown", None)

    @property
    def object_mask(self) -> Callable[[int], Any] | None:
        """Where the object that the label names is, bool `[*S]`: the data set's `object_mask(index)`, or its `shown`.

        They differ where a sample shows something that is not part of the object, such as a stamp.
        """
        return getattr(self.data, "object_mask", self.shown)

    @property
    def targets(self) -> Callable[[Tensor, Tensor], Any] | None:
        """The data set's own target rule, as of `crp.mining.ObjectSamples`; None without one."""
        rule = getattr(self.data, "targets", None)  # of torchvision's data sets a list of labels
        return rule if callable(rule) else None

    @contextmanager
    def _named(self, index: int) -> Iterator[None]:
        """Begin errors about an item with its name."""
        try:
            yield
        except InputError as error:
            raise InputError(f"'{self.sample_name(index)}' {error}") from None


def suffixes_for(preprocessing: AnyPreprocessing | None) -> tuple[str, ...]:
    """List the suffixes of the files that a preprocessing reads."""
    return tuple(READERS) if isinstance(preprocessing, Medium) else SUFFIXES


def _called(preprocessing: AnyPreprocessing | None) -> str:
    return "recordings" if isinstance(preprocessing, Medium) else "pictures"


def pictures_below(folder: Path, without: Path, preprocessing: AnyPreprocessing | None = None) -> list[Path]:
    """List the pictures, or other inputs, in a folder and its subfolders, in alphabetical order, except hidden ones.

    Pictures in the folder `without` are omitted: results made from pictures may be written into the same folder.

    Raises
    ------
    InputError
        If there are no pictures.
    """
    suffixes = suffixes_for(preprocessing)
    found, left_out = _files(folder.rglob("*"), suffixes), without.resolve()
    if left_out != folder.resolve():
        found = [path for path in found if not path.resolve().is_relative_to(left_out)]
    if not found:
        raise InputError(f"The folder '{folder}' holds no {_called(preprocessing)} ({listed(suffixes, 20)}).")
    return found


def _files(paths: Iterable[Path], suffixes: tuple[str, ...]) -> list[Path]:
    return sorted(
        path
        for path in paths
        if path.name.lower().endswith(suffixes) and not path.name.startswith(".") and path.is_file()
    )


def _labels(path: Path, folders: tuple[str, ...], class_names: tuple[str, ...] | None) -> list[int]:
    if class_names is None or (len(folders) == len(class_names) and set(folders).isdisjoint(class_names)):
        return list(range(len(folders)))
    return class_places(folders, class_names, f"subfolder {{}} of '{path}'")


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {
                name: file[name] for name in ("images", "labels", "class_names") if name in file.files
            } or dict.fromkeys(file.files)
    except FileNotFoundError:
        raise InputError(f"There is no data file '{path}'.") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        # numpy treats anything that is not an archive as a pickle
        objects = zipfile.is_zipfile(path)
        reason = "it holds Python objects, which are not loaded" if objects else "it is not a complete .npz file"
        raise InputError(f"The data file '{path}' cannot be read ({reason}).") from None


def _checked_labels(path: Path, labels: np.ndarray, count: int) -> np.ndarray:
    if labels.ndim == 2 and len(labels) == count and labels.dtype.kind in "biu" and np.isin(labels, (0, 1)).all():
        return labels  # several per image
    if labels.dtype.kind not in "iu" or labels.shape != (count,):
        raise InputError(
            f"'labels' of '{path}' is {labels.dtype} {list(labels.shape)}; {count} whole numbers are needed, one per "
            "image, or a table of 0 and 1 with a row for each image and a column for each class."
        )
    if labels.min() < 0:
        raise InputError(
            f"'labels' of '{path}' has {labels.min()} at sample {int(labels.argmin())}; classes count from 0."
        )
    return labels
