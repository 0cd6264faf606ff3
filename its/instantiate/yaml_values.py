"""Read YAML and JSON as plain data, within limits: what JSON can hold, with numbers as YAML 1.2 writes them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import yaml

MOST_VALUES = 1_000_000
"""Values in one document, counted again wherever an anchor repeats them."""
MOST_CHARACTERS = 2**25
"""Characters of all texts and keys in one document, counted again as values are."""
DEEPEST = 50
"""Levels of mappings and lists."""
LONGEST_NUMBER = 100
LONGEST_KEY = 500
"""Characters."""


class _Loader(yaml.SafeLoader):
    """SafeLoader without dates, sets and bytes, and with floats such as 1e-4, which YAML 1.1 reads as text."""

    merged = 0
    """Entries that merge keys (`<<`) have copied."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Replace merge keys by the entries that they name, whose number may double with each of them."""
        for key, value in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                for one in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    if isinstance(one, yaml.MappingNode):
                        self.flatten_mapping(one)
                        self.merged += len(one.value)
                    if self.merged > MOST_VALUES:
                        raise _refusal(node, f"merge keys copy more than {MOST_VALUES:,} entries")
        super().flatten_mapping(node)

    def fetch_flow_collection_start(self, token: Any) -> None:
        """Begin a list or mapping in brackets. With very many open ones the scanner takes long for each character."""
        if self.flow_level >= DEEPEST:
            raise yaml.scanner.ScannerError(
                problem=f"more than {DEEPEST} levels of brackets", problem_mark=self.get_mark()
            )
        super().fetch_flow_collection_start(token)

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        """An integer or a float, unless it is so long that reading or printing it takes long."""
        if len(node.value) > LONGEST_NUMBER:
            raise _refusal(node, f"a number of {len(node.value):,} characters; expected {LONGEST_NUMBER} at most")
        make = self.construct_yaml_int if node.tag.endswith(":int") else self.construct_yaml_float
        try:
            return make(node)
        except (ValueError, OverflowError) as error:
            raise _refusal(node, str(error)) from None


_OTHERS = ("timestamp", "binary", "set", "omap", "pairs")
_Loader.yaml_constructors = {
    tag: make for tag, make in _Loader.yaml_constructors.items() if str(tag).rpartition(":")[2] not in _OTHERS
}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)
for _kind in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _Loader.construct_number)


def read_yaml(text: str) -> Any:
    """Parse YAML.

    Raises:
        yaml.YAMLError: it is no YAML, holds something that JSON can't, or more than the limits of this module.
    """
    try:
        content = yaml.load(text, _Loader)  # a SafeLoader
    except RecursionError:
        raise yaml.YAMLError(f"it is nested more than {DEEPEST} levels deep, or contains itself") from None
    _check_size(content)
    return content


def read_json(text: str) -> Any:
    """Parse JSON.

    Raises:
        ValueError: it is no JSON, or has more than the limits of this module.
    """
    try:
        content = json.loads(text)
        _check_size(content)
    except RecursionError:
        raise ValueError(f"it is nested more than {DEEPEST} levels deep") from None
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None
    return content


def read_value(text: str) -> Any:
    """Parse a command-line value: what is no YAML is text."""
    try:
        return read_yaml(text)
    except yaml.YAMLError:
        return str(text)


class Text(str):
    """A command-line value. The parameter it is for decides whether it is read as YAML or kept as text."""

    __slots__ = ()


def as_given(value: Any) -> Any:
    """A command-line value of an undeclared parameter: a number stays text, such as the group `12` of a logger."""
    parsed = read_value(value) if isinstance(value, Text) else None
    is_number = isinstance(parsed, int | float) and not isinstance(parsed, bool)
    return str(value) if is_number else value


def without_texts(value: Any) -> Any:
    """A value with all command-line values in it read as YAML."""
    if isinstance(value, Text):
        return read_value(value)
    if isinstance(value, Mapping):
        return {name: without_texts(inner) for name, inner in value.items()}
    return [without_texts(inner) for inner in value] if isinstance(value, list) else value


def _check_size(content: Any) -> None:
    """Check depth and size of a document as if all its anchors were written out.

    Raises:
        yaml.YAMLError: it is too large.
    """
    size = _measure(content, 0, {})
    if size.values > MOST_VALUES or size.characters > MOST_CHARACTERS:
        raise yaml.YAMLError(
            f"it has {size.values:.2g} values with {size.characters:.2g} characters; "
            f"expected {MOST_VALUES:,} and {MOST_CHARACTERS:,} at most"
        )


class _Size(NamedTuple):
    values: int = 1
    characters: int = 0
    levels: int = 0


def _measure(value: Any, depth: int, known: dict[int, _Size]) -> _Size:
    """Size of a value; that of each list and mapping is computed once, wherever anchors repeat it."""
    if not isinstance(value, dict | list):
        return _Size(characters=len(value) if isinstance(value, str) else 0)
    size = known.get(id(value), _Size())
    if depth + size.levels >= DEEPEST:
        raise yaml.YAMLError(f"it is nested more than {DEEPEST} levels deep, or contains itself")
    if id(value) in known:
        return size
    keys = [len(key) for key in value if isinstance(key, str)] if isinstance(value, dict) else []
    if max(keys, default=0) > LONGEST_KEY:
        raise yaml.YAMLError(f"a key has {max(keys):,} characters; expected {LONGEST_KEY} at most")
    inner = [_measure(one, depth + 1, known) for one in (value.values() if isinstance(value, dict) else value)]
    known[id(value)] = _Size(
        values=1 + sum(one.values for one in inner),
        characters=sum(keys) + sum(one.characters for one in inner),
        levels=1 + max((one.levels for one in inner), default=0),
    )
    return known[id(value)]


def _refusal(node: yaml.Node, reason: str) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(problem=reason, problem_mark=node.start_mark)
