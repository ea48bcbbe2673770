"""What a check says."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

NAMED_FAULTS = 5
"""Kinds of fault that a message tells one by one; the rest are only counted."""


@dataclass(frozen=True)
class Check:
    """A verdict.

    Attributes:
        name: of the check.
        passed: whether the run may go on.
        message: what was seen, in words.
        figures: what was seen, in numbers.
        warning: it passed, and yet somebody should look.
    """

    name: str
    passed: bool
    message: str
    figures: dict[str, Any] = field(default_factory=dict)
    warning: bool = False


def verdict(
    name: str, faults: Mapping[str, pl.Series], fine: str, figures: Mapping[str, Any] | None = None
) -> Check:
    """Return a check that fails when there is any fault, and names the first of each kind.

    Args:
        name: of the check.
        faults: in words, what is wrong, and the keys of the rows where it is.
        fine: the message when nothing is wrong.
        figures: more numbers; how many faults there are is added.
    """
    found = [
        f"{keys.len():,} {what}, such as {keys.sort()[0]}"
        for what, keys in faults.items()
        if keys.len()
    ]
    if len(found) > NAMED_FAULTS:
        found[NAMED_FAULTS:] = [f"and {len(found) - NAMED_FAULTS} more kinds of fault"]
    counted = {**(figures or {}), "faults": sum(keys.len() for keys in faults.values())}
    return Check(name, not found, "; ".join(found) or fine, counted)
