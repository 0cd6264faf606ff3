"""Errors that are the user's to mend: one clear message, exit status 2, no traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Wrong input. The message says what was got, what was expected, what to do and where it came from."""


def nearest(word: str, known: Iterable[str]) -> str:
    """' Did you mean X?' where a known word is close, else ''."""
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" Did you mean {matches[0]}?" if matches else ""
