"""Errors that are the user's to mend: one clear message, exit status 2, no traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from its.privacy import without_secrets


class UserError(Exception):
    """Wrong input. The message says what was got, what was expected, what to do and where it came from.

    Secrets are left out of it.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(without_secrets(message))


def nearest(word: str, known: Iterable[str]) -> str:
    """' Did you mean X?' where a known word is close, whatever its case, else ''."""
    matches = by_nearness(word, known, cutoff=0.6)
    return f" Did you mean {matches[0]}?" if matches else ""


def by_nearness(word: str, known: Iterable[str], *, cutoff: float = 0.0) -> list[str]:
    """Known words, the closest first; those below the cutoff, in [0, 1], are left out."""
    lower = {name.lower(): name for name in known}
    return [lower[name] for name in difflib.get_close_matches(word.lower(), lower, n=len(lower) or 1, cutoff=cutoff)]
