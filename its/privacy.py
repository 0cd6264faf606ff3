"""Remove secrets and the path of the home folder from messages and files."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Replacement = tuple[re.Pattern[str], str]

LEFT_OUT = "(left out)"
SHORTEST = 8
"""Minimum characters of an environment variable's value to count as a secret."""
PROMPTS = ("prompts", "negative_prompts")
"""Keys whose texts are not changed, since a changed prompt defines another sample."""

_NAMES = (
    r"(?:api[_-]?key|access[_-]?key|private[_-]?key|token(?!iz)|secret|passw(?:or)?d|credential|authorization|cookie)"
)
_NAME = re.compile(_NAMES, re.IGNORECASE)
_TEXTS: list[Replacement] = [
    (re.compile(pattern, re.IGNORECASE), rf"\g<1>{LEFT_OUT}")
    for pattern in (
        r"([a-z][a-z0-9+.-]{0,20}://)[^\s/\"'<>]{1,500}(?=@)",  # user:password@ in a URL
        r"(authorization[\"']?\s{0,3}[:=]\s{0,3}[\"']?)(?:[a-z]{1,20}\s{1,3})?[^\s\"',;]+",  # a header
        r"(\bbearer\s{1,3})[\w.~+/=-]{16,}",
        r"([?&][\w.-]{0,40}sig(?:nature)?=)[^&\s\"'#]+",  # of a signed URL
        rf"((?<![\w-])[\w-]{{0,40}}{_NAMES}[\w-]{{0,20}}=)[^&\s\"',;#]+",  # name=value, also in a URL
        rf"([\"'][\w-]{{0,40}}{_NAMES}[\w-]{{0,20}}[\"']\s{{0,3}}:\s{{0,3}}[\"'])[^\"']+",  # "name": "value"
    )
]
"""Patterns of secrets; the first group is kept. Repetitions are bounded to avoid quadratic time."""


def without_secrets(value: Any, key: str = "") -> Any:
    """Replace secrets in texts, and texts and numbers under secret keys such as `api_key`.

    Secrets in texts are credentials in URLs, `Authorization` headers, `token=...` and similar, and the values of
    environment variables with secret names. Numbers under keys with "token" are kept: `max_tokens` is a count.

    Args:
        value: text, number, or nested mappings and lists of them.
        key: dotted key of the value.
    """
    return _scrub(value, key, _secrets(), [])


def scrub(value: Any) -> Any:
    """Replace secrets, and the path of the home folder by `~`."""
    return _scrub(value, "", _secrets(), _home())


def _scrub(value: Any, key: str, secrets: Sequence[Replacement], home: Sequence[Replacement]) -> Any:
    name = key.rpartition(".")[2]
    if name in PROMPTS:
        secrets = []
    if isinstance(value, Mapping):
        return {
            _scrub(name, "", secrets, home): _scrub(inner, str(name) if secrets else "", secrets, home)
            for name, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [_scrub(inner, key, secrets, home) for inner in value]
    if secrets and _NAME.search(name):
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and "token" not in name.lower()
        return LEFT_OUT if isinstance(value, str) or is_number else value
    if isinstance(value, str):
        for pattern, replacement in (*secrets, *home):
            value = pattern.sub(replacement, value)
    return value


def _secrets() -> list[Replacement]:
    values = {value for name, value in os.environ.items() if _NAME.search(name) and len(value) >= SHORTEST}
    variables = "|".join(map(re.escape, sorted(values, key=len, reverse=True)))
    return [*_TEXTS, (re.compile(variables), LEFT_OUT)] if values else _TEXTS


def _home() -> list[Replacement]:
    """Match the home folder at the start of a path, unless it is the root or unknown."""
    try:
        home = Path.home()
        folders = "|".join(re.escape(str(path)) for path in sorted({home, home.resolve()}) if len(path.parts) > 1)
    except (OSError, RuntimeError):
        return []
    return [(re.compile(rf"(?<![\w.~-])(?<!\w/)(?:{folders})(?![\w.-])"), "~")] if folders else []
