"""Annotations of parameters: which values they are meant for, and how they are called in messages."""

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
    """Seconds, or text such as 1:30:00, as a duration; None for other values."""
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    try:
        if match is not None:
            return timedelta(hours=int(match[1] or 0), minutes=int(match[2]), seconds=int(match[3]))
        if isinstance(value, int | float) and not isinstance(value, bool):
            return timedelta(seconds=value)
    except (OverflowError, ValueError):  # too long, or not a number
        return None
    return None


def is_component(kind: type) -> bool:
    """Whether configs name subclasses of this class, in the place of giving a value of it."""
    return kind.__module__ not in ("builtins", "collections.abc") and not is_dataclass(kind) and kind is not Path


def has_form(kind: Any, value: Any) -> bool:
    """Whether a value that has faults was meant as one of this kind, so that its faults are worth reporting."""
    outer = get_origin(kind) or kind
    if isinstance(value, list | tuple) or outer in SEQUENCES:
        return isinstance(value, list | tuple) and outer in SEQUENCES
    if isinstance(value, Mapping):
        return outer in MAPPINGS or (
            inspect.isclass(outer) and (is_dataclass(outer) or ("class_path" in value and is_component(outer)))
        )
    return isinstance(value, str) and inspect.isclass(outer) and is_component(outer)


def is_one_of(value: Any, options: Sequence[Any]) -> bool:
    """Whether a value is one of some options and of its type: 1 is not True."""
    return any(value == option and type(value) is type(option) for option in options)


def shown(value: Any) -> str:
    """A value as it stands in messages: short."""
    text = value if isinstance(value, str) and value.strip() else repr(value)
    return text if len(text) <= 120 else f"{text[:120]}..."


def spelled(kind: Any) -> str:
    """An annotation in the words of docs/configs.md."""
    outer, arguments = get_origin(kind) or kind, get_args(kind)
    if outer in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(spelled, arguments)))
    if outer is Literal:
        return f"one of {', '.join(map(repr, arguments))}"
    if outer in MAPPINGS:
        return f"a mapping of {spelled(arguments[1])}" if arguments else "a mapping"
    if outer is tuple and arguments and arguments[-1] is not Ellipsis:
        return f"[{', '.join(map(spelled, arguments))}]"
    if outer in SEQUENCES:
        return f"a list of {spelled(arguments[0])}" if arguments else "a list"
    if inspect.isclass(outer) and is_dataclass(outer):
        return f"{{{', '.join(parameters(outer)[0])}}}"
    if inspect.isclass(outer) and issubclass(outer, Enum):
        return f"one of {', '.join(member.name for member in outer)}"
    words = {
        Any: "any value",
        timedelta: "seconds or H:MM:SS",
        None: "null",
        types.NoneType: "null",
        str: "text",
        float: "number",
        bool: "true or false",
        Path: "a path",
    }
    return words.get(outer) or (f"a {outer.__name__}" if inspect.isclass(outer) and outer is not int else "int")
