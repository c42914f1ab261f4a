"""Error types that a caller may want to catch, and helpers for their sentences.

::

    CrpError                    anything this package refuses
    ├── InputError(ValueError)  an argument does not fit: layer, concept, class, shape, file, option
    ├── ModelError              the model cannot be explained (NaN weights, unknown type of output)
    ├── SampleError             one sample of a data set failed; names the sample
    └── LibraryError            a library cannot be read, or does not belong to this model, data or setting
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class CrpError(Exception):
    """Base of all errors raised on purpose by this package."""


class InputError(CrpError, ValueError):
    """An argument does not fit; the message says the value, what is allowed and the nearest name."""


class ModelError(CrpError, RuntimeError):
    """The model cannot be explained as it is."""


class SampleError(CrpError, RuntimeError):
    """One sample of the data set failed; the message names it.

    Attributes
    ----------
    sample
        Index in the data set.
    fact
        What is wrong with it: the sentence without its subject.
    name
        The data set's name of the sample, such as the path of a picture; may be empty.
    """

    def __init__(self, sample: int, fact: str, name: str = ""):
        super().__init__(sample, fact, name)  # the arguments with which pickle recreates it
        self.sample, self.fact, self.name = sample, fact, name

    def __str__(self) -> str:
        """Return the sentence, with the name of the sample if there is one."""
        named = f" ({self.name!r})" if self.name else ""
        return f"Sample {self.sample}{named} {self.fact}"


class LibraryError(CrpError, RuntimeError):
    """A library is damaged, incomplete, or belongs to something else."""


def listed(names: Iterable[object], limit: int = 8) -> str:
    """Join names for a sentence, at most `limit` of them.

    >>> listed(["conv1", "conv2"])
    "'conv1', 'conv2'"
    >>> listed(range(5), limit=2)
    '0, 1 and 3 more'
    """
    names = [repr(name) for name in names]
    if len(names) <= limit:
        return ", ".join(names) if names else "none"
    return f"{', '.join(names[:limit])} and {len(names) - limit} more"


def nearest(name: str, names: Sequence[str]) -> str:
    """End a sentence with the names that the caller may have meant.

    >>> nearest("layer5", ["layer4", "fc"])
    "did you mean 'layer4'?"
    >>> nearest("zzz", ["conv1", "fc"])
    "there are 'conv1', 'fc'."
    """
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    if close:
        return f"did you mean {' or '.join(repr(match) for match in close)}?"
    return f"there are {listed(names)}."


def shortened(value: object, length: int = 80) -> str:
    """Format any value for a sentence, on one line and with limited length.

    >>> shortened("a" * 100, 20), shortened(10**5000)
    ("'aaaaaaa…aaaaaaaa'", 'a number of 16610 bits')
    """
    if isinstance(value, int) and value.bit_length() > 128:
        return f"a number of {value.bit_length()} bits"
    text = str(value) if isinstance(value, Exception) else repr(value)
    text = " ".join(text.split()) if "\n" in text else text
    return text if len(text) <= length else f"{text[: length // 2 - 2]}…{text[-(length // 2 - 1):]}"


def inert(text: str) -> str:
    r"""Escape the characters of a text from a file that are not safe for a terminal, except line breaks.

    >>> inert("a\x1b[2Jb")
    'a\\x1b[2Jb'
    """
    return "".join(
        character if character.isprintable() or character == "\n" else repr(character)[1:-1] for character in text
    )
