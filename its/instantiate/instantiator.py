"""Construct objects from nested YAML values, checked against the type annotations of constructors.

All faults of a value are collected and raised in one error. A class is imported only if `Rules` allow its name; by
default, only plugins that are already imported are allowed.
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
from its.instantiate.kinds import MAPPINGS, SEQUENCES, abbreviate, describe, duration, has_form, is_component, is_one_of
from its.instantiate.rules import Rules, spec_of
from its.instantiate.signatures import is_plain, parameters, plain
from its.instantiate.yaml_values import Text, number_as_text, parse_texts, read_value
from its.interfaces import Plugin
from its.privacy import without_secrets


class Instantiator:
    """Builds values by type annotation within `rules`, and collects the faults.

    Attributes:
        faults: faults of all values built so far, in the order of the keys.
    """

    def __init__(self, rules: Rules | None = None) -> None:
        self.rules = rules or Rules()
        self.faults: list[Fault] = []

    def build(self, kind: Any, value: Any, key: str) -> tuple[Any, Any]:
        """Build one value. If it has faults, they are added to `faults` and the result is unusable.

        Args:
            kind: type annotation.
            value: YAML value. Mappings of `class_path` and `init_args` become objects; objects are returned unchanged.
            key: dotted key of the value, for messages.

        Returns:
            The object, and its spec: the YAML value that builds it again, with all defaults.
        """
        origin, arguments, is_class = get_origin(kind), get_args(kind), inspect.isclass(kind)
        if isinstance(value, Text):
            return self._first(((kind, read_value(value)), (kind, str(value))), key)
        if kind is Any or kind is inspect.Parameter.empty:
            return (parsed := parse_texts(value)), parsed
        if origin in (Union, types.UnionType):
            # Classes first: for `str | Strategy`, the name of a Strategy class means the class.
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
        if is_class and isinstance(value, kind):
            return value, plain(value)
        if kind is timedelta:
            length = duration(value)
            return (length, value) if length is not None else self._fault(key, kind, value)
        if is_class and issubclass(kind, Enum):
            member = next((member for member in kind if value in (member.value, member.name)), None)
            return (member, value) if member is not None else self._fault(key, kind, value)
        if isinstance(kind, type) and is_dataclass(kind) and isinstance(value, Mapping):
            built, _ = self.construct(kind, value, key)
            return built, plain(built)
        if is_class and is_component(kind):
            return self._component(kind, value, key)
        return self._fault(key, kind, value)

    def construct(self, cls: type, content: Any, key: str) -> tuple[Any, dict[str, Any]]:
        """Construct an instance of a class from its arguments.

        Returns:
            The instance, or None if it has faults; and the specs of all arguments.
        """
        before = len(self.faults)
        values, specs = self.arguments(cls, content, key)
        if len(self.faults) == before:
            try:
                return cls(**values), specs
            except Exception as error:
                is_input_error = isinstance(error, UserError | TypeError | ValueError | RuntimeError | ImportError)
                if issubclass(cls, Plugin) and not is_input_error:
                    raise  # a defect of the plugin: keep the traceback
                text = str(error) if isinstance(error, UserError) else f"{cls.__name__}: {' '.join(str(error).split())}"
                self.faults.append(Fault(key.removesuffix(".init_args"), text))
        return None, specs

    def arguments(self, cls: type, content: Any, key: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Build the arguments of a constructor, without calling it.

        Returns:
            The arguments in `content`, built; and the specs of all arguments, including defaults.
        """
        if not isinstance(content, Mapping):
            self.faults.append(Fault(key, f"got {abbreviate(content)}; expected keys and values"))
            return {}, {}
        known, is_open = parameters(cls)
        values: dict[str, Any] = {}
        specs: dict[str, Any] = {}
        for name, parameter in known.items():
            full_key = f"{key}.{name}".lstrip(".")
            if name in content:
                is_default = is_plain(parameter.default) and is_one_of(content[name], [parameter.default])
                if is_default or self._is_allowed(cls, name, content[name], full_key):
                    values[name], specs[name] = self.build(parameter.annotation, content[name], full_key)
            elif parameter.default is inspect.Parameter.empty:
                self.faults.append(Fault(full_key, f"is missing; {cls.__name__} requires it"))
            elif is_plain(default := plain(parameter.default)):
                specs[name] = default
        if not is_open:
            reason = f"{cls.__name__} has no argument {{name}}; expected {', '.join(known) or 'no arguments'}."
            self.faults += unknown_names(content, known, key, reason)
            return values, specs
        for name in content:
            if name not in known and self._is_allowed(cls, name, content[name], f"{key}.{name}"):
                values[name], specs[name] = self.build(Any, number_as_text(content[name]), key)
        return values, specs

    def _is_allowed(self, cls: type, name: str, value: Any, key: str) -> bool:
        try:
            self.rules.check(cls, name, value, key)
        except UserError as error:
            self.faults.append(Fault(key, str(error)))
            return False
        return True

    def _component(self, base: type, value: Any, key: str) -> tuple[Any, Any]:
        try:
            name, arguments = spec_of(value)
            cls = self.rules.find(name, base, f"{key}.class_path" if isinstance(value, Mapping) else key)
        except UserError as error:
            self.faults.append(Fault(key, str(error), unknown_class=True))
            return None, None
        built, specs = self.construct(cls, arguments, f"{key}.init_args")
        return built, {"class_path": name} | ({"init_args": specs} if specs else {})

    def _first(self, choices: Sequence[tuple[Any, Any]], key: str, expected: Any = None) -> tuple[Any, Any]:
        """Build the first (kind, value) without faults; otherwise report the faults of the most similar kind."""
        candidates: list[list[Fault]] = []
        for kind, value in choices:
            trial = Instantiator(self.rules)
            result = trial.build(kind, value, key)
            if not trial.faults:
                return result
            if expected is None or has_form(kind, value):
                candidates.append(trial.faults)
        if not candidates:
            return self._fault(key, expected, choices[0][1])
        known = (faults for faults in candidates if not any(fault.unknown_class for fault in faults))
        self.faults += next(known, candidates[0])
        return None, None

    def _mapping(self, kind: Any, arguments: Sequence[Any], value: Any, key: str) -> tuple[Any, Any]:
        if not isinstance(value, Mapping):
            return self._fault(key, kind, value)
        of_keys, of_values = arguments or (Any, Any)
        built = {
            str(name) if of_keys is str else name: self.build(of_values, inner, f"{key}.{name}")
            for name, inner in value.items()
        }
        return {name: result for name, (result, _) in built.items()}, {name: spec for name, (_, spec) in built.items()}

    def _sequence(self, kind: Any, arguments: Sequence[Any], value: Any, key: str) -> tuple[Any, Any]:
        is_tuple = (get_origin(kind) or kind) is tuple
        has_fixed_length = is_tuple and bool(arguments) and arguments[-1] is not Ellipsis
        if not isinstance(value, list | tuple) or (has_fixed_length and len(value) != len(arguments)):
            return self._fault(key, kind, value)
        kinds = arguments if has_fixed_length else [arguments[0] if arguments else Any] * len(value)
        built = [self.build(k, v, f"{key}.{n}") for n, (k, v) in enumerate(zip(kinds, value, strict=True))]
        return (tuple if is_tuple else list)(result for result, _ in built), [spec for _, spec in built]

    def _scalar(self, kind: Any, value: Any, key: str) -> tuple[Any, Any]:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if kind is Path and isinstance(value, str | Path):
            return Path(value), str(value)
        if kind is float and is_number:
            value = float(value)
        fits = isinstance(value, kind or types.NoneType) and (kind is not int or is_number)
        return (value, value) if fits else self._fault(key, kind, value)

    def _fault(self, key: str, kind: Any, value: Any) -> tuple[None, None]:
        text = f"got {abbreviate(without_secrets(value, key))}; expected {describe(kind)}"
        self.faults.append(Fault(key, text))
        return None, None


def instantiate(value: Any, base: type, *, key: str) -> Any:
    """Construct a plugin of an interface from `NAME` or `{class_path: NAME, init_args: {...}}`.

    Raises:
        UserError: the value has faults; the message lists all, with their keys below `key`.
    """
    instantiator = Instantiator()
    built, _ = instantiator.build(base, value, key)
    raise_faults(instantiator.faults)
    return built


def construct(cls: type, arguments: Mapping[str, Any], *, key: str) -> Any:
    """Construct an instance of a class from its arguments.

    Raises:
        UserError: the arguments have faults; the message lists all, with their keys below `key`.
    """
    instantiator = Instantiator()
    built, _ = instantiator.construct(cls, arguments, key)
    raise_faults(instantiator.faults)
    return built
