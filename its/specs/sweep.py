"""Sweeps: change settings of components, and decide which samples can share a batch.

A setting is named as in the config: `steps`, `scheduler`, `scheduler.spacing`, `combiner.t.visual`...
"""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from its.diffusion.sampling import PerSample
from its.errors import UserError, nearest
from its.instantiate import construct, instantiate
from its.interfaces import INTERFACES, Combiner, Plugin, Scheduler

OWN_KEYS = ("steps", "scheduler", "combiner")
"""Keys that a sweep of the main method can change, besides `guidance_scale` and `negative_prompts`."""


def changed(parts: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The components and numbers of a method with some settings changed.

    Args:
        parts: by key: plugins, numbers, and numbers by name.
        settings: by key, such as `steps`, `scheduler.spacing`, `steps.visual`.

    Raises:
        UserError: there is no such setting, or it can't have this value.
    """
    parts = dict(parts)
    for key, value in sorted(settings.items()):  # `scheduler` before `scheduler.spacing`
        name, _, path = key.replace("init_args.", "").partition(".")
        part: Any = parts.get(name)
        if name not in parts or (path and not isinstance(part, Plugin | Mapping)):
            known = ["guidance_scale", "negative_prompts", *parts]
            raise UserError(f"data.sweep: there is no setting {key} to sweep over.{nearest(key, known)}")
        if isinstance(part, Plugin):
            parts[name] = (
                _rebuilt(part, path, value, key)
                if path
                else instantiate(value, INTERFACES[name.capitalize()], key=f"data.sweep: {name}")
            )
        elif isinstance(part, Mapping) and path:
            parts[name] = {**part, path: _number(value, key, like=_entry(part, path, key))}
        else:
            parts[name] = _number(value, key, like=next(iter(part.values())) if isinstance(part, Mapping) else part)
    return parts


@dataclass(frozen=True, kw_only=True)
class Process:
    """A reverse process: combiner, scheduler and number of steps."""

    combiner: Combiner
    scheduler: Scheduler
    steps: int

    def changed(self, settings: Mapping[str, Any]) -> Process:
        """The process with some settings changed.

        Raises:
            UserError: there is no such setting, or it can't have this value.
        """
        return Process(**changed({name: getattr(self, name) for name in OWN_KEYS}, settings))

    def check(self) -> None:
        """Check that the scheduler has a plan of so many steps.

        Raises:
            UserError: it has none.
        """
        if self.steps < 1:
            raise UserError(f"model.steps is {self.steps}; expected 1 or more")
        check_plan(self.scheduler, self.steps)

    def participants(self) -> set[str]:
        """Experts that run in at least one step."""
        tables = [self.combiner.weights(index / self.steps) for index in range(self.steps)]
        return {name for table in tables for name, weight in table.items() if weight != 0}

    @property
    def batch_key(self) -> str:
        """Equal for processes whose samples can share a batch: combiners may differ, timesteps may not."""
        described = {"scheduler": self.scheduler.describe(), "steps": self.steps}
        return json.dumps(described, sort_keys=True, default=str)


def process_of_batch(processes: Sequence[Process]) -> Process:
    """One process for a batch, in which each sample keeps its own combiner.

    Args:
        processes: of the samples, with equal `batch_key`s.
    """
    first = processes[0]
    if all(process.combiner is first.combiner for process in processes):
        return first
    return replace(first, combiner=PerSample([process.combiner for process in processes]))


def check_plan(scheduler: Scheduler, steps: int) -> None:
    """Check that a scheduler has a plan of so many steps.

    Raises:
        UserError: it has none.
    """
    try:
        scheduler.plan(steps)
    except ValueError as error:
        raise UserError(f"steps: {type(scheduler).__name__}: {error}") from None


def _entry(mapping: Mapping[str, Any], name: str, key: str) -> Any:
    if name not in mapping:
        raise UserError(f"data.sweep: {key}: expected one of {', '.join(mapping)}.{nearest(name, mapping)}")
    return mapping[name]


def _number(value: Any, key: str, *, like: float) -> Any:
    """A count of 1 or more in the place of one; a number in the place of any other."""
    kind, meant = (int, "a number of 1 or more") if isinstance(like, int) else ((int, float), "a number")
    if not isinstance(value, kind) or isinstance(value, bool) or (kind is int and value < 1):
        raise UserError(f"data.sweep: {key} is {value!r}; expected {meant}")
    return type(like)(value)


def _rebuilt(part: Any, path: str, value: Any, key: str) -> Any:
    arguments = copy.deepcopy(dict(part.arguments))
    first, _, within = path.partition(".")
    if within and isinstance(arguments.get(first), Plugin):
        arguments[first] = _rebuilt(arguments[first], within, value, key)
        return construct(type(part), arguments, key=f"data.sweep: {key}")
    *parents, last = path.split(".")
    node = arguments
    for parent in parents:
        if not isinstance(node.get(parent), dict):
            raise UserError(f"data.sweep: {key}: {type(part).__name__} has no mapping {parent}")
        node = node[parent]
    known = list(inspect.signature(type(part)).parameters) if not parents else list(node)
    if last not in known:
        raise UserError(f"data.sweep: {key}: {type(part).__name__} has no {last}.{nearest(last, known)}")
    node[last] = value
    return construct(type(part), arguments, key=f"data.sweep: {key}")
