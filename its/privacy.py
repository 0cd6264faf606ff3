"""Remove secrets and the path of the home folder from messages and files."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LEFT_OUT = "(left out)"

SHORTEST = 8
"""Minimum characters of an environment variable's value to count as a secret."""

PROMPTS = ("prompts", "negative_prompts")
"""Keys whose texts keep their secrets, since a changed prompt defines another sample."""

_NAMES = (
    r"(?:api[_-]?key|access[_-]?key|private[_-]?key|token(?!iz)|secret|passw(?:or)?d|credential|authorization|cookie)"
)
_NAME = re.compile(_NAMES, re.IGNORECASE)
_TEXTS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"([a-z][a-z0-9+.-]{0,20}://)[^\s/\"'<>]{1,500}(?=@)",  # user:password@ in a URL
        r"(authorization[\"']?\s{0,3}[:=]\s{0,3}[\"']?)(?:[a-z]{1,20}\s{1,3})?[^\s\"',;]+",  # a header
        r"(\bbearer\s{1,3})[\w.~+/=-]{16,}",
        r"([?&][\w.-]{0,40}sig(?:nature)?=)[^&\s\"'#]+",  # of a signed URL
        rf"((?<![\w-])[\w-]{{0,40}}{_NAMES}[\w-]{{0,20}}=)[^&\s\"',;#]+",  # name=value, also in a URL
        rf"([\"'][\w-]{{0,40}}{_NAMES}[\w-]{{0,20}}[\"']\s{{0,3}}:\s{{0,3}}[\"'])[^\"']+",  # "name": "value"
    )
)
"""Patterns of secrets; the first group is kept. Repetitions are bounded to avoid quadratic time."""


def without_secrets(value: Any, key: str = "") -> Any:
    """Replace secrets in texts, and texts and numbers under secret keys such as `api_key`.

    Secrets in texts are credentials in URLs, `Authorization` headers, `token=...` and similar, and the values of
    environment variables with secret names. Numbers under keys with "token" are kept: `max_tokens` is a count.

    Args:
        value: text, number, or nested mappings and lists of them.
        key: dotted key of the value.
    """
    return _scrub(value, key, _environment(), home=None)


def scrub(value: Any) -> Any:
    """Replace secrets, and the path of the home folder by `~`."""
    return _scrub(value, "", _environment(), home=_home())


def _scrub(value: Any, key: str, known: re.Pattern[str] | None, *, home: re.Pattern[str] | None) -> Any:
    name = key.rpartition(".")[2]
    if name in PROMPTS:
        return _without_home(value, home)
    if isinstance(value, Mapping):
        return {
            _scrub(name, "", known, home=home): _scrub(inner, str(name), known, home=home)
            for name, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [_scrub(inner, key, known, home=home) for inner in value]
    if _NAME.search(name):
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and "token" not in name.lower()
        return LEFT_OUT if isinstance(value, str) or is_number else value
    return _without(value, known, home) if isinstance(value, str) else value


def _without_home(value: Any, home: re.Pattern[str] | None) -> Any:
    """Replace only the home folder, in the paths of media prompts."""
    if isinstance(value, Mapping):
        return {name: _without_home(inner, home) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_home(inner, home) for inner in value]
    return home.sub("~", value) if home is not None and isinstance(value, str) else value


def _without(text: str, known: re.Pattern[str] | None, home: re.Pattern[str] | None) -> str:
    for pattern in _TEXTS:
        text = pattern.sub(rf"\g<1>{LEFT_OUT}", text)
    if known is not None:
        text = known.sub(LEFT_OUT, text)
    return text if home is None else home.sub("~", text)


def _environment() -> re.Pattern[str] | None:
    """Return a pattern of the values of secret environment variables, such as `HF_TOKEN`."""
    values = {value for name, value in os.environ.items() if _NAME.search(name) and len(value) >= SHORTEST}
    return re.compile("|".join(map(re.escape, sorted(values, key=len, reverse=True)))) if values else None


def _home() -> re.Pattern[str] | None:
    """Return a pattern of the home folder at the start of a path; None if it is the root or unknown."""
    try:
        home = Path.home()
        folders = {str(folder) for folder in (home, home.resolve()) if len(folder.parts) > 1}
    except (OSError, RuntimeError):
        return None
    if not folders:
        return None
    return re.compile(rf"(?<![\w.~-])(?<!\w/)(?:{'|'.join(map(re.escape, sorted(folders)))})(?![\w.-])")
