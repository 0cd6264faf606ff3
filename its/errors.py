"""Errors in user input, reported as a message without a traceback and with exit status 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from its.privacy import without_secrets


class UserError(Exception):
    """Error in user input. The message has the value, its source, the expected value and the remedy, but no secrets."""

    def __init__(self, message: str = "") -> None:
        super().__init__(without_secrets(message))


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ' Did you mean X?' for the closest known word, ignoring case, or '' if none is similar."""
    matches = by_nearness(word, known, cutoff=0.6)
    return f" Did you mean {matches[0]}?" if matches else ""


def by_nearness(word: str, known: Iterable[str], *, cutoff: float = 0.0) -> list[str]:
    """Sort known words by similarity, ignoring case; words with a similarity (0 to 1) below `cutoff` are omitted."""
    lower = {name.lower(): name for name in known}
    return [lower[name] for name in difflib.get_close_matches(word.lower(), lower, n=len(lower) or 1, cutoff=cutoff)]
