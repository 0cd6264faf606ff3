"""Errors that are the user's to mend: one clear message, exit status 2, no traceback."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any

_SECRET = re.compile(r"(?i)(api_?key|token|secret|password|credential)")


class UserError(Exception):
    """Wrong input. The message says what was got, what was expected, what to do and where it came from."""


def nearest(word: str, known: Iterable[str]) -> str:
    """' Did you mean X?' where a known word is close, whatever its case, else ''."""
    matches = by_nearness(word, known, cutoff=0.6)
    return f" Did you mean {matches[0]}?" if matches else ""


def by_nearness(word: str, known: Iterable[str], *, cutoff: float = 0.0) -> list[str]:
    """Known words, the closest first; those below the cutoff, in [0, 1], are left out."""
    lower = {name.lower(): name for name in known}
    return [lower[name] for name in difflib.get_close_matches(word.lower(), lower, n=len(lower) or 1, cutoff=cutoff)]


def without_secrets(value: Any, key: str = "") -> Any:
    """Replace texts, and texts in lists, under keys that name secrets, such as `api_key`, by `(left out)`."""
    if isinstance(value, dict):
        return {k: without_secrets(v, str(k)) for k, v in value.items()}
    if isinstance(value, list):
        return [without_secrets(v, key) for v in value]
    is_secret = isinstance(value, str) and _SECRET.search(key.rpartition(".")[2])
    return "(left out)" if is_secret else value
