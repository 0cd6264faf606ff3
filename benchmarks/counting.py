"""Count FLOP, launches, waits of the host and compiled graphs; measure rates of matrix products and copies."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from devices import Device
from ours import samples
from variants import Variant

from its.methods.denoising import MultimodalDenoising


def gemm_rate(device: Device, dtype: torch.dtype, size: int, *, repeats: int = 10) -> float:
    """Measure the FLOP/s of a product of two square matrices of random numbers."""
    a, b = (torch.randn(size, size, device=device.torch, dtype=dtype) for _ in range(2))
    return 2 * size**3 / _seconds(lambda: a @ b, device, repeats)


def copy_rate(device: Device, size: int, *, repeats: int = 10) -> float:
    """Measure the bytes/s read and written by a copy within the device's memory."""
    source = torch.randint(0, 255, (size,), device=device.torch, dtype=torch.uint8)
    target = torch.empty_like(source)
    return 2 * size / _seconds(lambda: target.copy_(source), device, repeats)


def _seconds(call: Callable[[], object], device: Device, repeats: int) -> float:
    for _ in range(2):
        call()
    device.synchronize()
    begin = time.perf_counter()
    for _ in range(repeats):
        call()
    device.synchronize()
    return (time.perf_counter() - begin) / repeats


def flop_of_a_sample(method: MultimodalDenoising, steps: Sequence[int]) -> dict[int, float]:
    """Count the FLOP of the products and convolutions of a sample, by its number of steps, in two short runs.

    The method must not use compilation or CUDA graphs, since the counter needs torch's dispatches.
    """
    few, more = (_count_flop(method, n) for n in (5, 10))
    each = (more - few) / (_count_passes(method, 10) - _count_passes(method, 5))
    return {n: few + each * (_count_passes(method, n) - _count_passes(method, 5)) for n in steps}


def _count_flop(method: MultimodalDenoising, steps: int) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    method.clear_text_caches()  # encoding the texts is part of a sample's work
    with FlopCounterMode(display=False) as counter:
        samples(method, [1], {"steps": steps})
    return counter.get_total_flops()


def _count_passes(method: MultimodalDenoising, steps: int) -> int:
    tables = (method.process.combiner.weights(index / steps) for index in range(steps))
    return sum(weight != 0 for table in tables for weight in table.values())


def host_waits(variant: Variant, device: Device, steps: int = 20) -> int:
    """Count the waits of the host for the device between the first and the last step of the loop."""

    def switch(index: int) -> None:
        if index in (0, steps - 1):
            device.warn_of_waits(index == 0)

    with device.waits() as waits:
        variant.make(steps, switch)
        return waits()


def launches_a_step(variant: Variant, device: Device) -> float:
    """Count the kernels and graphs launched per step, from runs of 10 and 20 steps."""
    few, more = (device.launches(lambda n=n: variant.make(n, None)) for n in (10, 20))
    return (more - few) / 10


def compilations() -> int:
    """Return the number of graphs that Dynamo has compiled in this process."""
    from torch._dynamo.utils import counters

    return counters["stats"]["unique_graphs"]


def from_cache() -> tuple[int, int]:
    """Return the numbers of graphs that Inductor has compiled in this process, and found in its cache on disk."""
    from torch._dynamo.utils import counters

    counts = counters["inductor"]
    return counts["fxgraph_cache_miss"] + counts["fxgraph_cache_bypass"], counts["fxgraph_cache_hit"]
