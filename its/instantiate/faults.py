"""Collect the faults of a config and raise them in one error."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from its.errors import UserError, nearest

MOST_NAMED = 20
"""Maximum number of faults listed in a message."""
MOST_UNKNOWN = 5
"""Maximum number of unknown names listed for one object."""


@dataclass(frozen=True)
class Fault:
    """One fault of a config.

    Attributes:
        key: dotted key of the value.
        text: the given value, the expected value, and the remedy.
        unknown_class: whether the class name is unknown or not allowed.
    """

    key: str
    text: str
    unknown_class: bool = False

    @property
    def place(self) -> str:
        """The key at the beginning of `text` if it is below `key`, otherwise `key`."""
        first = self.text.partition(" ")[0].rstrip(":")
        return first if first.startswith(f"{self.key}.") else self.key

    def __str__(self) -> str:
        return self.text if self.place != self.key else f"{self.key}: {self.text}"


def raise_faults(faults: Sequence[Fault], source_of: Callable[[str], str | None] = lambda key: None) -> None:
    """Raise all faults in one error; `source_of` maps keys to the files that set them.

    Raises:
        UserError: `faults` is not empty.
    """
    lines = [f"{source}: {x}" if (source := source_of(x.place)) else str(x) for x in faults[:MOST_NAMED]]
    if len(faults) > len(lines):
        lines.append(f"and {len(faults) - len(lines):,} more")
    if lines:
        raise UserError(lines[0] if len(lines) == 1 else f"{len(faults)} faults:" + "".join(f"\n  {x}" for x in lines))


def unknown_names(names: Iterable[str], known: Collection[str], key: str, reason: str) -> list[Fault]:
    """Return a fault for each unknown name, and a single fault for all beyond `MOST_UNKNOWN`.

    Args:
        names: names to check.
        known: permitted names.
        key: dotted key of the mapping with these names.
        reason: text of a fault, in which `{name}` is replaced; the most similar known name is appended.
    """
    unknown = [str(name) for name in names if name not in known]
    faults = [
        Fault(f"{key}.{name}".lstrip("."), reason.format(name=name) + nearest(name, known))
        for name in unknown[:MOST_UNKNOWN]
    ]
    if len(unknown) > MOST_UNKNOWN:
        faults.append(Fault(key or "keys", f"{len(unknown) - MOST_UNKNOWN:,} more names are unknown"))
    return faults
