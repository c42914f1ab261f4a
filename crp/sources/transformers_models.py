"""Image classifiers in a folder that `save_pretrained` of transformers wrote, as `hf:FOLDER`. Nothing is downloaded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image
from torch import nn

from crp.class_names import as_class_names
from crp.compat import import_zennit_safely
from crp.errors import InputError, listed
from crp.extras import optional
from crp.files import user_path
from crp.preprocessing import INTERPOLATIONS, Preprocessing
from crp.sources.model_family import DEFAULT_WEIGHTS, ModelFamily
from crp.sources.weights import put_weights, read_weights

HF = "hf:"
CONFIGURATION = "config.json"
_PROCESSOR = "preprocessor_config.json"
# Of the values 0..255: the resizing of torchvision, which transformers may use, rounds differently from Pillow's.
_ROUNDING = 3


def _transformers() -> ModuleType:
    import_zennit_safely()  # transformers may import torchvision
    return optional("transformers", "transformers", "A model 'hf:FOLDER'", "transformers")


def _load(name: str, weights: str | Path | None) -> nn.Module:
    folder, transformers = _folder(name), _transformers()
    if weights == DEFAULT_WEIGHTS:
        raise InputError(f"The weights of 'hf:{name}' are in its folder: leave out --weights {DEFAULT_WEIGHTS}.")
    with _explained(folder), _without_progress(transformers):
        model, loading = transformers.AutoModelForImageClassification.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False, output_loading_info=True
        )
    if missing := sorted(loading["missing_keys"]):
        raise InputError(
            f"The folder '{folder}' holds no weights for {listed(missing, 3)} of {type(model).__name__}, which would "
            "be random; save a model that was trained as an image classifier."
        )
    if weights is not None:
        put_weights(model, read_weights(weights), weights)
    return model


def _folder(name: str) -> Path:
    folder = user_path(name)
    if not (folder / CONFIGURATION).is_file():
        raise InputError(
            f"'{folder}' is not a folder with a model of transformers (it has no {CONFIGURATION}); write one with "
            "model.save_pretrained(FOLDER) and processor.save_pretrained(FOLDER)."
        )
    return folder


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Turn errors of transformers about a folder into one sentence."""
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        text = " ".join(str(error).split()).rstrip(".")
        raise InputError(f"transformers cannot load '{folder}': {text}.") from error


@contextmanager
def _without_progress(transformers: ModuleType) -> Iterator[None]:
    """Hide the progress bar and the table of missing weights, which become a sentence."""
    logging = transformers.utils.logging
    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()


def _preprocessing(name: str, weights: str | Path | None) -> Preprocessing:
    """Return the preprocessing that the folder's image processor does, compared with it on a picture."""
    folder, transformers = _folder(name), _transformers()
    tell = "give --preprocessing FILE"
    if not (folder / _PROCESSOR).is_file():
        raise InputError(
            f"The folder '{folder}' does not say how pictures become model input (it has no {_PROCESSOR}); {tell}."
        )
    with _explained(folder), _without_progress(transformers):
        processor = transformers.AutoImageProcessor.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    preprocessing = _translated(processor)
    if preprocessing is None or not _agree(preprocessing, processor):
        raise InputError(
            f"The {type(processor).__name__} of '{folder}' prepares pictures in a way that is not supported; {tell}."
        )
    return preprocessing


def _translated(processor: Any) -> Preprocessing | None:
    """Return the preprocessing that a processor's settings describe; None if they are of another kind."""
    settings = processor.to_dict()
    size, crop = None, None
    if settings.get("do_resize"):
        size = _side(settings.get("size"))
    if settings.get("do_center_crop"):
        crop = _side(settings.get("crop_size"))
    elif isinstance(size, int) and settings.get("crop_pct"):
        # ConvNeXt: small inputs are cropped, larger ones are resized without keeping the aspect ratio
        size, crop = (int(size / settings["crop_pct"]), size) if size < 384 else ((size, size), None)
    names = {method.value: name for name, method in INTERPOLATIONS.items()}
    normalised = settings.get("do_normalize")
    try:
        return Preprocessing(
            size=size,
            crop=crop,
            mean=tuple(settings["image_mean"]) if normalised else 0.0,
            std=tuple(settings["image_std"]) if normalised else 1.0,
            interpolation=names[int(settings["resample"])],
        )
    except (InputError, KeyError, TypeError):
        return None


def _side(size: Any) -> int | tuple[int, int] | None:
    """Read a size of transformers: `{"shortest_edge": 224}`, or `{"height": 224, "width": 224}`."""
    if set(size) == {"shortest_edge"}:
        return size["shortest_edge"]
    return (size["height"], size["width"])


def _agree(preprocessing: Preprocessing, processor: Any) -> bool:
    """Whether a preprocessing gives what the processor gives for a colour picture.

    One picture of several widths has to agree: where the margins of a crop are not whole pixels, transformers may round
    them the other way.
    """
    return any(_same_input(preprocessing, processor, width) for width in range(402, 406))


def _same_input(preprocessing: Preprocessing, processor: Any, width: int) -> bool:
    rows, columns = np.mgrid[0:300, 0:width]
    waves = [np.sin(rows / 9 + columns / 31), np.cos(rows / 17), np.sin(columns / 11 - rows / 23)]
    picture = Image.fromarray(np.uint8(127.5 + 127 * np.stack(waves, axis=2)))
    expected = np.asarray(processor(images=picture, return_tensors="np")["pixel_values"][0])
    ours = preprocessing.to_input(picture).numpy()
    if ours.shape != expected.shape:
        return False
    scale = np.reshape(preprocessing.std, (-1, 1, 1)) * 255
    return bool((np.abs(ours - expected) * scale).max() <= _ROUNDING)


def _class_names(name: str, weights: str | Path | None) -> tuple[str, ...] | None:
    """Return `id2label`, unless it holds only the names that transformers invents."""
    folder, transformers = _folder(name), _transformers()
    with _explained(folder):
        config = transformers.AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    names = as_class_names(config.id2label, f"id2label of '{folder}'")
    return None if all(re.fullmatch(r"LABEL_\d+", label) for label in names) else names


TRANSFORMERS = ModelFamily(_load, _preprocessing, _class_names, output="logits")
