"""Merge nested mappings of configs, in which mappings of `class_path` and `init_args` are objects."""

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
"""Keys of plugins, including those inside wrappers, whose arguments `expert` and `combiner` are plugins."""
_LIGHTNING = re.compile(r"trainer\.(logger|callbacks|strategy|profiler|plugins|accelerator)")
"""Keys of Lightning's own objects."""


class Appended(list[Any]):
    """Items to append to a list of the layers below."""


class Whole(dict[str, Any]):
    """A mapping that replaces the one of the layers below."""


def merge(base: Any, top: Any) -> Any:
    """Overlay nested mappings. Objects of another `class_path` replace the one that is there, with its arguments."""
    if isinstance(top, Appended):
        below = read_value(base) if isinstance(base, Text) else base
        items = below if isinstance(below, list) else [] if below is None else [below]
        return (Appended if base is None else type(items))([*items, *top])
    if isinstance(base, str) and isinstance(top, dict) and top.keys() == {"init_args"}:
        base = {"class_path": base}
    if isinstance(top, str) and isinstance(base, dict) and _names_class_of(base, top):
        top = {"class_path": top}
    if not isinstance(base, dict) or not isinstance(top, dict) or isinstance(top, Whole):
        return top
    if "class_path" in base and "class_path" in top and not _names_class_of(base, top["class_path"]):
        return top
    return type(base)({**base, **{key: merge(base.get(key), value) for key, value in top.items()}})


def holds_object(key: str) -> bool:
    """Whether the value of a key is an object, or a list of some."""
    return bool(_PLUGIN.fullmatch(key) or _LIGHTNING.fullmatch(key))


def spell_out(value: Any, key: str) -> Any:
    """Spell plugins that are named by their class alone as `{class_path: ...}`, so that arguments merge into them."""
    if isinstance(value, str) and not isinstance(value, Text) and _PLUGIN.fullmatch(key):
        value = {"class_path": value}
    if not isinstance(value, dict):
        return value
    spelled = type(value)({name: spell_out(inner, f"{key}.{name}".lstrip(".")) for name, inner in value.items()})
    if _PLUGIN.fullmatch(key) and isinstance(spelled.get("class_path"), str):
        spelled["class_path"] = registry.short_name(spelled["class_path"])
    return spelled


def _names_class_of(spec: Values, name: Any) -> bool:
    """Whether a name is that of an object's class; with its module or without."""
    if "class_path" not in spec:
        return spec.keys() == {"init_args"}
    one, other = str(spec["class_path"]), str(name)
    short = "." not in one or "." not in other
    return one == other or (short and one.rpartition(".")[2] == other.rpartition(".")[2])
