"""Compose YAML files and command-line options into one mapping, and record the source of each key.

Later layers override earlier ones key by key. A different `class_path` discards the arguments of the previous class,
and null removes an entry. Objects are constructed later, by `its.instantiate`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from its.config.files import FileReader, is_file_reference
from its.config.merge import Appended, Values, Whole, holds_object, merge, spell_out
from its.errors import UserError
from its.instantiate import Text
from its.instantiate.yaml_values import read_value
from its.media.limited import user_path
from its.media.metadata import KINDS
from its.media.packaged import find_config, find_file
from its.methods import classes as methods
from its.runs.replay import read_config

COMMAND_LINE = "command line"
SECTIONS = ("model", "data", "trainer")

_REMOVABLE = re.compile(
    r"model\.(experts|steps|guides)\.[^.]+|model\.combiner\.(init_args\.)?(combiner\.(init_args\.)?)*\w+\.[^.]+"
    r"|data\.(guidance_scale|negative_prompts)\.[^.]+"
)
"""Keys that null removes; for all other keys, null is a value."""


@dataclass(frozen=True)
class Layer:
    """Config values from one source.

    Attributes:
        source: path of the file, or `COMMAND_LINE`.
        values: nested mappings.
        is_option: whether the values come from a command-line option, directly or from a file that it references.
    """

    source: str
    values: Values
    is_option: bool = False


class Config:
    """Merged config.

    Attributes:
        layers: layers in order; later ones override earlier ones.
        values: merged values.
        sources: maps each dotted key, with list indices, to the source of the last layer that set it.

    Raises:
        UserError: a layer sets an unknown method.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        values: Values = {}
        sources: dict[str, str] = {}
        for layer in layers:
            if "method" in layer.values:
                values["model"] = _keep_common_keys(values.get("model"), str(layer.values["method"]), layer.source)
            for key in _single_values(layer.values, values):  # these become the first items of lists
                inner = {name: source for name, source in sources.items() if f"{name}.".startswith(f"{key}.")}
                sources |= {f"{key}.0{name.removeprefix(key)}": source for name, source in inner.items()}
            sources |= dict.fromkeys(_keys(layer.values, values), layer.source)
            values = merge(values, layer.values)
        self.layers, self.values, self.sources = layers, _remove_nulls(values, ""), sources

    @property
    def method(self) -> str:
        """Class name of the method; the keys under `model` are its arguments."""
        return str(self.values.get("method", methods.DEFAULT))

    def source_of(self, key: str) -> str | None:
        """Return the source of a key, or of its closest parent with a source; None for defaults."""
        while key and key not in self.sources:
            key = key.rpartition(".")[0]
        return self.sources.get(key)


def compose(files: Sequence[Path], arguments: Sequence[str] = ()) -> Config:
    """Merge config files, in order, and then `--key=value` arguments.

    Raises:
        UserError: a file can't be read or is not a mapping, or an argument is invalid.
    """
    return Config([*map(read_layer, files), *command_line_layers(arguments)])


def read_layer(path: str | Path) -> Layer:
    """Read a YAML file or packaged config with the files that it includes, or the config embedded in a sample file.

    Raises:
        UserError: the file can't be read or is not a mapping.
    """
    path = find_config(path)
    values = read_config(path) if path.suffix.lower() in KINDS else FileReader().read(path)
    for key, value in values.items():
        if key == "config" or key.endswith("+"):
            raise UserError(f"{path}: unknown key {key}. To merge configs, repeat --config on the command line")
        if key in SECTIONS and not isinstance(value, dict):
            raise UserError(f"{path}: {key} is {value!r:.80}; expected a mapping, or a YAML file with one")
    return Layer(str(path), spell_out(values, ""))


def command_line_layers(arguments: Sequence[str]) -> list[Layer]:
    """Parse `--key=value` arguments into one layer for each YAML file given as a value, and one for all other values.

    `--model.vocoder.iterations=3` is short for `--model.vocoder.init_args.iterations=3`, and `--key+=value` appends to
    a list. A mapping such as `--data.sweep={}` replaces the previous one, except that sections, objects and `init_args`
    are merged.

    Raises:
        UserError: an argument is not an option with a value, or its file can't be read.
    """
    layers: list[Layer] = []
    values: Values = {}
    for argument in arguments:
        option, equals, text = argument.partition("=")
        if not option.startswith("--"):
            raise UserError(f"got {argument!r}; expected an option, for example --model.steps 50")
        if not equals:
            raise UserError(f"{option} needs a value")
        key = _full_key(option.removeprefix("--").removesuffix("+"))
        value = _value_of(text, key)
        if option.endswith("+"):
            items = read_value(value) if isinstance(value, Text) else value
            value = Appended(items if isinstance(items, list) else [items])
        nested = _nested(key, value)
        if is_file_reference(text, key):
            layers.append(Layer(text, nested, is_option=True))
        else:
            values = merge(values, nested)
    return [*layers, Layer(COMMAND_LINE, values, is_option=True)]


def option_layer(options: Mapping[str, Any], source: str) -> Layer:
    """Return a layer that sets values by dotted key like command-line options, for example `{"model.steps": 50}`."""
    if not isinstance(options, Mapping) or not all(isinstance(option, str) for option in options):
        raise TypeError(f"{source} are {options!r:.80}; expected a mapping from keys such as 'model.steps' to values")
    values: Values = {}
    for option, value in options.items():
        values = merge(values, _nested(_full_key(option), _as_yaml(value)))
    return Layer(source, values, is_option=True)


def _as_yaml(value: Any) -> Any:
    """Convert NumPy arrays and numbers, ranges, tuples and paths to YAML types. Other values are unchanged."""
    if isinstance(value, Mapping):
        return {key: _as_yaml(inner) for key, inner in value.items()}
    if type(value).__module__ == "numpy":
        return value.tolist()
    if isinstance(value, list | tuple | range):
        return [_as_yaml(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value


def split_arguments(arguments: Sequence[str]) -> tuple[list[Path], list[str], list[str]]:
    """Split a command line into config files, plugin modules, and all other options as `--key=value`, in their order.

    Raises:
        UserError: `--config` or `--trust` has no value.
    """
    files: list[Path] = []
    modules: list[str] = []
    rest: list[str] = []
    queue = list(arguments)
    while queue:
        option, equals, value = queue.pop(0).partition("=")
        if not equals and queue and not queue[0].startswith("--"):
            equals, value = "=", queue.pop(0)
        if option in ("--config", "-c", "--trust") and not value:
            raise UserError(f"{option} needs a value")
        if option == "--trust":
            modules.append(value)
        elif option in ("--config", "-c"):
            files.append(user_path(value))
        else:
            rest.append(option + equals + value)
    return files, modules, rest


def _keep_common_keys(model: Values | None, method: str, source: str) -> Values:
    """Keep the keys under `model` that are also settings of another method."""
    try:
        settings = methods.settings_of(method)
    except UserError as error:
        raise UserError(f"{source}: {error}") from None
    return {key: value for key, value in (model or {}).items() if key in settings}


def _nested(key: str, value: Any) -> Values:
    """Return the mapping that sets one dotted key."""
    for part in reversed(key.split(".", maxsplit=_max_splits(key))):
        value = {part: value}
    nested: Values = spell_out(value, "")
    return nested


def _max_splits(key: str) -> int:
    """Maximum number of splits of a dotted key: keys under `data.sweep` contain dots themselves. -1 for no limit."""
    return 2 if key.startswith("data.sweep.") else -1


def _full_key(option: str) -> str:
    """Insert the `init_args` that options may omit."""
    parts: list[str] = []
    for part in option.split(".", maxsplit=_max_splits(option)):
        if holds_object(".".join(parts)) and part not in ("class_path", "init_args"):
            parts.append("init_args")
        parts.append(part)
    return ".".join(parts)


def _value_of(text: str, key: str) -> Any:
    """Parse a command-line value as far as merging requires; any other value remains `Text`."""
    if is_file_reference(text, key):
        return FileReader().read_for(key, find_file(text), origin=COMMAND_LINE)
    if text.strip() in ("null", "~"):
        return None
    parsed = read_value(text)
    if isinstance(parsed, dict) and text.lstrip().startswith("{"):
        merges = key in SECTIONS or key.endswith(".init_args") or holds_object(key)
        return parsed if merges else Whole(parsed)
    if holds_object(key) and isinstance(parsed, str | list):
        return text if isinstance(parsed, str) else parsed
    return Text(text)


def _remove_nulls(value: Any, key: str) -> Any:
    if not isinstance(value, dict):
        return value
    inner = {k: (v, f"{key}.{k}".lstrip(".")) for k, v in value.items()}
    return {k: _remove_nulls(v, f) for k, (v, f) in inner.items() if v is not None or not _REMOVABLE.fullmatch(f)}


def _keys(top: Any, base: Any, prefix: str = "") -> Iterator[str]:
    """Yield the keys that merging `top` over `base` sets, with list indices."""
    items: Mapping[Any, Any] = top if isinstance(top, Mapping) else {}
    if isinstance(top, list):
        first = len(merge(base, top)) - len(top) if isinstance(top, Appended) else 0
        items = dict(enumerate(top, start=first))
    for name, value in items.items():
        yield (key := f"{prefix}.{name}".lstrip("."))
        yield from _keys(value, base.get(name) if isinstance(base, Mapping) else None, key)


def _single_values(top: Any, base: Any, key: str = "") -> Iterator[str]:
    """Yield the keys of values in `base` that are not lists and to which `top` appends."""
    if isinstance(top, Appended) and base is not None and not isinstance(base, list):
        yield key
    elif isinstance(top, Mapping) and isinstance(base, Mapping):
        for name in top.keys() & base.keys():
            yield from _single_values(top[name], base[name], f"{key}.{name}".lstrip("."))
