"""Of many pictures, those that fail: the others go on, and a sentence at the end names them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike

from crp.errors import CrpError, InputError

# After so many pictures that failed, and none that did not, the cause is not in the pictures.
_HOPELESS = 3
# Failed pictures named in the sentence about them.
_NAMED = 5


class FailedPictures:
    """Collects the errors of pictures that are worked on one after another.

    Parameters
    ----------
    count
        Number of all pictures.

    Examples
    --------
    >>> failed = FailedPictures(2)
    >>> for name in ("a.png", "b.png"):
    ...     with failed.of(name):
    ...         if name == "a.png":
    ...             raise InputError("it is empty.")
    >>> failed.report("were not used")
    Traceback (most recent call last):
    crp.errors.InputError: 1 of 2 pictures were not used: 'a.png': it is empty.
    """

    def __init__(self, count: int) -> None:
        self._count, self._done = count, 0
        self._found: list[str] = []

    @contextmanager
    def of(self, path: str | PathLike[str]) -> Iterator[None]:
        """Keep the error of one picture, unless the first three failed, or all.

        Raises
        ------
        CrpError
        """
        try:
            yield
        except CrpError as error:
            reason = str(error).rstrip(".")
            self._found.append(reason if str(path) in reason else f"'{path}': {reason}")
            if not self._done and len(self._found) == min(_HOPELESS, self._count):
                raise
        else:
            self._done += 1

    def report(self, what: str) -> None:
        """Raise an error that names the pictures that failed, if any did.

        Raises
        ------
        InputError
            "2 of 9 pictures", what became of them, and the reasons.
        """
        if self._found:
            more = f" and {len(self._found) - _NAMED} more" if len(self._found) > _NAMED else ""
            raise InputError(
                f"{len(self._found)} of {self._count} pictures {what}: {'; '.join(self._found[:_NAMED])}{more}."
            )
