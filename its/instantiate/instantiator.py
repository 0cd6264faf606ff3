"""Construct objects from nested YAML values, checked against the annotations of the constructors they are for.

This is the only instantiator: `its predict`, `its colorize`, scorers, sweeps and `its doctor` use it. All faults of a
value are collected before one error is raised. A class is imported only where `Rules` allow its name; by default that
is a plugin which is imported already.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from its.errors import UserError
from its.instantiate.faults import Fault, raise_faults, unknown_names
from its.instantiate.kinds import (
    MAPPINGS,
    SEQUENCES,
    duration,
    has_form,
    is_component,
    is_one_of,
    shown,
    spelled,
)
from its.instantiate.rules import PluginRules, Rules, spec_of
from its.instantiate.signatures import is_plain, parameters, plain
from its.instantiate.yaml_values import Text, as_given, read_value, without_texts
from its.interfaces import Plugin
from its.privacy import without_secrets


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
            return (given := without_texts(value)), given
        if origin in (Union, types.UnionType):
            # Classes first: of `str | Strategy`, the name of a strategy's class is meant as one.
            kinds = sorted(arguments, key=lambda k: not (inspect.isclass(k) and is_component(k)))
            return self._first(tuple((alternative, value) for alternative in kinds), key, expected=kind)
        if origin is Literal:
            return (value, value) if is_one_of(value, arguments) else self._fault(key, kind, value)
        if (origin or kind) in MAPPINGS:
            return self._mapping(kind, arguments, value, key)
        if (origin or kind) in SEQUENCES:
            return self._sequence(kind, arguments, value, key)
        if kind in (None, types.NoneType, bool, int, float, str, Path):
            return self._scalar(kind, value, key)
        if inspect.isclass(kind) and isinstance(value, kind):
            return value, plain(value)
        if kind is timedelta:
            length = duration(value)
            return (length, value) if length is not None else self._fault(key, kind, value)
        if inspect.isclass(kind) and issubclass(kind, Enum):
            member = next((member for member in kind if value in (member.value, member.name)), None)
            return (member, value) if member is not None else self._fault(key, kind, value)
        if inspect.isclass(kind) and is_dataclass(kind) and isinstance(value, Mapping):
            built, _ = self.construct(kind, value, key)
            return built, plain(built)
        if inspect.isclass(kind) and is_component(kind):
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
            self.faults.append(Fault(key, f"got {shown(given)}; expected keys and values"))
            return {}, {}
        known, is_open = parameters(cls)
        values: dict[str, Any] = {}
        specs: dict[str, Any] = {}
        for name, parameter in known.items():
            place = f"{key}.{name}".lstrip(".")
            if name in given:
                is_default = is_plain(parameter.default) and is_one_of(given[name], [parameter.default])
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
                values[name], specs[name] = self.build(Any, as_given(given[name]), key)
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
            if expected is None or has_form(kind, value):
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
        self.faults.append(Fault(key, f"got {shown(without_secrets(value, key))}; expected {spelled(kind)}"))
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
