"""Read YAML and JSON as plain data within size limits, with YAML 1.2 numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import yaml

MOST_VALUES = 1_000_000
"""Maximum number of values in a document, with anchors expanded."""
MOST_CHARACTERS = 2**25
"""Maximum number of characters of all texts and keys in a document, with anchors expanded."""
DEEPEST = 50
"""Maximum nesting depth."""
LONGEST_NUMBER, LONGEST_KEY = 100, 500
"""Maximum number of characters of a number and of a key."""


class _Loader(yaml.SafeLoader):
    """SafeLoader without dates, sets and bytes, and with floats like 1e-4, which YAML 1.1 reads as text."""

    merged = 0
    """Number of entries copied by merge keys (`<<`)."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Expand merge keys within the limit, since nested ones can double the number of entries each time."""
        for key, value in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                for inner in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    if isinstance(inner, yaml.MappingNode):
                        self.flatten_mapping(inner)
                        self.merged += len(inner.value)
                    if self.merged > MOST_VALUES:
                        raise _error(node, f"merge keys copy more than {MOST_VALUES:,} entries")
        super().flatten_mapping(node)

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Refuse keys that are given twice, of which YAML's loaders silently keep the last."""
        node = super().compose_mapping_node(anchor)
        keys: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in keys:
                    raise _error(key, f"the key {key.value:.80} is given twice; remove one")
                keys.add(key.value)
        return node

    def fetch_flow_collection_start(self, token: Any) -> None:
        """Limit the depth of brackets, since the scanner's time for each character grows with it."""
        if self.flow_level >= DEEPEST:
            problem = f"more than {DEEPEST} levels of brackets"
            raise yaml.scanner.ScannerError(problem=problem, problem_mark=self.get_mark())
        super().fetch_flow_collection_start(token)

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        """Construct a number of limited length, since parsing and printing take quadratic time."""
        if len(node.value) > LONGEST_NUMBER:
            raise _error(node, f"a number has {len(node.value):,} characters; expected at most {LONGEST_NUMBER}")
        try:
            return (self.construct_yaml_int if node.tag.endswith(":int") else self.construct_yaml_float)(node)
        except (ValueError, OverflowError) as error:
            raise _error(node, str(error)) from None


_UNSUPPORTED = ("timestamp", "binary", "set", "omap", "pairs")
_Loader.yaml_constructors = {
    tag: make for tag, make in _Loader.yaml_constructors.items() if str(tag).rpartition(":")[2] not in _UNSUPPORTED
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
        yaml.YAMLError: the text is not YAML, exceeds a limit, or has values that JSON can't represent.
    """
    try:
        return _check_size(yaml.load(text, _Loader))  # a SafeLoader
    except RecursionError:
        raise yaml.YAMLError(_TOO_DEEP) from None


def read_json(text: str) -> Any:
    """Parse JSON.

    Raises:
        ValueError: the text is not JSON, or exceeds a limit.
    """
    try:
        return _check_size(json.loads(text, object_pairs_hook=_unique_keys))
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in mapping if keys.count(key) > 1)
        raise ValueError(f"the key {repeated:.80} is given twice; remove one")
    return mapping


def read_value(text: str) -> Any:
    """Parse a command-line value as YAML, or return the text if it is not YAML."""
    try:
        return read_yaml(text)
    except yaml.YAMLError:
        return str(text)


class Text(str):
    """An unparsed command-line value; the type of its parameter decides whether it is parsed as YAML."""

    __slots__ = ()


def number_as_text(value: Any) -> Any:
    """Convert a command-line number for an undeclared parameter to text, for example the group `12` of a logger."""
    is_number = isinstance(value, Text) and type(read_value(value)) in (int, float)
    return str(value) if is_number else value


def parse_texts(value: Any) -> Any:
    """Parse all command-line values within a value as YAML."""
    if isinstance(value, Text):
        return read_value(value)
    if isinstance(value, Mapping):
        return {name: parse_texts(inner) for name, inner in value.items()}
    return [parse_texts(inner) for inner in value] if isinstance(value, list) else value


_TOO_DEEP = f"it is nested more than {DEEPEST} levels deep, or contains itself"


class _Size(NamedTuple):
    values: int = 1
    characters: int = 0
    levels: int = 0


def _check_size(content: Any) -> Any:
    size = _measure(content, 0, {})
    if size.values > MOST_VALUES or size.characters > MOST_CHARACTERS:
        raise yaml.YAMLError(
            f"it has {size.values:.2g} values with {size.characters:.2g} characters; "
            f"expected at most {MOST_VALUES:,} and {MOST_CHARACTERS:,}"
        )
    return content


def _measure(value: Any, depth: int, known: dict[int, _Size]) -> _Size:
    """Compute the size with anchors expanded. `known` caches the sizes of mappings and lists by their `id`."""
    if not isinstance(value, dict | list):
        return _Size(characters=len(value) if isinstance(value, str) else 0)
    size = known.get(id(value), _Size())
    if depth + size.levels >= DEEPEST:
        raise yaml.YAMLError(_TOO_DEEP)
    if id(value) in known:
        return size
    keys = [len(key) for key in value if isinstance(key, str)] if isinstance(value, dict) else []
    if max(keys, default=0) > LONGEST_KEY:
        raise yaml.YAMLError(f"a key has {max(keys):,} characters; expected at most {LONGEST_KEY}")
    inner = [_measure(x, depth + 1, known) for x in (value.values() if isinstance(value, dict) else value)]
    known[id(value)] = _Size(
        values=1 + sum(x.values for x in inner),
        characters=sum(keys) + sum(x.characters for x in inner),
        levels=1 + max((x.levels for x in inner), default=0),
    )
    return known[id(value)]


def _error(node: yaml.Node, problem: str) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(problem=problem, problem_mark=node.start_mark)
