"""What clocks don't tell: arithmetic, memory, waits of the host, launches, recompilations; and the ceilings."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence

import torch
from ours import samples
from variants import Variant, wait

from its.methods.denoising import MultimodalDenoising


def gemm_rate(device: torch.device, dtype: torch.dtype, size: int, *, repeats: int = 10) -> float:
    """FLOP/s of a square product of random matrices."""
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    return 2 * size**3 / _seconds(lambda: a @ b, device, repeats)


def copy_rate(device: torch.device, size: int, *, repeats: int = 10) -> float:
    """Bytes/s read and written by a copy within the device's memory."""
    source = torch.randint(0, 255, (size,), device=device, dtype=torch.uint8)
    target = torch.empty_like(source)
    return 2 * size / _seconds(lambda: target.copy_(source), device, repeats)


def _seconds(call: Callable[[], object], device: torch.device, repeats: int) -> float:
    for _ in range(2):
        call()
    wait(device)
    begin = time.perf_counter()
    for _ in range(repeats):
        call()
    wait(device)
    return (time.perf_counter() - begin) / repeats


def flop_of_a_sample(method: MultimodalDenoising, steps: Sequence[int]) -> dict[int, float]:
    """Numbers of steps -> FLOP of products and convolutions in one sample of so many, counted in two short runs.

    Args:
        method: any, not compiled: the counter sees what torch dispatches.
        steps: of the samples that are asked for.
    """
    few, more = (_counted(method, n) for n in (5, 10))
    a_pass = (more - few) / (_passes(method, 10) - _passes(method, 5))
    return {n: few + a_pass * (_passes(method, n) - _passes(method, 5)) for n in steps}


def _counted(method: MultimodalDenoising, steps: int) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    method.forget_texts()  # texts are part of a sample's work
    with FlopCounterMode(display=False) as counter:
        samples(method, [1], steps=steps)
    return counter.get_total_flops()


def _passes(method: MultimodalDenoising, steps: int) -> int:
    tables = (method.process.combiner.weights(index / steps) for index in range(steps))
    return sum(weight != 0 for table in tables for weight in table.values())


def peak_memory(variant: Variant, device: torch.device) -> int | None:
    """Run once -> bytes of its weights and of all that it takes on top of them. None without a GPU, but run it does."""
    if device.type != "cuda":
        variant.make(variant.steps, None)
        return None
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    variant.make(variant.steps, None)
    return variant.weights + torch.cuda.max_memory_allocated(device) - before


def host_waits(variant: Variant, device: torch.device) -> int | None:
    """How often the host waits for the device between the first and the last step of the loop. None without a GPU."""
    if device.type != "cuda":
        return None

    def switch(index: int) -> None:
        if index in (0, variant.steps - 1):
            torch.cuda.set_sync_debug_mode("warn" if index == 0 else "default")

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        variant.make(variant.steps, switch)
    return sum("synchronizing CUDA operation" in str(warning.message) for warning in told)


def launches_a_step(variant: Variant, device: torch.device) -> float | None:
    """Kernels and graphs that the host launches in a step, from two profiled runs. None without a GPU."""
    if device.type != "cuda":
        return None
    few, more = (_launches(variant, steps) for steps in (10, 20))
    return (more - few) / 10


def _launches(variant: Variant, steps: int) -> int:
    variant.make(steps, None)  # graphs are captured here
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        variant.make(steps, None)
    launches = ("cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch")
    return sum(event.count for event in profile.key_averages() if event.key.startswith(launches))


def compilations() -> int:
    """How many graphs Dynamo has handed to its compiler in this process."""
    from torch._dynamo.utils import counters

    return counters["stats"]["unique_graphs"]
