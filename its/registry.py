"""Registry of plugin classes and packs of weights. All plugins, first-party ones included, use entry points.

YAML refers to a registered class by its class name.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeVar

from its.errors import UserError
from its.interfaces import INTERFACES, Plugin

ENTRY_POINT_GROUP = "its.plugins"

Class = TypeVar("Class", bound=type)

_interfaces: dict[str, type] = dict(INTERFACES)
_classes: dict[str, type] = {}
_packs: dict[str, Pack] = {}
_failures: dict[str, str] = {}


@dataclass(frozen=True, kw_only=True)
class Pack:
    """Weights bundled with a plugin, for `weights: pack:NAME` and `model.fallback: NAME`.

    Attributes:
        name: name in configs.
        folder: diffusers pipeline folder.
        config: YAML overlay for `its predict`, with these weights and suitable settings.
        summary: one-line description, shown when the pack is used as the fallback.
        methods: additional overlays by method name, applied after `config`.
        colorizer: YAML overlay with the pack's colorizer, for configs with a colorizer; None if it has none.
        wrappers: arguments of wrapper experts with weights in the pack, by class name.
        scorers: names of the scorers with weights in the pack.
    """

    name: str
    folder: Path
    config: Path
    summary: str
    methods: Mapping[str, Path] = field(default_factory=dict)
    colorizer: Path | None = None
    wrappers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    scorers: tuple[str, ...] = ()


def extension_point(cls: Class) -> Class:
    """Class decorator: add an interface, whose subclasses `register` then accepts."""
    _interfaces[cls.__name__] = cls
    return cls


def register(cls: Class) -> Class:
    """Class decorator: register a component or a method under its class name.

    Raises:
        TypeError: the class implements no interface, is abstract or not importable, lacks a docstring, or has the name
            of another plugin.
    """
    where = f"{cls.__module__}.{cls.__qualname__}"
    if interface_of(cls) is None:
        raise TypeError(f"{where} is not a plugin: subclass one of {', '.join(_interfaces)}")
    if missing := sorted(getattr(cls, "__abstractmethods__", ())):
        raise TypeError(f"{where} can't be registered: it does not define {', '.join(missing)}")
    if cls.__name__.startswith("_") or "." in cls.__qualname__:
        raise TypeError(f"{where} can't be registered: expected a public class at the top level of a module")
    if not cls.__dict__.get("__doc__"):
        raise TypeError(f"{where} has no docstring: add one, since `its plugins` shows its first line")
    other = _classes.setdefault(cls.__name__, cls)
    if (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
        raise TypeError(f"{where} can't be registered: {other.__module__} already has a plugin of this name")
    _classes[cls.__name__] = cls
    return cls


def register_pack(pack: Pack) -> None:
    """Register a pack of weights under its name."""
    _packs[pack.name] = pack


def interface_of(cls: type) -> str | None:
    """Return the name of the interface that a class implements, or None."""
    return next((name for name, interface in _interfaces.items() if issubclass(cls, interface)), None)


@cache
def load_plugins() -> None:
    """Import all entry points of the group `its.plugins`. Errors are recorded in `failures`, not raised."""
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        try:
            entry.load()
        except Exception as error:  # noqa: BLE001 - an error in one plugin must not affect the others
            _failures[f"{entry.name} ({entry.value})"] = f"{type(error).__name__}: {error}"


def load_modules(modules: Sequence[str]) -> None:
    """Import plugin modules named by `--trust`, also from the current folder.

    Raises:
        UserError: a module can't be imported.
    """
    if modules and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:
            raise UserError(f"--trust {module}: {type(error).__name__}: {error}") from error


def classes(interface: str | None = None) -> dict[str, type]:
    """Return the registered classes of one or all component interfaces by name, sorted by interface and name."""
    order = list(INTERFACES) if interface is None else [interface]
    selected = [(order.index(kind), c.__name__, c) for c in _classes.values() if (kind := interface_of(c)) in order]
    return {name: cls for _, name, cls in sorted(selected, key=lambda entry: entry[:2])}


def imported_classes() -> list[type]:
    """Return all imported plugin classes with a dotted path, registered or not."""
    queue: list[type] = [Plugin]
    for cls in queue:
        queue += cls.__subclasses__()
    return [cls for cls in queue if "<locals>" not in cls.__qualname__]


def packs() -> dict[str, Pack]:
    """Return the registered packs by name."""
    return dict(_packs)


def failures() -> dict[str, str]:
    """Return the import errors of plugins, by entry point."""
    return dict(_failures)


def summary(cls: type) -> str:
    """Return the first line of a class's docstring."""
    return (inspect.getdoc(cls) or "").partition("\n")[0]


def short_name(path: str) -> str:
    """Shorten the dotted path of a registered class to its name. Other paths are returned unchanged.

    If the module is not imported, the class is assumed to have moved within its top-level package.
    """
    module, _, name = path.rpartition(".")
    cls = classes().get(name)
    if cls is None:
        return path
    moved = module not in sys.modules and module.partition(".")[0] == cls.__module__.partition(".")[0]
    return name if module == cls.__module__ or moved else path
