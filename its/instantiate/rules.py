"""Resolve class names in YAML values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from its import registry
from its.errors import UserError, by_nearness, nearest
from its.instantiate.kinds import abbreviate
from its.interfaces import INTERFACES
from its.privacy import without_secrets


class Rules:
    """Rules for the classes and arguments that values may use. By default, all plugins with all their arguments."""

    def find(self, name: str, base: type, key: str) -> type:
        """Return the subclass of `base` with this name, which may include the module.

        Raises:
            UserError: the class does not exist or is not allowed. The message does not include the key.
        """
        return plugin_class(name, base)

    def check(self, cls: type, argument: str, value: Any, key: str) -> None:
        """Check that a key may set an argument of a class.

        Raises:
            UserError: the argument is not allowed. The message does not include the key.
        """


def spec_of(value: Any) -> tuple[str, dict[str, Any]]:
    """Split `NAME` or `{class_path: NAME, init_args: {...}}` into class name and arguments.

    Raises:
        UserError: the value has another form.
    """
    spec = value if isinstance(value, Mapping) else {"class_path": value}
    name, arguments = spec.get("class_path"), spec.get("init_args") or {}
    if not isinstance(name, str) or not isinstance(arguments, Mapping) or spec.keys() - {"class_path", "init_args"}:
        text = abbreviate(without_secrets(value))
        raise UserError(f"got {text}; expected NAME, or {{class_path: NAME, init_args: {{...}}}}")
    return registry.short_name(str(name)), dict(arguments)


def plugin_class(name: str, base: type) -> type:
    """Return the plugin class with this name, which may include the module.

    If `base` is an interface, the class must be registered for it; otherwise an imported subclass suffices.

    Raises:
        UserError: no such class exists.
    """
    interface = next((interface for interface, cls in INTERFACES.items() if cls is base), None)
    subclasses = [cls for cls in registry.imported_classes() if issubclass(cls, base)]
    known = registry.classes(interface) if interface else {cls.__name__: cls for cls in subclasses}
    by_path = {f"{cls.__module__}.{cls.__qualname__}": cls for cls in subclasses}
    if (cls := known.get(name) or by_path.get(name)) is not None:
        return cls
    other = registry.classes().get(name)
    hint = nearest(name, known) if other is None else f" {name} is a {registry.interface_of(other)}."
    failed = "".join(f"\n  a plugin failed to import: {name}: {cause}" for name, cause in registry.failures().items())
    kind = f"registered for {interface}" if interface else f"expected a {base.__name__}"
    raise UserError(f"unknown class {name!r}; {kind}: {', '.join(by_nearness(name, known)) or 'none'}.{hint}{failed}")
