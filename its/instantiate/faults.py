"""Faults of a config, reported together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from its.errors import UserError


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
    lines = [f"{source}: {fault}" if (source := source_of(fault.place)) else str(fault) for fault in faults]
    if lines:
        raise UserError(lines[0] if len(lines) == 1 else f"{len(lines)} faults:" + "".join(f"\n  {x}" for x in lines))
