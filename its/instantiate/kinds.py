"""Classify type annotations, and describe them and values in messages."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import is_dataclass
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from its.instantiate.signatures import parameters

MAPPINGS = (dict, Mapping)
SEQUENCES = (list, tuple, Sequence, Iterable)
_DURATION = re.compile(r"(?:(\d{1,9}):)?(\d{1,9}):(\d{1,9})")


def duration(value: Any) -> timedelta | None:
    """Convert seconds, or text in the form H:MM:SS, to a duration; return None for other values."""
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    try:
        if match is not None:
            return timedelta(hours=int(match[1] or 0), minutes=int(match[2]), seconds=int(match[3]))
        return timedelta(seconds=value) if type(value) in (int, float) else None
    except (OverflowError, ValueError):  # too long, or NaN
        return None


def is_component(kind: type) -> bool:
    """Whether configs set values of this class by the name of a subclass."""
    return kind.__module__ not in ("builtins", "collections.abc") and not is_dataclass(kind) and kind is not Path


def has_form(kind: Any, value: Any) -> bool:
    """Whether an invalid value resembles this annotation, so that its faults are worth reporting."""
    outer = get_origin(kind) or kind
    if isinstance(value, list | tuple) or outer in SEQUENCES:
        return isinstance(value, list | tuple) and outer in SEQUENCES
    if isinstance(value, Mapping):
        return outer in MAPPINGS or (
            inspect.isclass(outer) and (is_dataclass(outer) or ("class_path" in value and is_component(outer)))
        )
    return isinstance(value, str) and inspect.isclass(outer) and is_component(outer)


def is_one_of(value: Any, options: Sequence[Any]) -> bool:
    """Whether a value equals an option of the same type, which distinguishes 1 from True."""
    return any(value == option and type(value) is type(option) for option in options)


def abbreviate(value: Any) -> str:
    """Format a value in at most about 120 characters."""
    text = value if isinstance(value, str) and value.strip() else repr(value)
    return text if len(text) <= 120 else f"{text[:120]}..."


def describe(kind: Any) -> str:
    """Describe an annotation in the terms of docs/configs.md."""
    outer, arguments = get_origin(kind) or kind, get_args(kind)
    if outer in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(describe, arguments)))
    if outer is Literal:
        return f"one of {', '.join(map(repr, arguments))}"
    if outer in MAPPINGS:
        return f"a mapping of {describe(arguments[1])}" if arguments else "a mapping"
    if outer is tuple and arguments and arguments[-1] is not Ellipsis:
        return f"[{', '.join(map(describe, arguments))}]"
    if outer in SEQUENCES:
        return f"a list of {describe(arguments[0])}" if arguments else "a list"
    if inspect.isclass(outer) and is_dataclass(outer):
        return f"{{{', '.join(parameters(outer)[0])}}}"
    if inspect.isclass(outer) and issubclass(outer, Enum):
        return f"one of {', '.join(member.name for member in outer)}"
    words: dict[Any, str] = {Any: "any value", None: "null", types.NoneType: "null", str: "text", int: "int"}
    words |= {timedelta: "seconds or H:MM:SS", float: "number", bool: "true or false", Path: "a path"}
    return words.get(outer) or (f"a {outer.__name__}" if inspect.isclass(outer) else "int")
