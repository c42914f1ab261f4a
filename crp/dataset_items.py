"""Items of data sets as samples: model input and label.

==============================  =====================================================================================
`tensor`, `(tensor, label)`     as they are
`picture`, `(picture, label)`   of Pillow, made to model input by the preprocessing (torchvision's `ImageFolder`)
a dict                          its `image` and `label`, likewise (Hugging Face `datasets`)
==============================  =====================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PIL import Image
from torch.utils.data import Subset

from crp.errors import InputError, listed
from crp.preprocessing import Preprocessing, as_rgb_picture

IMAGES = ("image", "img", "pixel_values")
LABELS = ("label", "labels")


def read_item(item: Any, preprocessing: Preprocessing | None) -> tuple[Any, Any]:
    """Return the data and the label of an item; the label is None if it has none.

    Parameters
    ----------
    item
        What a data set returned.
    preprocessing
        How pictures become model input.

    Raises
    ------
    InputError
        If a dict has no image, or several, or it is a picture and there is no preprocessing. The message has no
        subject: it begins with a verb.
    """
    data, label = parts_of(item)
    if is_picture(data):
        if preprocessing is None:
            raise InputError(
                f"is a picture ({data.mode}, {data.width} x {data.height} pixels), and it is not known how pictures "
                "become model input; pass preprocessing=crp.Preprocessing(...)."
            )
        data = preprocessing.to_input(as_rgb_picture(data))
    return data, label


def parts_of(item: Any) -> tuple[Any, Any]:
    """Return the data and the label of an item, unchanged; errors as in `read_item`."""
    if isinstance(item, Mapping):
        data, label = _entry(item, IMAGES), _entry(item, LABELS, needed=False)
    elif isinstance(item, tuple | list) and len(item) == 2:
        data, label = item
    else:
        data, label = item, None
    if isinstance(data, tuple | list) and len(data) == 1:  # what TensorDataset makes of a single tensor
        data = data[0]
    return data, label


def is_picture(data: Any) -> bool:
    """Whether the data of an item are a picture of Pillow."""
    return isinstance(data, Image.Image)


def _entry(item: Mapping[str, Any], names: tuple[str, ...], *, needed: bool = True) -> Any:
    found = [name for name in names if name in item]
    if len(found) > 1 or (needed and not found):
        what = "several" if found else "none"
        raise InputError(f"is a dict with {listed(item)}; it must have one of {listed(names)}, and has {what}.")
    return item[found[0]] if found else None


def class_names_of(dataset: Any) -> tuple[str, ...] | None:
    """Return the names that a data set has for its classes; None if it has none.

    They are `class_names` or `classes` (torchvision), or those of the column of labels (Hugging Face `datasets`). The
    names of a `torch.utils.data.Subset` are those of the whole data set.
    """
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    features = getattr(dataset, "features", None)
    columns = [features[name] for name in LABELS if name in features] if isinstance(features, Mapping) else []
    owners = [(dataset, "class_names"), (dataset, "classes"), *((column, "names") for column in columns)]
    for owner, attribute in owners:
        names = getattr(owner, attribute, None)
        if isinstance(names, list | tuple) and names and all(isinstance(name, str) for name in names):
            return tuple(names)
    return None
