"""Faults of a config, reported together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from its.errors import UserError, nearest

MOST_NAMED = 20
"""Faults that a message names one by one."""
MOST_UNKNOWN = 5
"""Unknown names among them, for each object."""


@dataclass(frozen=True)
class Fault:
    """One fault of a config.

    Attributes:
        key: dotted key of the value.
        text: what was given, what is expected, what to do.
        unknown_class: whether the value names no class that is allowed in its place.
    """

    key: str
    text: str
    unknown_class: bool = False

    @property
    def place(self) -> str:
        """The key that the text itself begins with, where it is below `key`; else `key`."""
        first = self.text.partition(" ")[0].rstrip(":")
        return first if first.startswith(f"{self.key}.") else self.key

    def __str__(self) -> str:
        return self.text if self.place != self.key else f"{self.key}: {self.text}"


def raise_faults(faults: Sequence[Fault], source_of: Callable[[str], str | None] = lambda key: None) -> None:
    """Report all faults in one error, if there are any.

    Args:
        faults: of a config.
        source_of: key -> the file that set it, or the command line.

    Raises:
        UserError: there are some.
    """
    named = faults[:MOST_NAMED]
    lines = [f"{source}: {fault}" if (source := source_of(fault.place)) else str(fault) for fault in named]
    if len(faults) > len(lines):
        lines.append(f"and {len(faults) - len(lines):,} more")
    if lines:
        raise UserError(lines[0] if len(lines) == 1 else f"{len(faults)} faults:" + "".join(f"\n  {x}" for x in lines))


def unknown_names(given: Iterable[str], known: Collection[str], key: str, reason: str) -> list[Fault]:
    """A fault for each name that is unknown, with the nearest known one; after `MOST_UNKNOWN`, one for all others.

    Args:
        given: names.
        known: names that may be given.
        key: dotted key of what they are given to.
        reason: `{name}` in it becomes the name.
    """
    unknown = [str(name) for name in given if name not in known]
    faults = [
        Fault(f"{key}.{name}".lstrip("."), reason.format(name=name) + nearest(name, known))
        for name in unknown[:MOST_UNKNOWN]
    ]
    if len(unknown) > MOST_UNKNOWN:
        faults.append(Fault(key or "keys", f"{len(unknown) - MOST_UNKNOWN:,} more names are unknown"))
    return faults
