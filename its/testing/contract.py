"""Contract violations, and checks of all components."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from its.interfaces import Component

HOST_READS = ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select")
"""Operations that synchronise with the device."""


class NoHostReads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Context in which operations that synchronise with the device raise RuntimeError, as in a CUDA graph."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation unless it is one of `HOST_READS`."""
        if func.name().partition(".")[0] in HOST_READS:
            raise RuntimeError(f"{func.name()} reads a value of a tensor on the host")
        return func(*args, **(kwargs or {}))


class Contract:
    """Raises AssertionErrors with the plugin, its interface and the violated clause."""

    def __init__(self, plugin: object, interface: type) -> None:
        self.plugin = type(plugin).__name__
        self.interface = interface.__name__
        if not isinstance(plugin, interface):
            raise AssertionError(f"{self.plugin} is not a {self.interface}")

    def __call__(self, satisfied: bool, clause: str, value: object = None) -> None:
        """Raise AssertionError unless a clause is satisfied."""
        if not satisfied:
            raise self.violation(clause, value)

    def json(self, name: str, value: object) -> None:
        """Raise AssertionError unless a value is JSON-serialisable."""
        try:
            json.dumps(value)
        except (TypeError, ValueError) as error:
            raise self.violation(f"{name} must be JSON-serialisable, for sample.json", error) from error

    def violation(self, clause: str, value: object = None) -> AssertionError:
        """Return the error for a violated clause and the offending value."""
        if isinstance(value, torch.Size):
            value = tuple(value)
        detail = "" if value is None else f" (got: {value})"
        return AssertionError(f"{self.plugin} violates the contract of {self.interface}: {clause}{detail}")


def check_component(component: Component, need: Contract) -> None:
    """Prepare and load a component, and check the contract of all components."""
    component.prepare()
    component.prepare()
    need.json("the constructor's arguments", component.describe())
    record = component.provenance()
    need(record is None or isinstance(record, dict), "provenance returns a dict or None", record)
    need.json("provenance", record)
    component.load()
    before = dict(component.named_parameters()) | dict(component.named_buffers())
    component.load()
    after = dict(component.named_parameters()) | dict(component.named_buffers())
    same = before.keys() == after.keys() and all(before[name] is after[name] for name in before)
    need(same, "prepare and load are idempotent: the weights are loaded once")


def generator(seed: int = 0) -> torch.Generator:
    """Create a generator on the CPU."""
    return torch.Generator("cpu").manual_seed(seed)


def noise_of(*shape: int, seed: int = 0) -> Tensor:
    """Draw reproducible standard normal noise on the CPU."""
    return torch.randn(shape, generator=generator(seed), device="cpu")


def close(one: Tensor, other: Tensor) -> bool:
    """Whether tensors are equal up to rounding at another batch size."""
    return one.shape == other.shape and torch.allclose(one.float(), other.float(), rtol=1e-3, atol=1e-4)


def within(values: Tensor, low: float, high: float) -> bool:
    """Whether all values are finite and in [low, high]."""
    return bool(values.isfinite().all()) and low <= float(values.min()) and float(values.max()) <= high
