"""Construct objects from nested YAML values, checked against the annotations of the constructors they are for.

This is the only instantiator: `its predict`, `its colorize`, scorers, sweeps and `its doctor` use it. All faults of a
value are collected before one error is raised. A class is imported only where `Rules` allow its name; by default that
is a plugin which is imported already.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import is_dataclass
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Protocol, Union, get_args, get_origin

from its import registry
from its.errors import UserError, by_nearness, nearest
from its.instantiate.faults import Fault, raise_faults, unknown_names
from its.instantiate.signatures import is_plain, parameters, plain
from its.instantiate.yaml_values import read_value
from its.interfaces import INTERFACES, Plugin
from its.privacy import without_secrets

_MAPPINGS = (dict, Mapping)
_SEQUENCES = (list, tuple, Sequence, Iterable)
_DURATION = re.compile(r"(?:(\d+):)?(\d+):(\d+)")


class Text(str):
    """A command-line value. The parameter it is for decides whether it is read as YAML or kept as text."""

    __slots__ = ()


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


class Instantiator:
    """Builds values by type annotation and collects the faults.

    Args:
        rules: which classes and arguments the values may name.

    Attributes:
        faults: of everything built so far, in the order of the keys.
    """

    def __init__(self, rules: Rules | None = None) -> None:
        self.rules = rules or PluginRules()
        self.faults: list[Fault] = []

    def build(self, kind: Any, value: Any, key: str) -> tuple[Any, Any]:
        """Build one value. Where it has faults, they are added to `faults` and the result is unusable.

        Args:
            kind: the annotation that the value has to satisfy.
            value: of YAML; mappings of `class_path` and `init_args` become objects. Finished objects are passed on.
            key: dotted key of the value, for messages.

        Returns:
            The object, and its spec: the YAML value that builds it again, with all defaults filled in.
        """
        origin, arguments = get_origin(kind), get_args(kind)
        if isinstance(value, Text):
            return self._first(((kind, read_value(value)), (kind, str(value))), key)
        if kind is Any or kind is inspect.Parameter.empty:
            return (given := _without_texts(value)), given
        if origin in (Union, types.UnionType):
            # Classes first: of `str | Strategy`, the name of a strategy's class is meant as one.
            kinds = sorted(arguments, key=lambda k: not (inspect.isclass(k) and _is_component(k)))
            return self._first(tuple((alternative, value) for alternative in kinds), key, expected=kind)
        if origin is Literal:
            return (value, value) if _is_one_of(value, arguments) else self._fault(key, kind, value)
        if (origin or kind) in _MAPPINGS:
            return self._mapping(kind, arguments, value, key)
        if (origin or kind) in _SEQUENCES:
            return self._sequence(kind, arguments, value, key)
        if kind in (None, types.NoneType, bool, int, float, str, Path):
            return self._scalar(kind, value, key)
        if inspect.isclass(kind) and isinstance(value, kind):
            return value, plain(value)
        if kind is timedelta:
            duration = _duration(value)
            return (duration, value) if duration is not None else self._fault(key, kind, value)
        if inspect.isclass(kind) and issubclass(kind, Enum):
            member = next((member for member in kind if value in (member.value, member.name)), None)
            return (member, value) if member is not None else self._fault(key, kind, value)
        if inspect.isclass(kind) and is_dataclass(kind) and isinstance(value, Mapping):
            built, _ = self.construct(kind, value, key)
            return built, plain(built)
        if inspect.isclass(kind) and _is_component(kind):
            return self._component(kind, value, key)
        return self._fault(key, kind, value)

    def construct(self, cls: type, given: Any, key: str) -> tuple[Any, dict[str, Any]]:
        """Construct an instance of a class from its arguments.

        Returns:
            The instance, or None where it has faults; and the specs of all arguments.
        """
        before = len(self.faults)
        values, specs = self.arguments(cls, given, key)
        if len(self.faults) == before:
            try:
                return cls(**values), specs
            except UserError as error:
                self.faults.append(Fault(key.removesuffix(".init_args"), str(error)))
            except Exception as error:
                if issubclass(cls, Plugin) and not isinstance(
                    error, TypeError | ValueError | RuntimeError | ImportError
                ):
                    raise  # a defect of the plugin, whose traceback is of use
                reason = " ".join(str(error).split())
                self.faults.append(Fault(key.removesuffix(".init_args"), f"{cls.__name__}: {reason}"))
        return None, specs

    def arguments(self, cls: type, given: Any, key: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Build the arguments of a constructor, without calling it.

        Args:
            cls: the class.
            given: arguments by name.
            key: dotted key of the arguments.

        Returns:
            The arguments that were given, built; and the specs of all, defaults included.
        """
        if not isinstance(given, Mapping):
            self.faults.append(Fault(key, f"got {_shown(given)}; expected keys and values"))
            return {}, {}
        known, is_open = parameters(cls)
        values: dict[str, Any] = {}
        specs: dict[str, Any] = {}
        for name, parameter in known.items():
            place = f"{key}.{name}".lstrip(".")
            if name in given:
                is_default = is_plain(parameter.default) and _is_one_of(given[name], [parameter.default])
                if is_default or self._may_give(cls, name, given[name], place):
                    values[name], specs[name] = self.build(parameter.annotation, given[name], place)
            elif parameter.default is inspect.Parameter.empty:
                self.faults.append(Fault(place, f"is missing; {cls.__name__} needs it"))
            elif is_plain(default := plain(parameter.default)):
                specs[name] = default
        if not is_open:
            taken = ", ".join(known) or "no arguments"
            self.faults += unknown_names(
                given, known, key, f"{cls.__name__} has no argument {{name}}; it takes {taken}."
            )
            return values, specs
        for name in given:
            if name not in known and self._may_give(cls, name, given[name], f"{key}.{name}"):
                values[name], specs[name] = self.build(Any, _as_given(given[name]), key)
        return values, specs

    def _may_give(self, cls: type, name: str, value: Any, key: str) -> bool:
        try:
            self.rules.check(cls, name, value, key)
        except UserError as error:
            self.faults.append(Fault(key, str(error)))
            return False
        return True

    def _component(self, base: type, value: Any, key: str) -> tuple[Any, Any]:
        try:
            name, given = spec_of(value)
            cls = self.rules.find(name, base, f"{key}.class_path" if isinstance(value, Mapping) else key)
        except UserError as error:
            self.faults.append(Fault(key, str(error), unknown_class=True))
            return None, None
        built, specs = self.construct(cls, given, f"{key}.init_args")
        return built, {"class_path": name} | ({"init_args": specs} if specs else {})

    def _first(self, choices: Sequence[tuple[Any, Any]], key: str, expected: Any = None) -> tuple[Any, Any]:
        """The first (kind, value) that has no faults; else the faults of one whose form fits the value."""
        fitting: list[list[Fault]] = []
        for kind, value in choices:
            trial = Instantiator(self.rules)
            result = trial.build(kind, value, key)
            if not trial.faults:
                return result
            if expected is None or _has_form(kind, value):
                fitting.append(trial.faults)
        if not fitting:
            return self._fault(key, expected, choices[0][1])
        self.faults += next((faults for faults in fitting if not any(f.unknown_class for f in faults)), fitting[0])
        return None, None

    def _mapping(self, kind: Any, arguments: Sequence[Any], value: Any, key: str) -> tuple[Any, Any]:
        if not isinstance(value, Mapping):
            return self._fault(key, kind, value)
        of_keys, of_values = arguments or (Any, Any)
        entries = {
            str(name) if of_keys is str else name: self.build(of_values, inner, f"{key}.{name}")
            for name, inner in value.items()
        }
        return {n: built for n, (built, _) in entries.items()}, {n: spec for n, (_, spec) in entries.items()}

    def _sequence(self, kind: Any, arguments: Sequence[Any], value: Any, key: str) -> tuple[Any, Any]:
        is_tuple = (get_origin(kind) or kind) is tuple
        fixed = is_tuple and bool(arguments) and arguments[-1] is not Ellipsis
        if not isinstance(value, list | tuple) or (fixed and len(value) != len(arguments)):
            return self._fault(key, kind, value)
        kinds = arguments if fixed else [arguments[0] if arguments else Any] * len(value)
        built = [self.build(k, v, f"{key}.{n}") for n, (k, v) in enumerate(zip(kinds, value, strict=True))]
        objects, specs = [b for b, _ in built], [spec for _, spec in built]
        return (tuple(objects) if is_tuple else objects), specs

    def _scalar(self, kind: Any, value: Any, key: str) -> tuple[Any, Any]:
        if kind in (None, types.NoneType):
            fits = value is None
        elif kind is float:
            fits = isinstance(value, int | float) and not isinstance(value, bool)
            value = float(value) if fits else value
        elif kind is int:
            fits = isinstance(value, int) and not isinstance(value, bool)
        elif kind is Path:
            return (Path(value), str(value)) if isinstance(value, str | Path) else self._fault(key, kind, value)
        else:
            fits = isinstance(value, kind)
        return (value, value) if fits else self._fault(key, kind, value)

    def _fault(self, key: str, kind: Any, value: Any) -> tuple[None, None]:
        self.faults.append(Fault(key, f"got {_shown(without_secrets(value, key))}; expected {_spelled(kind)}"))
        return None, None


def instantiate(value: Any, base: type, *, key: str) -> Any:
    """Construct the plugin that a value names; plugins among its arguments are constructed first.

    Args:
        value: `NAME`, or `{class_path: NAME, init_args: {...}}`.
        base: the interface, such as `Scorer`.
        key: of the value, for messages.

    Raises:
        UserError: with all faults of the value.
    """
    instantiator = Instantiator()
    built, _ = instantiator.build(base, value, key)
    raise_faults(instantiator.faults)
    return built


def construct(cls: type, arguments: Mapping[str, Any], *, key: str) -> Any:
    """Construct an instance of a class from its arguments.

    Raises:
        UserError: with all faults of the arguments.
    """
    instantiator = Instantiator()
    built, _ = instantiator.construct(cls, arguments, key)
    raise_faults(instantiator.faults)
    return built


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
        shown = _shown(without_secrets(value))
        raise UserError(f"got {shown}; expected NAME, or {{class_path: NAME, init_args: {{...}}}}")
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


def _duration(value: Any) -> timedelta | None:
    """Seconds, or text such as 1:30:00, as a duration."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return timedelta(seconds=value)
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    return match and timedelta(hours=int(match[1] or 0), minutes=int(match[2]), seconds=int(match[3]))


def _is_component(kind: type) -> bool:
    """Whether configs name subclasses of this class, in the place of giving a value of it."""
    return kind.__module__ not in ("builtins", "collections.abc") and not is_dataclass(kind) and kind is not Path


def _has_form(kind: Any, value: Any) -> bool:
    """Whether a value that has faults was meant as one of this kind, so that its faults are worth reporting."""
    outer = get_origin(kind) or kind
    if isinstance(value, list | tuple) or outer in _SEQUENCES:
        return isinstance(value, list | tuple) and outer in _SEQUENCES
    if isinstance(value, Mapping):
        return outer in _MAPPINGS or (inspect.isclass(outer) and (is_dataclass(outer) or "class_path" in value))
    return isinstance(value, str) and inspect.isclass(outer) and _is_component(outer)


def _is_one_of(value: Any, options: Sequence[Any]) -> bool:
    return any(value == option and type(value) is type(option) for option in options)


def _as_given(value: Any) -> Any:
    """A command-line value of an undeclared parameter: a number stays text, such as the group `12` of a logger."""
    parsed = read_value(value) if isinstance(value, Text) else None
    is_number = isinstance(parsed, int | float) and not isinstance(parsed, bool)
    return str(value) if is_number else value


def _without_texts(value: Any) -> Any:
    if isinstance(value, Text):
        return read_value(value)
    if isinstance(value, Mapping):
        return {name: _without_texts(inner) for name, inner in value.items()}
    return [_without_texts(inner) for inner in value] if isinstance(value, list) else value


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) and value.strip() else repr(value)
    return text if len(text) <= 120 else f"{text[:120]}..."


def _spelled(kind: Any) -> str:
    """An annotation in the words of docs/configs.md."""
    outer, arguments = get_origin(kind) or kind, get_args(kind)
    if outer in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(_spelled, arguments)))
    if outer is Literal:
        return f"one of {', '.join(map(repr, arguments))}"
    if outer in _MAPPINGS:
        return f"a mapping of {_spelled(arguments[1])}" if arguments else "a mapping"
    if outer is tuple and arguments and arguments[-1] is not Ellipsis:
        return f"[{', '.join(map(_spelled, arguments))}]"
    if outer in _SEQUENCES:
        return f"a list of {_spelled(arguments[0])}" if arguments else "a list"
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
