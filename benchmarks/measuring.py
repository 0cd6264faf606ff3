"""Timing on machines that others use too: variants take turns, round by round; what is told is median and spread."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

Figure = dict[str, Any]
"""{"value": median, "low": smallest, "high": largest, "unit": ...}, as the results keep it."""

PACKAGES = ("torch", "torchaudio", "lightning", "diffusers", "transformers", "triton")


def interleaved(
    variants: Mapping[str, Callable[[], float | None]], *, rounds: int, warm_up: bool = True
) -> dict[str, list[float]]:
    """Run every variant once a round, so that what disturbs the machine disturbs them all.

    Args:
        variants: each runs once and says how long it took, or what else it measured; None for its wall time.
        rounds: that count. Every second one goes backwards, so that nobody always follows the same neighbour.
        warm_up: whether a round goes before that doesn't count.

    Returns:
        For each variant, one value a round.
    """
    values: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(-1 if warm_up else 0, rounds):
        for name in list(variants)[:: -1 if number % 2 else 1]:
            begin = time.perf_counter()
            told = variants[name]()
            seconds = time.perf_counter() - begin
            if number >= 0:
                values[name].append(seconds if told is None else told)
    return values


def figure(values: float | Sequence[float], unit: str, *, scale: float = 1.0) -> Figure:
    """Median, smallest and largest of what was measured, in four digits."""
    values = [values] if isinstance(values, int | float) else values
    ends = {"value": statistics.median(values), "low": min(values), "high": max(values)}
    return {name: float(f"{value * scale:.4g}") for name, value in ends.items()} | {"unit": unit}


def ratios(over: Sequence[float], under: Sequence[float]) -> list[float]:
    """Round by round: the two of a round met the same disturbance."""
    return [a / b for a, b in zip(over, under, strict=True)]


def machine(device: torch.device) -> dict[str, Any]:
    """What the figures were measured on."""
    found: dict[str, Any] = {"cpu": _cpu_name(), "cores": len(os.sched_getaffinity(0)), "matrix": _matrix_extensions()}
    found["memory_gib"] = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found["gpu"] = properties.name
        found["gpu_memory_gib"] = round(properties.total_memory / 2**30)
        found["cuda"] = torch.version.cuda
    return found


def versions() -> dict[str, str]:
    """Of Python and of what a figure depends on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _cpu_name() -> str:
    for line in _cpu_info():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _matrix_extensions() -> str:
    """What the processor has for products of matrices in bf16, which decides what its GEMM rate is."""
    flags = next((line.split() for line in _cpu_info() if line.startswith("flags")), [])
    known = ("amx_bf16", "avx512_bf16", "avx512f", "avx2")
    return ", ".join(name for name in known if name in flags) + ("" if "amx_bf16" in flags else " (no AMX)")


def _cpu_info() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.is_file() else []
