"""Read constructor signatures, and convert objects to YAML values."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from its import registry
from its.interfaces import INTERFACES, Plugin


@cache
def parameters(cls: type) -> tuple[dict[str, inspect.Parameter], bool]:
    """Return the parameters of a constructor. In plugins, `**options` stands for the parameters of the base class.

    Returns:
        Parameters by name, with evaluated annotations; and whether the constructor accepts any other name.
    """
    result: dict[str, inspect.Parameter] = {}
    is_open, is_base = False, False
    for base in cls.__mro__:
        if base.__module__.partition(".")[0] in ("builtins", "torch"):
            break
        if (init := base.__dict__.get("__init__")) is None:
            continue
        hints = _annotations(init)
        _, *declared = inspect.signature(init).parameters.values()
        for parameter in declared:
            if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                # A required parameter of a base class is optional here, since the subclass may set it.
                default = ... if is_base and parameter.default is parameter.empty else parameter.default
                parameter = parameter.replace(annotation=hints.get(parameter.name, Any), default=default)
                result.setdefault(parameter.name, parameter)
        is_open, is_base = any(parameter.kind is parameter.VAR_KEYWORD for parameter in declared), True
        if not is_open or not issubclass(cls, Plugin):
            break
    if is_dataclass(cls):  # signatures of dataclasses have placeholders for default factories
        defaults = {f.name: f.default_factory() for f in fields(cls) if f.default_factory is not MISSING}
        result |= {name: result[name].replace(default=default) for name, default in defaults.items()}
    return result, is_open


def plain(value: Any) -> Any:
    """Convert an object to the YAML value that constructs it."""
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
    """Evaluate annotations; those that can't be evaluated (imports under `TYPE_CHECKING`) become Any."""
    try:
        return get_type_hints(init)
    except (NameError, AttributeError, TypeError):
        names = {**INTERFACES, **vars(sys.modules[inspect.unwrap(init).__module__])}
    hints = dict(init.__annotations__)
    for name, annotation in hints.items():
        try:
            hints[name] = eval(annotation, names) if isinstance(annotation, str) else annotation  # from source code
        except (NameError, AttributeError, TypeError):
            hints[name] = Any
    return hints
