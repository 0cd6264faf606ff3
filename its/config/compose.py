"""Compose YAML files and the command line into one mapping, with the source of every key.

Later files overlay earlier ones key by key, a new `class_path` discards the arguments of the class before it, and null
removes an entry. Nothing is constructed or imported here: see `its.instantiate`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from its.config.files import FileReader, names_file
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
"""Keys of entries that null removes."""


@dataclass(frozen=True)
class Layer:
    """Part of a config from one source.

    Attributes:
        source: the file, or `COMMAND_LINE`.
        values: nested mappings.
        is_option: whether the command line gives the values, or names the file for one of its options.
    """

    source: str
    values: Values
    is_option: bool = False


@dataclass(frozen=True)
class Config:
    """Merged layers.

    Attributes:
        layers: each over the one before.
        values: the merged values, without entries that null removed.
        sources: dotted key, with the index in lists -> source of the last layer that set it.
    """

    layers: Sequence[Layer]
    values: Values = field(init=False)
    sources: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        """Merge the layers.

        Raises:
            UserError: a layer names a method that does not exist.
        """
        values: Values = {}
        sources: dict[str, str] = {}
        for layer in self.layers:
            if "method" in layer.values:
                values["model"] = _taken_by(str(layer.values["method"]), values.get("model"), layer.source)
            for single in _singles(layer.values, values):  # becomes the first item of a list
                below = {key: source for key, source in sources.items() if f"{key}.".startswith(f"{single}.")}
                sources |= {f"{single}.0{key.removeprefix(single)}": source for key, source in below.items()}
            sources |= dict.fromkeys(_keys(layer.values, values), layer.source)
            values = merge(values, layer.values)
        object.__setattr__(self, "values", _pruned(values, ""))
        object.__setattr__(self, "sources", sources)

    @property
    def method(self) -> str:
        """Name of the method, whose constructor takes the keys under `model`."""
        return str(self.values.get("method", methods.DEFAULT))

    def source_of(self, key: str) -> str | None:
        """The source of a key, or else of the nearest key around it."""
        parts = key.split(".")
        outer = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
        return next((self.sources[key] for key in outer if key in self.sources), None)


def compose(files: Sequence[Path], arguments: Sequence[str] = ()) -> Config:
    """Read the files and the command line.

    Args:
        files: each overlays the one before.
        arguments: of the command line, as `--key=value`; they overlay all files.

    Raises:
        UserError: a file can't be read, or is no mapping of keys.
    """
    return Config([*map(read_layer, files), *command_line_layers(arguments)])


def read_layer(path: Path) -> Layer:
    """Read a YAML file, a packaged config, or the config inside a file that `its` wrote, with the files that it names.

    Raises:
        UserError: the file can't be read, or is no mapping of keys.
    """
    path = find_config(path)
    values = read_config(path) if path.suffix.lower() in KINDS else FileReader().read(path)
    for key in values:
        if key == "config" or key.endswith("+"):
            raise UserError(f"{path}: there is no key {key}: overlay files with --config on the command line")
    for key in SECTIONS:
        if not isinstance(values.get(key, {}), dict):
            raise UserError(f"{path}: {key} is {values[key]!r:.80}; expected keys and values, or a YAML file of them")
    return Layer(str(path), spell_out(values, ""))


def command_line_layers(arguments: Sequence[str]) -> list[Layer]:
    """Layers of `--key=value` arguments: one for each file that stands in the place of a value, then all other values.

    `--model.vocoder.iterations=3` is short for `--model.vocoder.init_args.iterations=3`, `--key+=value` appends to a
    list, and `--data.sweep={}` replaces a whole mapping; a section or the arguments of an object are merged.

    Raises:
        UserError: an argument is no option, or names a file that can't be read.
    """
    layers: list[Layer] = []
    values: Values = {}
    for argument in arguments:
        option, equals, text = argument.partition("=")
        if not option.startswith("--"):
            raise UserError(f"got {argument!r}; expected an option such as --model.steps 50")
        if not equals:
            raise UserError(f"{option} needs a value")
        key = _full_key(option.removeprefix("--").removesuffix("+"))
        value = _value_of(text, key)
        if option.endswith("+"):
            items = read_value(value) if isinstance(value, Text) else value
            value = Appended(items if isinstance(items, list) else [items])
        nested = _nested(key, value)
        if names_file(text, key):
            layers.append(Layer(text, nested, is_option=True))
        else:
            values = merge(values, nested)
    return [*layers, Layer(COMMAND_LINE, values, is_option=True)]


def option_layer(options: Mapping[str, Any], source: str) -> Layer:
    """A layer of values by dotted key, as options of the command line set them: `{"model.steps": 50}`."""
    values: Values = {}
    for option, value in options.items():
        values = merge(values, _nested(_full_key(option), value))
    return Layer(source, values, is_option=True)


def split_arguments(arguments: Sequence[str]) -> tuple[list[Path], list[str], list[str]]:
    """Command line -> (config files, plugin modules, everything else as `--key=value`), each in its order.

    Raises:
        UserError: `--config` or `--trust` without a value.
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


def _taken_by(method: str, model: Values | None, source: str) -> Values:
    """Keys under `model` that a newly chosen method takes too."""
    try:
        takes = methods.settings_of(method)
    except UserError as error:
        raise UserError(f"{source}: {error}") from None
    return {key: value for key, value in (model or {}).items() if key in takes}


def _nested(key: str, value: Any) -> Values:
    """The mapping that sets one dotted key."""
    for part in reversed(key.split(".", maxsplit=_depth(key))):
        value = {part: value}
    nested: Values = spell_out(value, "")
    return nested


def _depth(key: str) -> int:
    """How many dots of a key separate keys: those of a sweep have dots themselves. -1 for all."""
    return 2 if key.startswith("data.sweep.") else -1


def _full_key(option: str) -> str:
    """The key of an option, with the `init_args` that may be left out."""
    parts: list[str] = []
    for part in option.split(".", maxsplit=_depth(option)):
        if holds_object(".".join(parts)) and part not in ("class_path", "init_args"):
            parts.append("init_args")
        parts.append(part)
    return ".".join(parts)


def _value_of(text: str, key: str) -> Any:
    """Value of a command-line argument, as far as merging needs to know it."""
    if names_file(text, key):
        return FileReader().read_for(key, find_file(text), named_by=COMMAND_LINE)
    if text.strip() in ("null", "~"):
        return None
    parsed = read_value(text)
    if isinstance(parsed, dict) and text.lstrip().startswith("{"):
        merges = key in SECTIONS or key.endswith(".init_args") or holds_object(key)
        return parsed if merges else Whole(parsed)
    if not holds_object(key):
        return Text(text)
    return text if isinstance(parsed, str) else parsed if isinstance(parsed, list) else Text(text)


def _pruned(value: Any, key: str) -> Any:
    if not isinstance(value, dict):
        return value
    inner = {k: (v, f"{key}.{k}".lstrip(".")) for k, v in value.items()}
    return {k: _pruned(v, full) for k, (v, full) in inner.items() if v is not None or not _REMOVABLE.fullmatch(full)}


def _keys(value: Any, below: Any, prefix: str = "") -> Iterator[str]:
    """All keys of a value that is merged over another one, with the indices in lists."""
    if isinstance(value, Mapping):
        items = {
            str(name): (inner, below.get(name) if isinstance(below, Mapping) else None) for name, inner in value.items()
        }
    elif isinstance(value, list):
        first = len(merge(below, value)) - len(value) if isinstance(value, Appended) else 0
        items = {str(index): (inner, None) for index, inner in enumerate(value, start=first)}
    else:
        return
    for name, (inner, inner_below) in items.items():
        key = f"{prefix}.{name}".lstrip(".")
        yield key
        yield from _keys(inner, inner_below, key)


def _singles(value: Any, below: Any, key: str = "") -> Iterator[str]:
    """Keys whose value is no list and to which a layer appends items."""
    if isinstance(value, Appended) and below is not None and not isinstance(below, list):
        yield key
    elif isinstance(value, Mapping) and isinstance(below, Mapping):
        for name in value.keys() & below.keys():
            yield from _singles(value[name], below[name], f"{key}.{name}".lstrip("."))
