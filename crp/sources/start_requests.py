"""What is explained of a picture, named on the command line: a class, a mask, a box of a detector, a similarity.

`StartRequest.of` is the only place that turns these words into a start (`crp.attribution.starts`); another one is a
field and a branch there.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from crp.attribution.detectors import detect
from crp.attribution.named_starts import Target
from crp.attribution.starts import ClassInMask, Similarity
from crp.class_names import class_index
from crp.errors import InputError
from crp.media.any_preprocessing import read_input
from crp.places import Place
from crp.preprocessing import read_picture

if TYPE_CHECKING:
    from PIL import Image

    from crp.library import Library

_BRIGHT = 0.5  # of 1: pixels of a mask above it are inside


@dataclass(frozen=True)
class StartRequest:
    """What a user wants to have explained.

    Attributes
    ----------
    target
        A class, or an expression of classes.
    mask
        File of a picture whose bright pixels are the region in which the class of a segmentation is explained, by
        default the class that most of it is predicted as. Of a model with an output for each class, it says where the
        object is. It is as large as the explained picture, and resized and cropped with it.
    box
        Number of a box of a detector, whose class is explained.
    similar_to
        File of another picture: what makes the embeddings similar?

    Raises
    ------
    InputError
        If several are given that exclude one another.
    """

    target: str | None = None
    mask: str | None = None
    box: int | None = None
    similar_to: str | None = None

    def __post_init__(self) -> None:
        """Check the combination."""
        given = [name for name in ("mask", "box", "similar_to") if getattr(self, name) is not None]
        words = " and ".join(f"--{name.replace('_', '-')}" for name in given)
        if len(given) > 1:
            raise InputError(f"{words} are different questions: give one of them.")
        if given and self.mask is None and self.target is not None:
            raise InputError(f"{words} says what is explained: --target cannot be given, too.")

    @property
    def by_name(self) -> bool:
        """Whether only names of classes are given, which do not depend on the picture."""
        return self.mask is None and self.box is None and self.similar_to is None

    def of(self, model: nn.Module, image: str | os.PathLike[str], library: Library) -> tuple[nn.Module, Target | None]:
        """Return the model to explain, and the start in one picture.

        Parameters
        ----------
        model
            The model that was mined; for a box, a detector as `crp.attribution.detectors.box_logits` returns it.
        image
            File of the picture.
        library
            How pictures become model input, and the names of the classes.

        Raises
        ------
        InputError, ModelError
            If there is no such class or box, a file cannot be read, or the model's output does not fit.
        """
        if self.by_name:
            return model, self.target
        device = next(model.parameters()).device
        if self.similar_to is not None:
            other = read_input(self.similar_to, library.preprocessing)[0].to(device)
            return model, Similarity(_output(model, other)[0], Path(self.similar_to).name)
        picture = read_picture(image)
        if self.mask is not None:
            prediction = _output(model, library.preprocessing.to_input(picture).to(device))
            if prediction.ndim == 2:
                return model, self.target
            if prediction.ndim != 4:
                raise InputError(
                    f"--mask needs the classes of a picture or of its pixels; this model's output is "
                    f"{list(prediction.shape)}."
                )
            inside = _mask(self.mask, picture, library, prediction.shape[2:]).to(device)
            names = library.output_names
            if self.target is None:
                target = _commonest(prediction, inside, self.mask)
            else:
                target = class_index(names, self.target, prediction.shape[1], "the model")
            return model, ClassInMask(target, inside, Path(self.mask).stem)
        found = detect(model, library.preprocessing.to_input(picture).to(device))
        if not 0 <= self.box < len(found.boxes):
            raise InputError(f"There is no box {self.box}: the detector finds {len(found.boxes)} in '{image}'.")
        return found.model, found.boxes[self.box].start


    def place(self, image: str | os.PathLike[str], library: Library) -> Place | None:
        """Return the mask in the picture's model input; None if no mask is given. Errors as in `of`."""
        if self.mask is None:
            return None
        picture = read_picture(image)
        size = library.preprocessing.to_input(picture).shape[1:]
        return Place(_mask(self.mask, picture, library, size).numpy())


def _commonest(prediction: Tensor, inside: Tensor, mask: str) -> int:
    """Return the class that most positions of a mask are predicted as."""
    if not inside.any():
        raise InputError(f"The mask '{mask}' is empty: no pixel of it is bright.")
    return int(prediction[0].argmax(0)[inside].mode().values)


def _output(model: nn.Module, data: Tensor) -> Tensor:
    was_training = model.training
    try:
        with torch.no_grad():
            return model.eval()(data[None])
    finally:
        model.train(was_training)


def _mask(path: str, picture: Image.Image, library: Library, size: tuple[int, ...]) -> Tensor:
    """Read a mask and carry it to the model's output, bool `[H, W]`."""
    drawn = read_picture(path)
    if drawn.size != picture.size:
        raise InputError(
            f"The mask '{path}' has {drawn.width} x {drawn.height} pixels, and the picture {picture.width} x "
            f"{picture.height}: both must be equally large."
        )
    plain = dataclasses.replace(library.preprocessing, mean=0.0, std=1.0, mode="L")
    inside = plain.to_input(drawn)[None]
    return torch.nn.functional.interpolate(inside, size=tuple(size), mode="area")[0, 0] > _BRIGHT
