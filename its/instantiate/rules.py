"""Which classes values may name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from its import registry
from its.errors import UserError, by_nearness, nearest
from its.instantiate.kinds import shown
from its.interfaces import INTERFACES
from its.privacy import without_secrets


class Rules(Protocol):
    """Which classes and arguments values may name."""

    def find(self, name: str, base: type, key: str) -> type:
        """The subclass of `base` that a key names.

        Raises:
            UserError: there is none, or it may not be named. The message is without the key.
        """

    def check(self, cls: type, argument: str, value: Any, key: str) -> None:
        """Check that a key may give an argument to a class.

        Raises:
            UserError: it may not. The message is without the key.
        """


class PluginRules:
    """Rules that allow plugins alone, with all their arguments."""

    def find(self, name: str, base: type, key: str) -> type:
        """The plugin of this name, as `plugin_class`."""
        return plugin_class(name, base)

    def check(self, cls: type, argument: str, value: Any, key: str) -> None:
        """Allow every argument."""


def spec_of(value: Any) -> tuple[str, dict[str, Any]]:
    """Class name and arguments that a value names.

    Args:
        value: `NAME`, or `{class_path: NAME, init_args: {...}}`.

    Raises:
        UserError: it names no class.
    """
    given = value if isinstance(value, Mapping) else {"class_path": value}
    name, arguments = given.get("class_path"), given.get("init_args") or {}
    if not isinstance(name, str) or not isinstance(arguments, Mapping) or given.keys() - {"class_path", "init_args"}:
        text = shown(without_secrets(value))
        raise UserError(f"got {text}; expected NAME, or {{class_path: NAME, init_args: {{...}}}}")
    return registry.short_name(str(name)), dict(arguments)


def plugin_class(name: str, base: type) -> type:
    """The plugin of this name: a registered class, or an imported one of a base that is no interface itself.

    Args:
        name: short, or with its module.
        base: what the class has to be a subclass of.

    Raises:
        UserError: there is none.
    """
    interface = next((interface for interface, cls in INTERFACES.items() if cls is base), None)
    if interface is None:
        known = {cls.__name__: cls for cls in registry.imported() if issubclass(cls, base)}
    else:
        known = registry.classes(interface)
    by_path = {f"{cls.__module__}.{cls.__qualname__}": cls for cls in registry.imported() if issubclass(cls, base)}
    cls = known.get(name) or by_path.get(name)
    if cls is not None:
        return cls
    other = registry.classes().get(name)
    hint = nearest(name, known) if other is None else f" {name} is a {registry.interface_of(other)}."
    failed = "".join(f"\n  a plugin failed to import: {which}: {why}" for which, why in registry.failures().items())
    kind = f"registered for {interface}" if interface else f"expected a {base.__name__}"
    raise UserError(f"there is no {name!r}; {kind}: {', '.join(by_nearness(name, known)) or 'none'}.{hint}{failed}")
