"""Construct components with weights outside of a run, for `its doctor`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from its import registry
from its.instantiate import construct
from its.interfaces import NoiseExpert
from its.weights import PretrainedComponent


def components(configs: Sequence[Path]) -> dict[str, list[PretrainedComponent]]:
    """Construct the components with weights of configs, grouped by the name of their weights.

    Args:
        configs: YAML files, each over the one before. If empty, use all classes with their default weights.

    Raises:
        UserError: a config can't be read.
    """
    registry.load_plugins()
    groups: dict[str, list[PretrainedComponent]] = {}
    for component in _in_configs(configs) if configs else _defaults():
        groups.setdefault(component.weights, []).append(component)
        if isinstance(component, NoiseExpert) and isinstance(codec := component.codec(), PretrainedComponent):
            groups.setdefault(codec.weights, []).append(codec)
    return groups


def _defaults() -> Iterator[PretrainedComponent]:
    packages = {cls.__module__.partition(".")[0] for cls in registry.classes().values()}
    for cls in _classes().values():
        if cls.__module__.partition(".")[0] not in packages:
            continue
        default = inspect.signature(cls).parameters.get("weights")
        if default is not None and isinstance(default.default, str):
            yield cls(weights=default.default)


def _in_configs(configs: Sequence[Path]) -> Iterator[PretrainedComponent]:
    from its.config.compose import compose
    from its.evaluation.choosing import build_scorers

    keys = compose(configs).values
    if scorers := keys.pop("scorers", None):  # may be names without arguments
        yield from (scorer for scorer in build_scorers(scorers) if isinstance(scorer, PretrainedComponent))
    yield from _within(keys, _classes())


def _within(value: Any, classes: Mapping[str, type[PretrainedComponent]]) -> Iterator[PretrainedComponent]:
    """Construct all components with weights in a config value, at any depth."""
    if isinstance(value, list):
        for inner in value:
            yield from _within(inner, classes)
    if not isinstance(value, dict):
        return
    cls = classes.get(str(value.get("class_path")))
    if cls is None:
        for inner in value.values():
            yield from _within(inner, classes)
        return
    yield construct(cls, value.get("init_args") or {}, key="--config")


def _classes(base: type[PretrainedComponent] = PretrainedComponent) -> dict[str, type[PretrainedComponent]]:
    """All concrete subclasses, by name."""
    classes: dict[str, type[PretrainedComponent]] = {}
    for cls in base.__subclasses__():
        if not inspect.isabstract(cls):
            classes[cls.__name__] = cls
        classes |= _classes(cls)
    return classes
