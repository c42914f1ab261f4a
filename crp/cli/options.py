"""Kinds of values on the command line that click does not know, and options that commands share."""

from __future__ import annotations

import re
from typing import Any

import click


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
    """One number, or several with commas between them."""

    name = "numbers"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | tuple[float, ...]:
        """Return a float or a tuple of floats."""
        try:
            numbers = tuple(float(part) for part in value.split(","))
        except ValueError:
            self.fail(f"'{value}' is not a number, nor numbers with commas between them (0.5,0.5,0.5).", param, ctx)
        return numbers[0] if len(numbers) == 1 else numbers


class Names(click.ParamType):
    """Names with commas between them."""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Return the names without blanks around them."""
        names = tuple(name.strip() for name in value.split(","))
        if not all(names):
            self.fail(f"'{value}' has an empty name; give names with commas between them (layer3,layer4).", param, ctx)
        return names


class Targets(click.ParamType):
    """A rule of targets that is known by its name."""

    name = "targets"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name."""
        if value not in ("label", "prediction") and not re.fullmatch(r"top[1-9]\d*", value):
            self.fail(f"'{value}' is neither 'label', 'prediction', nor 'top' with a number (top3).", param, ctx)
        return value


class Share(click.ParamType):
    """One part of several, "2/5"."""

    name = "i/n"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Return a pair; its range is checked where it is used."""
        parts = value.split("/")
        if len(parts) != 2 or not all(part.isdecimal() for part in parts):
            self.fail(f"'{value}' is no part of several; the first of three is 1/3.", param, ctx)
        return int(parts[0]), int(parts[1])


workers = click.option(
    "--workers", type=click.IntRange(min=0), default=0, show_default=True, help="Processes that read pictures ahead."
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
    help="Keep what was done on disk that often.",
)
overwrite = click.option("--overwrite", is_flag=True, help="Replace the library if there is one.")
device = click.option("--device", help="cpu, cuda, cuda:1 or mps; by default the fastest there is.", metavar="NAME")
weights = click.option(
    "--weights",
    metavar="FILE",
    help="State dict, .safetensors or .pt/.pth (read without running code), or DEFAULT for torchvision's own.",
)


def command_line(name: str, arguments: list[str], options: dict[str, Any]) -> list[str]:
    """Return a command's words from what decides its result, so that equal results have equal commands."""
    words = ["crp", name, *arguments]
    for option, value in options.items():
        if value is None or value is False:
            continue
        if value is True:
            words.append(f"--{option.replace('_', '-')}")
            continue
        many = isinstance(value, tuple)
        sign = "x" if option in ("size", "crop") else ","
        words += [f"--{option.replace('_', '-')}", sign.join(str(part) for part in value) if many else str(value)]
    return words
