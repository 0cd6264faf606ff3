"""Read, check and write `sample.json`, the record of a sample."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import GenericAlias, UnionType
from typing import Any, get_args

from its.errors import UserError
from its.media.atomic import write_bytes
from its.media.limited import read_limited
from its.privacy import scrub

RECORD = "sample.json"

DEEPEST = 100
"""Maximum nesting depth of mappings and lists, so that functions can process records recursively."""

SCHEMA: Mapping[str, Any] = {
    "id": str,
    "status": str,
    "error": str | None,
    "prompts": dict[str, str],
    "negative_prompts": dict[str, str],
    "roles": dict[str, str],
    "seed": int,
    "settings": dict[str, Any],
    "config": dict[str, Any],
    "format": dict[str, Any] | None,
    "weights": dict[str, dict[str, Any] | None],
    "fallback": str | None,
    "scores": dict[str, Any],
    "timings": dict[str, Any],
    "evaluations": dict[str, int],
    "versions": dict[str, Any],
}
"""Types of the values of a record. All keys but `status` are optional. Methods and plugins define `Any` values."""

MOST_PROMPTS = 100
"""Maximum number of prompts. Each is a caption in videos and a column in tables."""

REQUIRED = ("prompts", "seed")
"""Keys required in the record of a complete sample."""


def load_record(folder: Path) -> dict[str, Any]:
    """Read and check the record in a sample's folder.

    Raises:
        FileNotFoundError: the folder has no record.
        OSError: the record can't be read, or is not a regular file; `strerror` is the reason.
        ValueError: the record is damaged; the message is the reason.
    """
    try:
        record = json.loads(read_limited(folder / RECORD, follow_links=False).decode())
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    if not isinstance(record, dict) or "status" not in record:
        raise ValueError("expected a mapping with the key status")
    check_values(record)
    for key, kind in SCHEMA.items():
        if key in record and not _fits(record[key], kind):
            raise ValueError(f"{key} is {record[key]!r:.60}; expected {getattr(kind, '__name__', kind)}")
    if len(record.get("prompts", {})) > MOST_PROMPTS:
        raise ValueError(f"it has more than {MOST_PROMPTS} prompts")
    if record["status"] == "ok" and (missing := [key for key in REQUIRED if key not in record]):
        raise ValueError(f"its status is ok, but it has no {missing[0]}")
    return record


def read_record(folder: Path) -> dict[str, Any] | None:
    """Read the record in a sample's folder; None if it is missing or damaged."""
    try:
        return load_record(folder)
    except (OSError, ValueError):
        return None


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write the record of a sample, without secrets.

    Raises:
        NotWritten: the record can't be written.
    """
    text = json.dumps(scrub(record), indent=2, ensure_ascii=False) + "\n"
    write_bytes(folder / RECORD, text.encode(errors="replace"))  # error messages may have any text


def update_record(folder: Path, change: Mapping[str, Any]) -> dict[str, Any]:
    """Set keys in a sample's record on disk, and return the updated record. Mappings are merged with existing ones.

    Raises:
        NotWritten: the record can't be written.
        UserError: the record can't be read.
    """
    record = read_record(folder)
    if record is None:
        raise UserError(f"{folder / RECORD} was changed or removed during this command: run the command again")
    for key, value in change.items():
        both = isinstance(value, Mapping) and isinstance(record.get(key), Mapping)
        record[key] = {**record[key], **value} if both else value
    write_record(folder, record)
    return record


def seconds_of(record: Mapping[str, Any]) -> float | None:
    """Return the time of a sample in seconds: its share of the batch's stages, without startup. None if unknown."""
    timings = {key: value for key, value in record.get("timings", {}).items() if not isinstance(value, Mapping)}
    stages = dict(numbers(timings))
    size = stages.pop("batch_size", 1)
    return round(sum(stages.values()) / max(size, 1), 3) if stages else None


def numbers(values: Mapping[str, Any], separator: str = ".", prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield the finite numbers in nested mappings, with their keys joined by a separator."""
    for name, value in values.items():
        key = f"{prefix}{separator}{name}" if prefix else name
        if isinstance(value, Mapping):
            yield from numbers(value, separator, key)
        elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            yield key, value


def _fits(value: Any, kind: Any) -> bool:
    """Return whether a value has a type: a class, `Any`, a union, or `dict[str, type]`."""
    if isinstance(kind, UnionType):
        return any(_fits(value, member) for member in get_args(kind))
    if isinstance(kind, GenericAlias):
        inner = kind.__args__[1]
        return isinstance(value, dict) and (inner is Any or all(_fits(each, inner) for each in value.values()))
    if kind in (int, float):
        return isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
    return kind in (Any, None) or isinstance(value, kind)


def check_values(record: Mapping[str, Any]) -> None:
    """Check the nesting depth, numbers and texts of a parsed file, so that it can be processed and written.

    Raises:
        ValueError: a check fails; the message is the reason.
    """
    queue: list[tuple[Any, int]] = [(record, 0)]
    while queue:
        value, depth = queue.pop()
        if depth > DEEPEST:
            raise ValueError("it is nested too deeply")
        if isinstance(value, dict):
            queue += [(inner, depth + 1) for pair in value.items() for inner in pair]
        elif isinstance(value, list):
            queue += [(inner, depth + 1) for inner in value]
        elif isinstance(value, str):
            try:
                value.encode()
            except UnicodeEncodeError:
                raise ValueError("it contains a text with half of a surrogate pair") from None
        elif isinstance(value, int) and abs(value) >= 2**64:
            raise ValueError("it contains a number of more than 64 bits")
