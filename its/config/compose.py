"""Several YAML files and the command line, composed into one config before Lightning sees it.

jsonargparse alone would replace whole mappings where a later file touches one key of them, keep the arguments of a
class that was exchanged for another, and import any module that a file names. Here later files overlay earlier ones
key by key, a new `class_path` starts afresh, null removes an entry, and files can name registered classes only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from its import registry
from its.config.fallback import stand_in
from its.errors import UserError, by_nearness, nearest
from its.media.metadata import KINDS
from its.methods import classes as methods
from its.runs.replay import read_config

Config = dict[str, Any]

COMMAND_LINE = "command line"

PARTS = {
    "experts.*": "NoiseExpert",
    "combiner": "Combiner",
    "scheduler": "Scheduler",
    "vocoder": "Vocoder",
    "codec": "LatentCodec",
    "colorizer": "Colorizer",
    "colorizer.init_args.expert": "NoiseExpert",
}
"""Keys under `model` that hold a plugin, and the interface of each."""

TRUSTED_MODULES = ("lightning", "torch", "torchmetrics")
"""Besides registered plugins, what a file may name: Lightning's own classes and torch's."""

RISKY_MODULES = (
    "torch.hub",
    "torch.load",
    "torch.package",
    "torch.serialization",
    "torch.utils.cpp_extension",
    "torch.multiprocessing",
    "torch.jit",
)
"""Of those, what runs or reads code that a config could choose."""

_ENTRIES = re.compile(
    r"model\.(experts|steps|guides)\.[^.]+|model\.combiner\.(init_args\.)?(combiner\.(init_args\.)?)*\w+\.[^.]+"
    r"|data\.(guidance_scale|negative_prompts)\.[^.]+"
)
_YAML = (".yaml", ".yml")
_PLUGIN = re.compile(
    r"model\.(experts\.[^.]+(\.init_args\.expert)*|combiner(\.init_args\.combiner)*|scheduler|vocoder|codec|"
    r"colorizer(\.init_args\.expert)?)"
)
"""Plugins, those within others included: a wrapper's argument `expert` or `combiner` holds what it wraps."""
_REPLACEABLE = re.compile(
    r"model(\.(experts(\.[^.]+)?|combiner|scheduler|vocoder|codec|colorizer))?(\.init_args)?|trainer(\.\w+)?"
    r"|data(\.(guidance_scale|negative_prompts|sweep))?"
)
"""Keys whose values are mappings, which a YAML file may hold."""
_OPEN = re.compile(r"trainer\.(logger|callbacks|strategy|profiler|plugins|accelerator)(\.\d+)?")


@dataclass
class Composed:
    """A config and where each of its keys came from.

    Attributes:
        values: nested mappings.
        sources: dotted key -> file, or `COMMAND_LINE`.
        trusted: modules whose classes files may name besides.
    """

    trusted: Sequence[str] = ()
    values: Config = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)

    def overlay(self, path: Path) -> None:
        """Put a file on top.

        Raises:
            UserError: it can't be read, is no YAML mapping, or names a class that files may not name.
        """
        self.add(self._read_whole(path), str(path))

    def replace_weights(self, path: Path, *more: Path, colorizer: Path | None = None) -> None:
        """Put a pack's overlay on top, with its parts instead of those that are there, never among them.

        The config keeps its experts' names and views, and a combiner of another class than the pack's. Where it has a
        colorizer, the pack's takes its place.

        Args:
            path: the overlay.
            *more: overlays of the pack over that one, such as its settings for the method.
            colorizer: the overlay that names the pack's colorizer; None if it has none.

        Raises:
            UserError: as `overlay`; or the pack has nothing for an expert, or no colorizer.
        """
        pack = self._read_whole(path)
        for overlay in more:
            pack = _merge(pack, self._read_whole(overlay))
        takes = methods.settings_of(self.method)
        pack["model"] = {key: value for key, value in pack["model"].items() if key in takes}
        model = self.values.setdefault("model", {})
        pack = _spelled_out(pack, "")
        colored = model.get("colorizer") is not None
        for part in ("codec", "colorizer", "vocoder"):
            model.pop(part, None)
        ours = _prune(model.pop("experts", None) or {}, "model.experts")
        self.add(stand_in(pack, ours, combiner=model.get("combiner")), str(path))
        if colored:
            self.replace_colorizer(colorizer)

    def replace_colorizer(self, path: Path | None) -> None:
        """Put a pack's colorizer in the place of the one that is there.

        Raises:
            UserError: as `overlay`; or the pack has none.
        """
        if path is None:
            raise UserError(
                "the weights can't be had, and the pack can't stand in for them: it has no colorizer. "
                "Leave model.colorizer out"
            )
        self.values.setdefault("model", {}).pop("colorizer", None)
        self.add(self._read_whole(path), str(path))

    def _read_whole(self, path: Path) -> Config:
        try:
            values = read_config(path) if path.suffix.lower() in KINDS else _resolve(_read(path), path, "")
        except RecursionError:
            raise UserError(f"{path}: it contains itself, by the names of files or by YAML anchors") from None
        for key in values:
            if key == "config" or key.endswith("+"):
                raise UserError(f"{path}: there is no key {key}: overlay files with --config on the command line")
        for key in ("model", "data", "trainer"):
            if not isinstance(values.get(key, {}), dict):
                raise UserError(
                    f"{path}: {key} is {values[key]!r:.80}; expected keys and values, or a YAML file of them"
                )
        for name in (values.get("model") or {}).get("experts") or {}:
            if not re.fullmatch(r"\w+", name):
                raise UserError(f"{path}: model.experts: {name!r} is no name; expected letters, digits and underscores")
        return values

    def place(self, key: str, value: str) -> bool:
        """Put a value of the command line on top, if it is one that needs our care: a YAML file, or null.

        Returns:
            Whether it was; anything else is jsonargparse's.

        Raises:
            UserError: as `overlay`.
        """
        content: Any
        if _REPLACEABLE.fullmatch(key) and value.endswith(_YAML):
            content, source = _resolve(value, Path("here"), key), value
        elif value == "null" and _ENTRIES.fullmatch(key):
            content, source = None, COMMAND_LINE
        else:
            return False
        if key.startswith("model.combiner.") and ".init_args." not in key:
            key = key.replace("model.combiner.", "model.combiner.init_args.", 1)
        for part in reversed(key.split(".")):
            content = {part: content}
        self.add(content, source)
        return True

    @property
    def method(self) -> str:
        """Whose arguments the keys under `model` are."""
        return str(self.values.get("method", methods.DEFAULT))

    def change_method(self, name: str) -> None:
        """Choose a method. What the one before was told, and this one doesn't know, goes with it.

        Raises:
            UserError: there is no such method.
        """
        takes = methods.settings_of(name)
        model = self.values.get("model") or {}
        self.values["model"] = {key: value for key, value in model.items() if key in takes}
        self.values["method"] = name

    def add(self, values: Config, source: str) -> None:
        """Put values on top.

        Args:
            values: nested mappings.
            source: where they come from, for messages.

        Raises:
            UserError: they name a class that configs may not name.
        """
        values = _spelled_out(values, "")
        if "method" in values:
            try:
                self.change_method(str(values["method"]))
            except UserError as error:
                raise UserError(f"{source}: {error}") from None
        for key, value in _walk(values):
            self.sources[key] = source
            _check_class(key, value, source, self.trusted)
        self.values = _merge(self.values, values)

    def choose(self, key: str, class_name: str | None) -> None:
        """Exchange a part for another class, as `--model.vocoder GriffinLim` does, or take it out with None.

        The arguments of the old class go with it.

        Raises:
            UserError: there is no such plugin.
        """
        *parents, last = key.split(".")
        node = self.values
        for parent in parents:
            node = node.setdefault(parent, {})
        self.sources[key] = COMMAND_LINE
        if class_name is None:
            node[last] = None
            return
        check_class_name(key, class_name, COMMAND_LINE)
        current = node.get(last)
        if not isinstance(current, Mapping) or current.get("class_path") != class_name:
            node[last] = {"class_path": class_name}

    def pruned(self) -> Config:
        """The config without the entries that a later file set to null."""
        return _prune(self.values, "")

    def source_of(self, message: str) -> str | None:
        """Where the longest key that a message mentions was set."""
        mentioned = [key for key in self.sources if re.search(rf"(?<![\w.]){re.escape(key)}(?![\w])", message)]
        return self.sources[max(mentioned, key=len)] if mentioned else None


def check_class_name(key: str, name: str, source: str) -> None:
    """Refuse the name of a class that no plugin of this key's interface has.

    Raises:
        UserError: it names those that there are, and the nearest.
    """
    place = re.sub(r"^experts\.[^.]+", "experts.*", key.removeprefix("model."))
    wrapped = re.sub(r"(\.init_args\.(expert|combiner))+$", "", place)  # which is of its wrapper's interface
    interface = PARTS.get(place) or PARTS.get(wrapped)
    if interface is None or "." in name:
        return
    known = registry.classes(interface)
    if name in known:
        return
    other = registry.classes().get(name)
    hint = f" {name} is a {registry.interface_of(other)}." if other is not None else nearest(name, known)
    failed = "".join(f"\n  a plugin failed to import: {which}: {why}" for which, why in registry.failures().items())
    raise UserError(
        f"{source}: {key} is {name!r}; registered for {interface}: {', '.join(by_nearness(name, known))}.{hint}{failed}"
    )


def _read(path: Path) -> Config:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
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


def _resolve(value: Any, path: Path, key: str) -> Any:
    """Put YAML files in the place of the values that name them; paths are relative to the file that has them."""
    if isinstance(value, dict):
        return {str(k): _resolve(v, path, f"{key}.{k}".lstrip(".")) for k, v in value.items()}
    if key == "model" and isinstance(value, list):
        return _overlaid([_resolve(item, path, key) for item in value], path, key)
    if not isinstance(value, str):
        return value
    beside = path.parent / value
    if key == "data.prompts":
        return str(beside) if beside.exists() else value
    if _REPLACEABLE.fullmatch(key) and value.endswith(_YAML):
        return _resolve(_value_of(key, beside, path), beside, key)
    return value


def _value_of(key: str, file: Path, named_by: Path) -> Any:
    """What a file in the place of a key's value holds: the value, or the key itself, as an overlay of it does."""
    content = _read(file)
    if key not in content:
        return content
    if others := [other for other in content if other != key]:
        raise UserError(
            f"{named_by}: {key} names {file}, which sets {', '.join(others)} too, beside {key}: "
            f"overlay it as a whole with --config {file}"
        )
    return content[key]


def _overlaid(layers: Sequence[Any], path: Path, key: str) -> Config:
    """Merge the items of a list, each over the one before, as `--config` files are merged."""
    merged: Config = {}
    for layer in layers:
        if not isinstance(layer, dict):
            raise UserError(f"{path}: {key} is a list with the item {layer!r:.80}; expected YAML files and mappings")
        merged = _merge(merged, _spelled_out(layer, key))
    return merged


def _merge(base: Any, top: Any) -> Any:
    if not isinstance(base, dict) or not isinstance(top, dict):
        return top
    if "class_path" in base and "class_path" in top and base["class_path"] != top["class_path"]:
        return top
    return {**base, **{key: _merge(base.get(key), value) for key, value in top.items()}}


def _prune(value: Any, key: str) -> Any:
    if not isinstance(value, dict):
        return value
    inner = {k: (v, f"{key}.{k}".lstrip(".")) for k, v in value.items()}
    return {k: _prune(v, full) for k, (v, full) in inner.items() if v is not None or not _ENTRIES.fullmatch(full)}


def _spelled_out(value: Any, key: str) -> Any:
    """Plugins named by their class alone -> `{class_path: ...}`, so that overlays find each other's arguments."""
    if isinstance(value, str) and _PLUGIN.fullmatch(key):
        value = {"class_path": value}
    if not isinstance(value, dict):
        return value
    spelled = {name: _spelled_out(inner, f"{key}.{name}".lstrip(".")) for name, inner in value.items()}
    if _PLUGIN.fullmatch(key) and isinstance(spelled.get("class_path"), str):
        spelled["class_path"] = registry.short_name(spelled["class_path"])
    return spelled


def _walk(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if key:
        yield key, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        yield from _walk(inner, f"{key}.{name}".lstrip("."))


def _check_class(key: str, value: Any, source: str, trusted: Sequence[str]) -> None:
    place = key.removesuffix(".class_path")
    names_class = place != key or _PLUGIN.fullmatch(key) or _OPEN.fullmatch(key)
    if not names_class or not isinstance(value, str):
        return
    check_class_name(place, value, source)
    module, dot, _ = value.rpartition(".")
    allowed = any(f"{module}.".startswith(f"{name}.") for name in (*TRUSTED_MODULES, *trusted))
    if dot and not allowed and value not in registry.nameable():
        raise UserError(
            f"{source}: {key} names {value}, which would import code that is no registered plugin. "
            f"If you trust it, say so on the command line: --trust {module}"
        )


def split_arguments(arguments: Sequence[str]) -> tuple[list[Path], list[str], list[str]]:
    """Command line -> (config files, plugin modules, everything else as `--key=value`), each in its order.

    Raises:
        UserError: an option without its value.
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


def class_choices(arguments: Sequence[str]) -> tuple[list[tuple[str, str | None]], list[str]]:
    """Take the arguments that choose a part's class, `--model.vocoder=X` or `--model.vocoder.class_path=X`.

    Returns:
        (key, class name, or None for null) of each, and the other arguments.
    """
    choices: list[tuple[str, str | None]] = []
    rest: list[str] = []
    for argument in arguments:
        option, _, value = argument.partition("=")
        key = option.removeprefix("--").removesuffix(".class_path")
        if _PLUGIN.fullmatch(key) and re.fullmatch(r"[A-Za-z_][\w.]*", value):
            choices.append((key, None if value == "null" else value))
        else:
            rest.append(argument)
    return choices, rest


def without_key(arguments: Sequence[str], key: str) -> list[str]:
    """The arguments that set neither a key nor anything below it."""
    return [a for a in arguments if not re.match(rf"--{re.escape(key)}[.=]", a)]
