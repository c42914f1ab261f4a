"""Types of option values that click does not have, and options that several commands share."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from crp.library import Library


class Pixels(click.ParamType):
    """One side, "224", or "HEIGHTxWIDTH"."""

    name = "pixels"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | tuple[int, ...]:
        """Return an int or a pair; their range is checked where they are used."""
        sides = value.lower().split("x")
        if len(sides) > 2 or not all(side.isdecimal() for side in sides):
            self.fail(f"'{value}' is neither a number of pixels (224) nor HEIGHTxWIDTH (224x320).", param, ctx)
        return int(sides[0]) if len(sides) == 1 else tuple(int(side) for side in sides)


class Numbers(click.ParamType):
    """One number, or several separated by commas."""

    name = "numbers"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | tuple[float, ...]:
        """Return a float or a tuple of floats."""
        try:
            numbers = tuple(float(part) for part in value.split(","))
        except ValueError:
            self.fail(f"'{value}' is neither a number nor numbers separated by commas (0.5,0.5,0.5).", param, ctx)
        return numbers[0] if len(numbers) == 1 else numbers


class Names(click.ParamType):
    """Names separated by commas."""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Return the names without surrounding spaces."""
        names = tuple(name.strip() for name in value.split(","))
        if not all(names):
            self.fail(f"'{value}' has an empty name; give names separated by commas (layer3,layer4).", param, ctx)
        return names


class Targets(click.ParamType):
    """A target rule with a name, or an expression of classes."""

    name = "targets"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name."""
        from crp.class_names import is_expression

        named = value in ("label", "prediction") or re.fullmatch(r"top[1-9]\d*", value)
        if not named and not is_expression(value):
            self.fail(
                f"'{value}' is not 'label', 'prediction', 'top' with a number (top3), or an expression of classes "
                "('octagon - disc', 'octagon - others').",
                param,
                ctx,
            )
        return value


class Part(click.ParamType):
    """The name or index of a part of an output."""

    name = "part"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str | int:
        """Return an int if it is one."""
        return int(value) if str(value).isdecimal() else value


class Share(click.ParamType):
    """One of several parts, "2/5"."""

    name = "i/n"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Return a pair; its range is checked where it is used."""
        parts = value.split("/")
        if len(parts) != 2 or not all(part.isdecimal() for part in parts):
            self.fail(f"'{value}' is not one of several parts, such as 1/3.", param, ctx)
        return int(parts[0]), int(parts[1])


probabilities = click.option(
    "--probabilities",
    type=click.Choice(["softmax", "sigmoid"]),
    help="How logits become class probabilities; default: what the model ends in, else sigmoid if samples of the mined "
    "data have several labels, else softmax.",
)
workers = click.option(
    "--workers", type=click.IntRange(min=0), default=0, show_default=True, help="Processes that load pictures ahead."
)
skip_bad = click.option(
    "--skip-bad", is_flag=True, help="Skip samples that cannot be read or explained; the library lists them."
)
checkpoint = click.option(
    "--checkpoint",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="Interval at which progress is saved to disk.",
)
patches_now = click.option(
    "--patches-now",
    type=click.Choice(["all", "first", "none"]),
    default="none",
    show_default=True,
    help="Patches to make now: all, the best one of each concept and mode, or none; pages make the others when needed.",
)
overwrite = click.option("--overwrite", is_flag=True, help="Replace an existing library.")
device = click.option("--device", help="cpu, cuda, cuda:1 or mps; default: the fastest available.", metavar="NAME")
concept = click.option(
    "--concept",
    multiple=True,
    metavar="KIND",
    help="Kind of concept: channels (default), positions, tokens, heads:12 (at a layer NAME..input), directions:FILE; "
    "LAYER=KIND for one layer, repeated for several.",
)
weights = click.option(
    "--weights",
    metavar="FILE",
    help="State dict, .safetensors or .pt/.pth (no code is run), or DEFAULT for torchvision's or timm's weights.",
)

size = click.option(
    "--size", type=Pixels(), help="Resize the short side to 224, or both sides to 224x320.", metavar="PIXELS"
)
crop = click.option("--crop", type=Pixels(), help="Centre crop; by default the square of --size.", metavar="PIXELS")
preprocessing = click.option(
    "--preprocessing",
    metavar="FILE",
    help="JSON file with size, crop, mean, std, mode and interpolation; the options of the same names take precedence.",
)
show_channels = click.option(
    "--show-channels",
    type=Names(),
    metavar="CHANNELS",
    help="For images with other channels or values (satellites, microscopes): the channel drawn as grey, or the three "
    "drawn as red, green and blue, by name or number from 0 (7,4,2). The model gets the values of the files.",
)
show_limits = click.option(
    "--show-limits",
    type=Numbers(),
    metavar="LOW,HIGH",
    help="For such images: the values drawn as black and as full colour (0,4095); default: the range of each channel.",
)
output = click.option(
    "--output",
    type=Part(),
    metavar="NAME",
    help="Part of the model's output to explain, by name or index, if it is a dict or tuple.",
)


def command_line(name: str, arguments: list[str], options: dict[str, Any]) -> list[str]:
    """Return the words of a command that decide its result, so that equal results have equal commands."""
    words = ["crp", name, *arguments]
    for option, value in options.items():
        if value is None or value is False or value == ():
            continue
        if value is True:
            words.append(f"--{option.replace('_', '-')}")
            continue
        if option == "concept":
            words += [word for kind in value for word in ("--concept", kind)]
            continue
        many = isinstance(value, tuple)
        sign = "x" if option in ("size", "crop") else ","
        words += [f"--{option.replace('_', '-')}", sign.join(str(part) for part in value) if many else str(value)]
    return words


def next_command(library: Library, data: object, model: str | None) -> str:
    """Return the command to run after mining: one that works when it is pasted.

    It explains the first picture if the data are picture files, and otherwise describes the library.
    """
    from crp.sources.data import PictureFolder

    if library.preprocessing is None or not isinstance(data, PictureFolder):
        return shlex.join(["crp", "info", str(library.path)])
    words = explaining_command(library.path, data.path / data.sample_name(0), model)
    start = (library.manifest["source"] or {}).get("start")
    return words if start is None else f"{words} {shlex.join(['--target', start['words']])}"


def explaining_command(library: object, picture: object, model: str | None = None) -> str:
    """Return the command that explains a picture with a library, quoted for a shell.

    `model` is what the user called the model. It is repeated if it is code, which a library alone does not run.
    """
    from crp.sources.named_models import runs_by_itself

    words = ["crp", "atlas", str(library), str(picture)]
    if model is not None and not runs_by_itself(model):
        words += ["--model", model]
    return shlex.join(words)
