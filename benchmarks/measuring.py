"""Timing on shared machines: variants are interleaved in rounds; figures have median and spread."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

Figure = dict[str, Any]
"""{"value": median, "low": smallest, "high": largest, "unit": ...}."""

PACKAGES = ("torch", "torchaudio", "lightning", "diffusers", "transformers", "triton")


def interleave(variants: Mapping[str, Callable[[], float | None]], *, rounds: int) -> dict[str, list[float]]:
    """Run every variant once per round, after a warm-up round, so that disturbances affect all of them.

    Args:
        variants: functions that return a measured value, or None to use their wall time.
        rounds: number of rounds. The order is reversed in every second one.

    Returns:
        For each variant, one value per round.
    """
    values: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(-1, rounds):
        for name in list(variants)[:: -1 if number % 2 else 1]:
            begin = time.perf_counter()
            value = variants[name]()
            seconds = time.perf_counter() - begin
            if number >= 0:
                values[name].append(seconds if value is None else value)
    return values


def figure(values: float | Sequence[float], unit: str, *, scale: float = 1.0) -> Figure:
    """Summarise measured values by median, smallest and largest, rounded to four digits."""
    values = [values] if isinstance(values, int | float) else values
    ends = {"value": statistics.median(values), "low": min(values), "high": max(values)}
    return {name: float(f"{value * scale:.4g}") for name, value in ends.items()} | {"unit": unit}


def ratios(over: Sequence[float], under: Sequence[float]) -> list[float]:
    """Divide round by round, since disturbances affect all runs of a round."""
    return [a / b for a, b in zip(over, under, strict=True)]


def machine(device: torch.device) -> dict[str, Any]:
    """Describe the machine: processor, extensions for matrix products in bf16, memory, GPU."""
    path = Path("/proc/cpuinfo")
    lines = [line.partition(":") for line in path.read_text().splitlines()] if path.is_file() else []
    info = {key.strip(): value.strip() for key, _, value in lines}
    flags = info.get("flags", "").split()
    extensions = [name for name in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if name in flags]
    description: dict[str, Any] = {
        "cpu": info.get("model name") or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "matrix": ", ".join(extensions) + ("" if "amx_bf16" in flags else " (no AMX)"),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        memory = round(properties.total_memory / 2**30)
        description |= {"gpu": properties.name, "gpu_memory_gib": memory, "cuda": torch.version.cuda}
    return description


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that figures depend on."""
    installed = {"python": platform.python_version()}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            installed[package] = version(package)
    return installed
