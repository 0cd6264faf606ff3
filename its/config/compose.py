"""Compose YAML files and the command line into one mapping, with the source of every key.

Later files overlay earlier ones key by key, a new `class_path` discards the arguments of the class before it, and null
removes an entry. Nothing is constructed or imported here: see `its.instantiate`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any

import yaml

from its import registry
from its.errors import UserError, nearest
from its.instantiate import Text
from its.instantiate.yaml_values import read_value, read_yaml
from its.media.metadata import KINDS
from its.methods import classes as methods
from its.runs.replay import read_config

Values = dict[str, Any]

COMMAND_LINE = "command line"
SECTIONS = ("model", "data", "trainer")

_PLUGIN = re.compile(
    r"model\.(experts\.[^.]+(\.init_args\.expert)*|combiner(\.init_args\.combiner)*|scheduler|vocoder|codec"
    r"|colorizer(\.init_args\.expert)?)"
)
"""Keys of plugins, including those inside wrappers, whose arguments `expert` and `combiner` are plugins."""
_LIGHTNING = re.compile(r"trainer\.(logger|callbacks|strategy|profiler|plugins|accelerator)")
"""Keys of Lightning's own objects."""
_REMOVABLE = re.compile(
    r"model\.(experts|steps|guides)\.[^.]+|model\.combiner\.(init_args\.)?(combiner\.(init_args\.)?)*\w+\.[^.]+"
    r"|data\.(guidance_scale|negative_prompts)\.[^.]+"
)
"""Keys of entries that null removes."""
_NAMES_FILE = re.compile(
    r"model(\.(experts(\.[^.]+)?|combiner|scheduler|vocoder|codec|colorizer))?(\.init_args)?|trainer(\.\w+)?"
    r"|data(\.(guidance_scale|negative_prompts|sweep))?"
)
"""Keys whose value may be the name of a YAML file that holds it."""
_YAML = (".yaml", ".yml")


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
    """Read a YAML file, or the config inside a file that `its` wrote; files that it names are put in their places.

    Raises:
        UserError: the file can't be read, or is no mapping of keys.
    """
    try:
        values = read_config(path) if path.suffix.lower() in KINDS else _with_files(_read(path), path, "")
    except RecursionError:
        raise UserError(f"{path}: it contains itself, by the names of files or by YAML anchors") from None
    for key in values:
        if key == "config" or key.endswith("+"):
            raise UserError(f"{path}: there is no key {key}: overlay files with --config on the command line")
    for key in SECTIONS:
        if not isinstance(values.get(key, {}), dict):
            raise UserError(f"{path}: {key} is {values[key]!r:.80}; expected keys and values, or a YAML file of them")
    return Layer(str(path), _spelled_out(values, ""))


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
            value = _Appended(items if isinstance(items, list) else [items])
        for part in reversed(key.split(".", maxsplit=_depth(key))):
            value = {part: value}
        nested = _spelled_out(value, "")
        if _names_file(text, key):
            layers.append(Layer(text, nested, is_option=True))
        else:
            values = merge(values, nested)
    return [*layers, Layer(COMMAND_LINE, values, is_option=True)]


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
            files.append(Path(value))
        else:
            rest.append(option + equals + value)
    return files, modules, rest


def merge(base: Any, top: Any) -> Any:
    """Overlay nested mappings. Objects of another `class_path` replace the one that is there, with its arguments."""
    if isinstance(top, _Appended):
        below = read_value(base) if isinstance(base, Text) else base
        items = below if isinstance(below, list) else [] if below is None else [below]
        return (_Appended if base is None else type(items))([*items, *top])
    if isinstance(base, str) and isinstance(top, dict) and top.keys() == {"init_args"}:
        base = {"class_path": base}
    if isinstance(top, str) and isinstance(base, dict) and _names_class_of(base, top):
        top = {"class_path": top}
    if not isinstance(base, dict) or not isinstance(top, dict) or isinstance(top, _Whole):
        return top
    if "class_path" in base and "class_path" in top and not _names_class_of(base, top["class_path"]):
        return top
    return type(base)({**base, **{key: merge(base.get(key), value) for key, value in top.items()}})


def _names_class_of(spec: Values, name: Any) -> bool:
    """Whether a name is that of an object's class; with its module or without."""
    if "class_path" not in spec:
        return spec.keys() == {"init_args"}
    one, other = str(spec["class_path"]), str(name)
    short = "." not in one or "." not in other
    return one == other or (short and one.rpartition(".")[2] == other.rpartition(".")[2])


class _Appended(list[Any]):
    """Items to append to a list of the layers below."""


class _Whole(dict[str, Any]):
    """A mapping that replaces the one of the layers below."""


def _taken_by(method: str, model: Values | None, source: str) -> Values:
    """Keys under `model` that a newly chosen method takes too."""
    try:
        takes = methods.settings_of(method)
    except UserError as error:
        raise UserError(f"{source}: {error}") from None
    return {key: value for key, value in (model or {}).items() if key in takes}


def _read(path: Path) -> Values:
    try:
        content = read_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        near = nearest(path.name, [p.name for p in path.parent.glob("*.y*ml")]) if path.parent.is_dir() else ""
        raise UserError(f"there is no config {path}.{near}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: the config can't be read ({error})") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected keys such as model: and data:, got {type(content).__name__}")
    return content


def _with_files(value: Any, path: Path, key: str) -> Any:
    """Replace names of YAML files by their content; they are relative to the file that names them."""
    if isinstance(value, dict):
        return {str(k): _with_files(v, path, f"{key}.{k}".lstrip(".")) for k, v in value.items()}
    if key == "model" and isinstance(value, list):
        layers = [_with_files(item, path, key) for item in value]
        for layer in layers:
            if not isinstance(layer, dict):
                raise UserError(f"{path}: {key} is a list with the item {layer!r:.80}; expected YAML files, mappings")
        return reduce(merge, (_spelled_out(layer, key) for layer in layers), {})
    if not isinstance(value, str):
        return value
    beside = path.parent / value
    if key == "data.prompts":
        return str(beside) if beside.exists() else value
    if _names_file(value, key):
        return _with_files(_content_for(key, beside, path), beside, key)
    return value


def _content_for(key: str, file: Path, named_by: Path | str) -> Any:
    """Content of a file in the place of a key's value: the value itself, or a mapping of the key alone to it."""
    content = _read(file)
    if key not in content:
        return content
    if others := [other for other in content if other != key]:
        raise UserError(
            f"{named_by}: {key} names {file}, which sets {', '.join(others)} too, beside {key}: "
            f"overlay it as a whole with --config {file}"
        )
    return content[key]


def _depth(key: str) -> int:
    """How many dots of a key separate keys: those of a sweep have dots themselves. -1 for all."""
    return 2 if key.startswith("data.sweep.") else -1


def _full_key(option: str) -> str:
    """The key of an option, with the `init_args` that may be left out."""
    parts: list[str] = []
    for part in option.split(".", maxsplit=_depth(option)):
        if _holds_object(".".join(parts)) and part not in ("class_path", "init_args"):
            parts.append("init_args")
        parts.append(part)
    return ".".join(parts)


def _value_of(text: str, key: str) -> Any:
    """Value of a command-line argument, as far as merging needs to know it."""
    if _names_file(text, key):
        return _with_files(_content_for(key, Path(text), COMMAND_LINE), Path(text), key)
    if text.strip() in ("null", "~"):
        return None
    parsed = read_value(text)
    if isinstance(parsed, dict) and text.lstrip().startswith("{"):
        merges = key in SECTIONS or key.endswith(".init_args") or _holds_object(key)
        return parsed if merges else _Whole(parsed)
    if not _holds_object(key):
        return Text(text)
    return text if isinstance(parsed, str) else parsed if isinstance(parsed, list) else Text(text)


def _names_file(value: str, key: str) -> bool:
    return value.endswith(_YAML) and bool(_NAMES_FILE.fullmatch(key))


def _holds_object(key: str) -> bool:
    return bool(_PLUGIN.fullmatch(key) or _LIGHTNING.fullmatch(key))


def _pruned(value: Any, key: str) -> Any:
    if not isinstance(value, dict):
        return value
    inner = {k: (v, f"{key}.{k}".lstrip(".")) for k, v in value.items()}
    return {k: _pruned(v, full) for k, (v, full) in inner.items() if v is not None or not _REMOVABLE.fullmatch(full)}


def _spelled_out(value: Any, key: str) -> Any:
    """Spell plugins that are named by their class alone as `{class_path: ...}`, so that arguments merge into them."""
    if isinstance(value, str) and not isinstance(value, Text) and _PLUGIN.fullmatch(key):
        value = {"class_path": value}
    if not isinstance(value, dict):
        return value
    spelled = type(value)({name: _spelled_out(inner, f"{key}.{name}".lstrip(".")) for name, inner in value.items()})
    if _PLUGIN.fullmatch(key) and isinstance(spelled.get("class_path"), str):
        spelled["class_path"] = registry.short_name(spelled["class_path"])
    return spelled


def _keys(value: Any, below: Any, prefix: str = "") -> Iterator[str]:
    """All keys of a value that is merged over another one, with the indices in lists."""
    if isinstance(value, Mapping):
        items = {
            str(name): (inner, below.get(name) if isinstance(below, Mapping) else None) for name, inner in value.items()
        }
    elif isinstance(value, list):
        first = len(merge(below, value)) - len(value) if isinstance(value, _Appended) else 0
        items = {str(index): (inner, None) for index, inner in enumerate(value, start=first)}
    else:
        return
    for name, (inner, inner_below) in items.items():
        key = f"{prefix}.{name}".lstrip(".")
        yield key
        yield from _keys(inner, inner_below, key)
