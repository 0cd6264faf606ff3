"""How the contract suite of `its.testing` reports what is broken, and what all parts are held to."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from its.interfaces import Component

HOST_READS = ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select")
"""Operations that make the host wait for a device."""


class NoHostReads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Context in which operations that make the host wait for a device raise RuntimeError, as in a CUDA graph."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call everything else."""
        if func.name().partition(".")[0] in HOST_READS:
            raise RuntimeError(f"{func.name()} reads a value of a tensor on the host")
        return func(*args, **(kwargs or {}))


class Contract:
    """Raises AssertionErrors that name the plugin, its interface and the clause that is broken."""

    def __init__(self, plugin: object, interface: type) -> None:
        self.plugin = type(plugin).__name__
        self.interface = interface.__name__
        if not isinstance(plugin, interface):
            raise AssertionError(f"{self.plugin} is no {self.interface}")

    def __call__(self, kept: bool, clause: str, got: object = None) -> None:
        """Raise AssertionError unless the clause is kept."""
        if not kept:
            raise self.broken(clause, got)

    def json(self, what: str, value: object) -> None:
        """Raise AssertionError unless the value can be written as JSON."""
        try:
            json.dumps(value)
        except (TypeError, ValueError) as error:
            raise self.broken(f"{what} can be written as JSON, for sample.json", error) from error

    def broken(self, clause: str, got: object = None) -> AssertionError:
        """The error that says which clause is broken, and what was got."""
        if isinstance(got, torch.Size):
            got = tuple(got)
        detail = "" if got is None else f" (got: {got})"
        return AssertionError(f"{self.plugin} breaks the contract of {self.interface}: {clause}{detail}")


def check_part(part: Component, need: Contract) -> None:
    """Prepare and load a part, and check what all parts promise."""
    part.prepare()
    part.prepare()
    need.json("its constructor's arguments", part.describe())
    record = part.provenance()
    need(record is None or isinstance(record, dict), "provenance gives a dict, or None", record)
    need.json("provenance", record)
    part.load()
    before = dict(part.named_parameters()) | dict(part.named_buffers())
    part.load()
    after = dict(part.named_parameters()) | dict(part.named_buffers())
    same = before.keys() == after.keys() and all(before[name] is after[name] for name in before)
    need(same, "prepare and load can be called again: weights that were read are kept")


def generator(seed: int = 0) -> torch.Generator:
    """A generator of its own, so that checks leave the global one alone."""
    return torch.Generator("cpu").manual_seed(seed)


def noise_of(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal, the same each time, on the CPU."""
    return torch.randn(shape, generator=generator(seed), device="cpu")


def close(one: Tensor, other: Tensor) -> bool:
    """Equal but for the rounding of another batch size."""
    return one.shape == other.shape and torch.allclose(one.float(), other.float(), rtol=1e-3, atol=1e-4)


def within(values: Tensor, low: float, high: float) -> bool:
    """All finite and in [low, high]."""
    return bool(values.isfinite().all()) and low <= float(values.min()) and float(values.max()) <= high
