"""Read the signatures of constructors, and convert objects to the YAML values that build them."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from its import registry
from its.interfaces import INTERFACES, Plugin


@cache
def parameters(cls: type) -> tuple[dict[str, inspect.Parameter], bool]:
    """Parameters of a constructor, those that `**options` passes on to base classes included.

    A class that is no plugin may pass its `**options` on to anything, so it takes any other name too.

    Returns:
        Parameters by name, with evaluated annotations; and whether any other name is taken too.
    """
    found: dict[str, inspect.Parameter] = {}
    is_open, inner = False, False
    for base in cls.__mro__:
        if base.__module__.partition(".")[0] in ("builtins", "torch"):
            break
        init = base.__dict__.get("__init__")
        if init is None:
            continue
        hints = _annotations(init)
        of_base = list(inspect.signature(init).parameters.values())[1:]
        for parameter in of_base:
            if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                # Of a base's, the subclass may pass what it likes: the constructor itself complains if one is missing.
                default = ... if inner and parameter.default is parameter.empty else parameter.default
                found.setdefault(
                    parameter.name,
                    parameter.replace(annotation=hints.get(parameter.name, Any), default=default),
                )
        is_open, inner = any(parameter.kind is parameter.VAR_KEYWORD for parameter in of_base), True
        if not is_open or not issubclass(cls, Plugin):
            break
    if is_dataclass(cls):  # whose signature has a placeholder for the defaults that factories make
        made = {f.name: f.default_factory() for f in fields(cls) if f.default_factory is not MISSING}
        found |= {name: found[name].replace(default=default) for name, default in made.items()}
    return found, is_open


def plain(value: Any) -> Any:
    """The YAML value that builds an object: plugins and data classes as mappings, tuples as lists, paths as text."""
    if isinstance(value, Plugin):
        path = registry.short_name(f"{type(value).__module__}.{type(value).__qualname__}")
        return {"class_path": path, "init_args": plain(value.arguments)}
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, Enum):
        return value.value
    return str(value) if isinstance(value, Path) else value


def is_plain(value: Any) -> bool:
    """Whether YAML can hold a value."""
    if isinstance(value, dict):
        return all(map(is_plain, value.values()))
    return all(map(is_plain, value)) if isinstance(value, list) else isinstance(value, str | int | float | None)


def _annotations(init: Any) -> dict[str, Any]:
    """Evaluated annotations. One that can't be evaluated, of an import for type checkers only, counts as Any."""
    try:
        return get_type_hints(init)
    except (NameError, AttributeError, TypeError):
        module = sys.modules[inspect.unwrap(init).__module__]
        return dict(_evaluated(init.__annotations__, {**INTERFACES, **vars(module)}))


def _evaluated(annotations: Mapping[str, Any], names: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, annotation in annotations.items():
        try:
            yield name, eval(annotation, names) if isinstance(annotation, str) else annotation  # source code, no input
        except (NameError, AttributeError, TypeError):
            yield name, Any
