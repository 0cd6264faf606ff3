"""Apply sweep settings to a method's components, and decide which samples can share a batch.

Settings have the names of config keys: `steps`, `scheduler`, `scheduler.spacing`, `combiner.t.visual`...
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
from its.specs.material import NUMBERS

OWN_KEYS = ("steps", "scheduler", "combiner", "guidance_rescale")
"""Keys that a sweep of the main method can change, besides `guidance_scale` and `negative_prompts`."""


def apply_settings(values: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a method's components and numbers with some settings changed.

    Args:
        values: plugins, numbers, and mappings of numbers, by key.
        settings: new values by key, for example `steps`, `scheduler.spacing`, `steps.visual`.

    Raises:
        UserError: a setting does not exist, or its value is invalid.
    """
    result = dict(values)
    for key, value in sorted(settings.items()):  # `scheduler` before `scheduler.spacing`
        name, _, path = key.replace("init_args.", "").partition(".")
        old: Any = result.get(name)
        if name not in result or (path and not isinstance(old, Plugin | Mapping)):
            known = ["guidance_scale", "negative_prompts", *NUMBERS, *result]
            raise UserError(f"data.sweep: the method has no setting {key} to sweep over.{nearest(key, known)}")
        if isinstance(old, Plugin) and path:
            result[name] = _rebuild(old, path, value, key)
        elif isinstance(old, Plugin):
            result[name] = instantiate(value, INTERFACES[name.capitalize()], key=f"data.sweep: {name}")
        elif isinstance(old, Mapping) and path:
            if path not in old:
                raise UserError(f"data.sweep: {key}: expected one of {', '.join(old)}.{nearest(path, old)}")
            result[name] = {**old, path: _number(value, key, like=old[path])}
        else:
            result[name] = _number(value, key, like=next(iter(old.values())) if isinstance(old, Mapping) else old)
    return result


@dataclass(frozen=True, kw_only=True)
class Process:
    """A reverse process: combiner, scheduler, number of steps, and rescaling of guided estimates."""

    combiner: Combiner
    scheduler: Scheduler
    steps: int
    guidance_rescale: float = 0.0

    def with_settings(self, settings: Mapping[str, Any]) -> Process:
        """Return a copy with some settings changed.

        Raises:
            UserError: a setting does not exist, or its value is invalid.
        """
        return Process(**apply_settings({name: getattr(self, name) for name in OWN_KEYS}, settings))

    def check(self) -> None:
        """Check that numbers are in range, and that the scheduler supports the number of steps.

        Raises:
            UserError: a check fails.
        """
        if self.steps < 1:
            raise UserError(f"model.steps is {self.steps}; expected 1 or more")
        if not 0 <= self.guidance_rescale <= 1:
            raise UserError(f"model.guidance_rescale is {self.guidance_rescale}; expected 0 (none) to 1")
        check_plan(self.scheduler, self.steps)

    def participants(self) -> set[str]:
        """Return the names of experts with a non-zero weight in at least one step."""
        tables = [self.combiner.weights(index / self.steps) for index in range(self.steps)]
        return {name for table in tables for name, weight in table.items() if weight != 0}

    @property
    def batch_key(self) -> str:
        """Key that is equal for processes whose samples can share a batch: they differ in combiners only."""
        key = {"scheduler": self.scheduler.describe(), "steps": self.steps, "rescale": self.guidance_rescale}
        return json.dumps(key, sort_keys=True, default=str)


def merge_processes(processes: Sequence[Process]) -> Process:
    """Merge processes with equal `batch_key`s, one for each sample, into one that uses each sample's combiner."""
    first = processes[0]
    if all(process.combiner is first.combiner for process in processes):
        return first
    return replace(first, combiner=PerSample([process.combiner for process in processes]))


def check_plan(scheduler: Scheduler, steps: int) -> None:
    """Check that a scheduler supports a number of steps.

    Raises:
        UserError: it does not.
    """
    try:
        scheduler.plan(steps)
    except ValueError as error:
        raise UserError(f"steps: {type(scheduler).__name__}: {error}") from None


def _number(value: Any, key: str, *, like: float) -> Any:
    """Convert a value to the type of `like`; an integer must be at least 1."""
    is_count = isinstance(like, int)
    if not isinstance(value, int if is_count else int | float) or isinstance(value, bool) or (is_count and value < 1):
        expected = "an integer of at least 1" if is_count else "a number"
        raise UserError(f"data.sweep: {key} is {value!r}; expected {expected}")
    return type(like)(value)


def _rebuild(plugin: Any, path: str, value: Any, key: str) -> Any:
    """Construct a copy of a plugin with one argument, at a dotted path, changed."""
    arguments = copy.deepcopy(dict(plugin.arguments))
    first, _, rest = path.partition(".")
    if rest and isinstance(arguments.get(first), Plugin):
        arguments[first] = _rebuild(arguments[first], rest, value, key)
        return construct(type(plugin), arguments, key=f"data.sweep: {key}")
    *parents, last = path.split(".")
    node = arguments
    for parent in parents:
        if not isinstance(node.get(parent), dict):
            raise UserError(f"data.sweep: {key}: {type(plugin).__name__} has no mapping {parent}")
        node = node[parent]
    known = list(inspect.signature(type(plugin)).parameters) if not parents else list(node)
    if last not in known:
        raise UserError(f"data.sweep: {key}: {type(plugin).__name__} has no {last}.{nearest(last, known)}")
    node[last] = value
    return construct(type(plugin), arguments, key=f"data.sweep: {key}")
