"""The options of `mine`, checked before anything is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from crp.arguments import whole_number, yes_or_no
from crp.concepts import ChannelConcept, Kinds, Layout
from crp.errors import InputError, shortened
from crp.mining.durable.work import Shard

from .scores import Score
from .targets import TargetRule, check_rule, rule_name

# The dtype of the pass over the data set, by precision; None is the model's own.
PRECISIONS = {None: None, "tf32": None, "bfloat16": torch.bfloat16}

# Longest side of a stored patch, in pixels: several fit in a row of a page.
PATCH_SIZE = 96
# Longest stored window of a sound, in samples: a patch is played, and with fewer of them it loses its high frequencies.
SOUND_SIZE = 4096

# The last bits of relevance depend on the number of threads, so it is a setting of the library, the same on every
# machine and however the process was started (torchrun sets 1). More processes use more cores.
THREADS = 4

# Seconds between checkpoints: a kill loses at most this much work.
CHECKPOINT = 60.0

# Which patches mining makes itself: all, the best one of each concept and mode, or none.
WHEN = ("all", "first", "none")

# Concepts of a library unless others are given.
CHANNELS = ChannelConcept()

# Options that are whole numbers, and the smallest valid value of each.
_LEAST = {"k": 1, "top": 1, "block_size": 1, "threads": 1, "workers": 0, "patches": 0, "class_references": 0}
_OPTIONAL = ("threads", "class_references")


@dataclass(frozen=True)
class Settings:
    """Options of `mine` that do not depend on the model or the data set.

    Parameters
    ----------
    k, top, class_references, vectors, patches, block_size, threads, workers, precision, skip_bad, targets
        As in `crp.mine`.
    patches_now
        One of `WHEN`.
    concept, layouts
        As in `crp.mine`.
    relevance_score, activation_score
        How a sample is scored for a concept.
    device
        Where to compute; None for the model's device.
    shard
        The shard to compute; None for the whole data set.

    Raises
    ------
    InputError
        If a number is out of range, or there is no such precision or target rule.
    """

    k: int
    top: int
    class_references: int | None
    vectors: bool
    patches: int
    patches_now: str
    block_size: int
    threads: int | None
    workers: int
    precision: str | None
    skip_bad: bool
    targets: TargetRule
    concept: Kinds
    layouts: Mapping[str, Layout] | None
    relevance_score: Score
    activation_score: Score
    device: str | torch.device | None
    shard: Shard | None

    def __post_init__(self) -> None:
        """Check the options."""
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is None and name in _OPTIONAL:
                continue
            object.__setattr__(self, name, whole_number(name, value, least))
        for name in ("vectors", "skip_bad"):
            object.__setattr__(self, name, yes_or_no(name, getattr(self, name)))
        if not isinstance(self.precision, str | None) or self.precision not in PRECISIONS:
            raise InputError(
                f"There is no precision {shortened(self.precision)}: it is 'bfloat16', 'tf32', or None for the model's "
                "own."
            )
        for kind in self.concept.values() if isinstance(self.concept, Mapping) else [self.concept]:
            if isinstance(kind, type) or not callable(getattr(kind, "size", None)):
                raise InputError(f"A kind of concept is a value such as crp.ChannelConcept(), given {shortened(kind)}.")
        if not isinstance(self.patches_now, str) or self.patches_now not in WHEN:
            raise InputError(f"patches_now is {shortened(self.patches_now)}: it is 'all', 'first' or 'none'.")
        check_rule(self.targets)
        object.__setattr__(self, "patches", min(self.patches, self.k))

    @property
    def made_now(self) -> int:
        """Number of patches of each concept and mode that mining makes."""
        return {"all": self.patches, "first": min(1, self.patches), "none": 0}[self.patches_now]

    @property
    def dtype(self) -> torch.dtype | None:
        """Dtype of the pass over the data set; None for the model's own."""
        return PRECISIONS[self.precision]

    @property
    def scores(self) -> dict[str, Score]:
        """The two scores by the names of their options."""
        return {"relevance_score": self.relevance_score, "activation_score": self.activation_score}

    def stored(self, own_precision: str, device: str) -> dict[str, Any]:
        """Return what the manifest says of the options (docs/library-format.md)."""
        return {
            "k": self.k,
            "top": self.top,
            "class_references": self.class_references,
            "vectors": self.vectors,
            "patches": self.patches,
            "targets": rule_name(self.targets),
            "block_size": self.block_size,
            "precision": self.precision or own_precision,
            "threads": self.threads,
            "device": device,
        }


def chosen_shard(shard: tuple[int, int] | None, *, distributed: bool, restart: bool) -> Shard | None:
    """Check the option `shard=(i, n)`.

    Raises
    ------
    InputError
        If there is no such shard, or it is combined with `distributed` or `restart`.
    """
    if shard is None:
        return None
    if not isinstance(shard, tuple | list) or len(shard) != 2:
        raise InputError(f"shard is {shortened(shard)}; it must be a pair (i, n) of whole numbers, such as (1, 4).")
    place, count = (whole_number("each number of shard", part, 0) for part in shard)
    if not 1 <= place <= count:
        raise InputError(f"There is no shard {place}/{count}: the shards of {count} are 1/{count} to {count}/{count}.")
    for given, name in ((distributed, "distributed (torchrun)"), (restart, "restart (--restart)")):
        if given:
            raise InputError(f"A shard is a separate run and cannot be combined with {name}.")
    return Shard(place, count)
