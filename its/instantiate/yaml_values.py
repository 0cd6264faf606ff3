"""Read YAML as plain data: what JSON can hold, with numbers as YAML 1.2 writes them."""

from __future__ import annotations

import re
from typing import Any

import yaml

MOST_NODES = 1_000_000
"""Values in one document, counted again wherever an anchor repeats them."""


class _Loader(yaml.SafeLoader):
    """SafeLoader without dates, sets and bytes, and with floats such as 1e-4, which YAML 1.1 reads as text."""


_OTHERS = ("timestamp", "binary", "set", "omap", "pairs")
_Loader.yaml_constructors = {
    tag: make for tag, make in _Loader.yaml_constructors.items() if str(tag).rpartition(":")[2] not in _OTHERS
}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+"), list("-+.0123456789")
)


def read_yaml(text: str) -> Any:
    """Parse YAML.

    Raises:
        yaml.YAMLError: it is no YAML, or holds something that JSON can't.
        RecursionError: it contains itself by its anchors, or is nested too deeply or repeated too often.
    """
    content = yaml.load(text, _Loader)  # a SafeLoader
    queue, count = [content], 0
    while queue:
        count += 1
        if count > MOST_NODES:
            raise RecursionError(f"more than {MOST_NODES} values")
        value = queue.pop()
        if isinstance(value, dict):
            queue += value.values()
        elif isinstance(value, list):
            queue += value
    return content


def read_value(text: str) -> Any:
    """Parse a command-line value: what is no YAML is text."""
    try:
        return read_yaml(text)
    except (yaml.YAMLError, RecursionError):
        return str(text)
