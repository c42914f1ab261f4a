"""Sounds of patches and inputs, up to a number of bytes: inside a page, or in files that pages of a site share."""

from __future__ import annotations

import base64
from dataclasses import dataclass

# Bytes of all sounds of a page, as text, and of the files of a concept.
LIMIT = 1_500_000


@dataclass
class Sounds:
    """What a page can play, and what was left out.

    Attributes
    ----------
    whole
        What has a limit, for the sentence about it: "a page".
    used
        Characters of all sounds so far.
    left_out
        Number of sounds that did not fit.
    """

    whole: str
    used: int = 0
    left_out: int = 0

    def embedded(self, sound: bytes) -> str:
        """Return a sound as data URI; empty if there is none or it does not fit."""
        if not sound:
            return ""
        uri = f"data:audio/wav;base64,{base64.b64encode(sound).decode('ascii')}"
        if self.used + len(uri) > LIMIT:
            self.left_out += 1
            return ""
        self.used += len(uri)
        return uri

    @property
    def sentence(self) -> str:
        """Say what was left out; empty if nothing was."""
        if not self.left_out:
            return ""
        these = "1 sound is" if self.left_out == 1 else f"{self.left_out} sounds are"
        return f" {these} left out, because the sounds of {self.whole} take at most {LIMIT / 1e6:g} MB."
