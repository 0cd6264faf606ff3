"""Merge nested config mappings; a mapping with `class_path` and `init_args` is an object spec."""

from __future__ import annotations

import re
from typing import Any

from its import registry
from its.instantiate import Text
from its.instantiate.yaml_values import read_value

Values = dict[str, Any]

_PLUGIN = re.compile(
    r"model\.(experts\.[^.]+(\.init_args\.expert)*|combiner(\.init_args\.combiner)*|scheduler|vocoder|codec"
    r"|colorizer(\.init_args\.expert)?)"
)
"""Keys that hold a plugin, including the `expert` and `combiner` arguments of wrappers."""
_LIGHTNING = re.compile(r"trainer\.(logger|callbacks|strategy|profiler|plugins|accelerator)")
"""Keys that hold a Lightning object, or a list of them."""


class Appended(list[Any]):
    """Items to append to the list of earlier layers."""


class Whole(dict[str, Any]):
    """A mapping that replaces the mapping of earlier layers instead of merging into it."""


def merge(base: Any, top: Any) -> Any:
    """Merge `top` over `base`. An object with a different `class_path` replaces the base's object and arguments."""
    if isinstance(top, Appended):
        base_items = read_value(base) if isinstance(base, Text) else base
        items = base_items if isinstance(base_items, list) else [] if base_items is None else [base_items]
        return (Appended if base is None else type(items))([*items, *top])
    if isinstance(base, str) and isinstance(top, dict) and top.keys() == {"init_args"}:
        base = {"class_path": base}
    if isinstance(top, str) and isinstance(base, dict) and _is_class_of(base, top):
        top = {"class_path": top}
    if not isinstance(base, dict) or not isinstance(top, dict) or isinstance(top, Whole):
        return top
    if "class_path" in base and "class_path" in top and not _is_class_of(base, top["class_path"]):
        return top
    return type(base)({**base, **{key: merge(base.get(key), value) for key, value in top.items()}})


def holds_object(key: str) -> bool:
    """Whether a key holds an object or a list of objects."""
    return bool(_PLUGIN.fullmatch(key) or _LIGHTNING.fullmatch(key))


def spell_out(value: Any, key: str) -> Any:
    """Expand plugins given as a class name to `{class_path: NAME}`, so that arguments can be merged into them."""
    if isinstance(value, str) and not isinstance(value, Text) and _PLUGIN.fullmatch(key):
        value = {"class_path": value}
    if not isinstance(value, dict):
        return value
    expanded = type(value)({name: spell_out(inner, f"{key}.{name}".lstrip(".")) for name, inner in value.items()})
    if _PLUGIN.fullmatch(key) and isinstance(expanded.get("class_path"), str):
        expanded["class_path"] = registry.short_name(expanded["class_path"])
    return expanded


def _is_class_of(spec: Values, name: Any) -> bool:
    """Whether a name, with or without its module, is that of a spec's class."""
    if "class_path" not in spec:
        return spec.keys() == {"init_args"}
    one, other = str(spec["class_path"]), str(name)
    short = "." not in one or "." not in other
    return one == other or (short and one.rpartition(".")[2] == other.rpartition(".")[2])
