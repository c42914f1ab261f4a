"""What a person decided about suspicious concepts, in a small file beside the library: `Verdicts`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crp.errors import InputError, LibraryError, nearest
from crp.files import write_file
from crp.library import Library

KINDS = ("artefact", "fine", "unsure")


@dataclass(frozen=True)
class Verdict:
    """A verdict, one of `"artefact"`, `"fine"` and `"unsure"`, and a note."""

    verdict: str
    note: str = ""


class Verdicts:
    """Verdicts on the concepts of a library, kept in `NAME.suspects.json` beside it.

    Parameters
    ----------
    library
        The library.

    Raises
    ------
    LibraryError
        If the file is damaged, or was made for a model with other weights.
    """

    def __init__(self, library: Library) -> None:
        self.path = Path(library.path).with_name(f"{Path(library.path).stem}.suspects.json")
        self._weights = library.manifest["model"]["weights"]
        self._found = self._read() if self.path.is_file() else {}

    def __getitem__(self, concept: str) -> Verdict | None:
        """Return the verdict on a concept such as `"conv5/37"`; None if there is none."""
        return self._found.get(concept)

    def set(self, concept: str, verdict: str, note: str = "") -> None:
        """Keep a verdict, and write the file.

        Raises
        ------
        InputError
            If it is not one of the three kinds.
        """
        if verdict not in KINDS:
            raise InputError(f"There is no verdict {verdict!r}: {nearest(verdict, KINDS)}")
        self._found[concept] = Verdict(verdict, note)
        write_file(self.path, (json.dumps(self.to_json(), indent=1, ensure_ascii=False) + "\n").encode())

    def to_json(self) -> dict[str, Any]:
        """Return what the file holds, as JSON values."""
        stored = {name: {"verdict": one.verdict, "note": one.note} for name, one in sorted(self._found.items())}
        return {"weights": self._weights, "verdicts": stored}

    def _read(self) -> dict[str, Verdict]:
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            weights = content["weights"]
            found = {
                str(name): Verdict(str(one["verdict"]), str(one["note"])) for name, one in content["verdicts"].items()
            }
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise LibraryError(f"The file of verdicts '{self.path}' is damaged.") from error
        if weights != self._weights:
            raise LibraryError(f"The verdicts in '{self.path}' are on the concepts of a model with other weights.")
        return found
