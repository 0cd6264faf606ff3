"""Plugins from what names them in YAML: a class name, or `class_path` and `init_args`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from its import registry
from its.errors import UserError, by_nearness, nearest


def spec_of(value: Any, *, key: str) -> tuple[str, dict[str, Any]]:
    """Class name and arguments that a value names.

    Args:
        value: `NAME`, or `{class_path: NAME, init_args: {...}}`.
        key: where it was given, for messages.

    Raises:
        UserError: it names no class.
    """
    given = value if isinstance(value, Mapping) else {"class_path": value}
    name, arguments = given.get("class_path"), given.get("init_args") or {}
    if not isinstance(name, str) or not isinstance(arguments, Mapping) or given.keys() - {"class_path", "init_args"}:
        raise UserError(f"{key}: got {value!r:.120}; expected NAME, or {{class_path: NAME, init_args: {{...}}}}")
    return registry.short_name(name), dict(arguments)


def instantiate(value: Any, interface: str, *, key: str) -> Any:
    """Construct the registered plugin that a value names; plugins among its arguments are constructed first.

    Args:
        value: as for `spec_of`.
        interface: that the plugin has to implement, such as `Scorer`.
        key: where the value was given, for messages.

    Raises:
        UserError: there is no such plugin, it does not take an argument, or refuses a value.
    """
    name, arguments = spec_of(value, key=key)
    cls = plugin_class(name, interface, key=key)
    built = {
        argument: _nested(inner, key=f"{key}.{argument}") if is_spec(inner) else inner
        for argument, inner in arguments.items()
    }
    return construct(cls, built, key=key)


def plugin_class(name: str, interface: str, *, key: str) -> type:
    """The registered class of this name.

    Raises:
        UserError: there is none, or it implements another interface.
    """
    known = registry.classes(interface)
    if name in known:
        return known[name]
    other = registry.classes().get(name)
    hint = nearest(name, known) if other is None else f" {name} is a {registry.interface_of(other)}."
    raise UserError(
        f"{key} is {name!r}; registered for {interface}: {', '.join(by_nearness(name, known)) or 'none'}.{hint}"
    )


def construct(cls: type, arguments: Mapping[str, Any], *, key: str) -> Any:
    """Call a plugin's constructor.

    Raises:
        UserError: it does not take an argument, or refuses a value.
    """
    parameters = inspect.signature(cls).parameters
    takes, open_ended = list(parameters), any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    if unknown := [argument for argument in arguments if argument not in takes and not open_ended]:
        listed = ", ".join(takes) or "none"
        raise UserError(
            f"{key}: {cls.__name__} has no argument {unknown[0]}; it takes {listed}.{nearest(unknown[0], takes)}"
        )
    try:
        return cls(**arguments)
    except (TypeError, ValueError) as error:
        raise UserError(f"{key}: {cls.__name__}: {error}") from None


def is_spec(value: Any) -> bool:
    """Whether a value names a plugin by `class_path`."""
    return isinstance(value, Mapping) and "class_path" in value


def _nested(value: Any, *, key: str) -> Any:
    name, _ = spec_of(value, key=key)
    cls = registry.classes().get(name)
    interface = None if cls is None else registry.interface_of(cls)
    if interface is None:
        known = registry.classes()
        raise UserError(f"{key}: there is no plugin {name!r}.{nearest(name, known)}")
    return instantiate(value, interface, key=key)
