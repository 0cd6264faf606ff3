"""One run over a grid of settings: what a point of the grid changes in the parts, and what may share a batch.

A setting is named as in the config: `steps`, `scheduler`, `scheduler.spacing`, `combiner.t.visual`...
"""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from its.diffusion.sampling import participates
from its.errors import UserError, nearest
from its.instantiate import construct, instantiate
from its.interfaces import INTERFACES, Combiner, Plugin, Scheduler, Step

OWN_KEYS = ("steps", "scheduler", "combiner")
"""What a sweep of the main method can change besides a row's `guidance_scale` and `negative_prompts`."""


def changed(parts: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a method does, with some settings changed.

    Args:
        parts: by key: plugins, numbers, and numbers by name.
        settings: by key, such as `steps`, `scheduler.spacing`, `steps.visual`.

    Raises:
        UserError: a key or a value that makes no sense.
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
    """A reverse process: what experts' estimates go through."""

    combiner: Combiner
    scheduler: Scheduler
    steps: int

    def changed(self, settings: Mapping[str, Any]) -> Process:
        """The process with some settings changed.

        Raises:
            UserError: a key or a value that makes no sense.
        """
        return Process(**changed({name: getattr(self, name) for name in OWN_KEYS}, settings))

    def check(self) -> None:
        """Try the scheduler's timesteps.

        Raises:
            UserError: it has no process of so many steps.
        """
        if self.steps < 1:
            raise UserError(f"model.steps is {self.steps}; expected 1 or more")
        try:
            self.scheduler.timesteps(self.steps)
        except ValueError as error:
            raise UserError(f"steps: {type(self.scheduler).__name__}: {error}") from None

    def participants(self) -> set[str]:
        """Experts whose weight is not 0 all along."""
        tables = [self.combiner.weights(index / self.steps) for index in range(self.steps)]
        return {name for table in tables for name, weight in table.items() if participates(weight)}

    @property
    def shares_batches(self) -> bool:
        """Whether processes that differ in their combiner's settings alone can go through one loop."""
        return type(self.combiner).combine is Combiner.combine


def batch_key(process: Process) -> str:
    """Equal for processes whose samples can share a batch."""
    described = {"scheduler": process.scheduler.describe(), "steps": process.steps}
    described["combiner"] = type(process.combiner).__name__ if process.shares_batches else process.combiner.describe()
    return json.dumps(described, sort_keys=True, default=str)


def joined(processes: Sequence[Process]) -> Process:
    """One process for a batch, whose weights are each sample's own.

    Args:
        processes: of the samples, with equal `batch_key`s.
    """
    first = processes[0]
    if all(process is first for process in processes):
        return first
    each = PerSample([process.combiner for process in processes])
    return Process(combiner=each, scheduler=first.scheduler, steps=first.steps)


class PerSample(Combiner):
    """Weighted sums of one kind with other settings for each sample of a batch."""

    def __init__(self, combiners: Sequence[Combiner]) -> None:
        self.combiners = combiners

    def weights(self, progress: float) -> Mapping[str, float | Tensor]:
        """A number where all samples agree, else (b,)."""
        tables = [combiner.weights(progress) for combiner in self.combiners]
        columns = {name: [float(table[name]) for table in tables] for name in tables[0]}
        return {
            name: column[0] if len(set(column)) == 1 else torch.tensor(column, dtype=torch.float32, device="cpu")
            for name, column in columns.items()
        }

    def combine(self, estimates: Mapping[str, Tensor], latents: Tensor, step: Step) -> Tensor:
        """The weighted sum."""
        return super().combine(estimates, latents, step)


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
