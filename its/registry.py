"""Registry of plugins: classes found through the entry point group `its.plugins`, and packs of weights.

A registered class is named in YAML by its class name. First-party plugins are found in the same way as others.
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
from typing import TypeVar

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
    """Weights that come with a plugin, for `weights: pack:NAME` and `model.fallback: NAME`.

    Attributes:
        name: as configs call it.
        folder: a diffusers pipeline folder.
        config: a YAML overlay for `its predict` that names these weights and the settings that suit them.
        summary: one line that says what they are, shown when they stand in for others.
        methods: overlays of settings for one method each, by its name, which come after `config`.
        colorizer: a YAML overlay that names the pack's own colorizer, for configs that have one; None if it has none.
        scorers: names of the scorers that it brings, which judge what it knows.
    """

    name: str
    folder: Path
    config: Path
    summary: str
    methods: Mapping[str, Path] = field(default_factory=dict)
    colorizer: Path | None = None
    scorers: tuple[str, ...] = ()


def extension_point(cls: Class) -> Class:
    """Class decorator: let `register` accept subclasses of an interface that is defined outside `its.interfaces`."""
    _interfaces[cls.__name__] = cls
    return cls


def register(cls: Class) -> Class:
    """Class decorator: make a component or a method known under its class name.

    Raises:
        TypeError: the class is no finished plugin; the message says what to change.
    """
    where = f"{cls.__module__}.{cls.__qualname__}"
    if interface_of(cls) is None:
        raise TypeError(f"{where} is not a plugin: subclass one of {', '.join(_interfaces)}")
    if missing := sorted(getattr(cls, "__abstractmethods__", ())):
        raise TypeError(f"{where} can't be registered: it does not define {', '.join(missing)}")
    if cls.__name__.startswith("_") or "." in cls.__qualname__:
        raise TypeError(f"{where} can't be registered: configs can only name public classes at the top of a module")
    if not cls.__dict__.get("__doc__"):
        raise TypeError(f"{where} needs a docstring: its first line is what `its plugins` shows")
    known = _classes.get(cls.__name__)
    if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
        raise TypeError(f"{where} can't be registered: {known.__module__} has a plugin of this name already")
    _classes[cls.__name__] = cls
    return cls


def register_pack(pack: Pack) -> None:
    """Make a pack of weights known under its name."""
    _packs[pack.name] = pack


def interface_of(cls: type) -> str | None:
    """Name of the interface that a class implements; None if it implements none."""
    return next((name for name, interface in _interfaces.items() if issubclass(cls, interface)), None)


@cache
def load_plugins() -> None:
    """Import everything under the entry point group. A plugin that fails is kept in `failures`, not raised."""
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        try:
            entry.load()
        except Exception as error:  # noqa: BLE001 - somebody else's module: whatever it raises must not take the others down
            _failures[f"{entry.name} ({entry.value})"] = f"{type(error).__name__}: {error}"


def load_modules(modules: Sequence[str]) -> None:
    """Import plugin modules that the user named; they may lie in the current folder.

    Raises:
        UserError: there is no such module, or it fails.
    """
    here = os.getcwd()
    if modules and here not in sys.path:
        sys.path.append(here)
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:
            raise UserError(f"--trust {module}: {type(error).__name__}: {error}") from error


def classes(interface: str | None = None) -> dict[str, type]:
    """Registered classes by name, of one interface or of all components, sorted by interface and name."""
    order = list(INTERFACES) if interface is None else [interface]
    chosen = [(order.index(kind), c.__name__, c) for c in _classes.values() if (kind := interface_of(c)) in order]
    return {name: cls for _, name, cls in sorted(chosen, key=lambda entry: entry[:2])}


def imported() -> list[type]:
    """All plugin classes that are imported, registered or not: naming one of them runs no new code."""
    found: list[type] = []
    queue: list[type] = [Plugin]
    while queue:
        cls = queue.pop()
        queue += cls.__subclasses__()
        if "<locals>" not in cls.__qualname__:  # no dotted path leads to those
            found.append(cls)
    return found


def packs() -> dict[str, Pack]:
    """Registered packs by name."""
    return dict(_packs)


def failures() -> dict[str, str]:
    """Plugins that could not be imported, and why."""
    return dict(_failures)


def summary(cls: type) -> str:
    """First line of a plugin's docstring."""
    return (inspect.getdoc(cls) or "").partition("\n")[0]


def short_name(path: str) -> str:
    """Shorten the dotted path of a registered class to its name; return other paths unchanged.

    A module that is not loaded counts as moved: a registered class of that name and top-level package is meant then.
    """
    module, _, name = path.rpartition(".")
    cls = classes().get(name)
    if cls is None:
        return path
    moved = module not in sys.modules and module.partition(".")[0] == cls.__module__.partition(".")[0]
    return name if module == cls.__module__ or moved else path
