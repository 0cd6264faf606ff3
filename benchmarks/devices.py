"""The measured device. Measurements that need a GPU are None on a CPU."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch


class Device:
    """A CPU or a CUDA device."""

    def __init__(self, name: str = "cpu") -> None:
        self.torch = torch.device(name)

    @property
    def has_graphs(self) -> bool:
        """Whether CUDA graphs and streams are available."""
        return self.torch.type == "cuda"

    def synchronize(self) -> None:
        if self.torch.type == "cuda":
            torch.cuda.synchronize(self.torch)

    def free(self) -> None:
        """Return unused memory."""
        gc.collect()
        torch.cuda.empty_cache()  # no effect without CUDA

    def allocated(self) -> int | None:
        return torch.cuda.memory_allocated(self.torch) if self.torch.type == "cuda" else None

    def reset_peak(self) -> None:
        if self.torch.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.torch)

    def peak(self) -> int | None:
        """Return the largest `allocated` since `reset_peak`. Stages of methods also reset the peak."""
        return torch.cuda.max_memory_allocated(self.torch) if self.torch.type == "cuda" else None

    def warn_of_waits(self, on: bool) -> None:
        """Turn warnings about waits of the host for the device on or off."""
        if self.torch.type == "cuda":
            torch.cuda.set_sync_debug_mode("warn" if on else "default")

    @contextmanager
    def waits(self) -> Iterator[Callable[[], int]]:
        """Count the waits of the block while `warn_of_waits` is on; yields a function that returns the count."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield lambda: sum("synchronizing CUDA operation" in str(warning.message) for warning in caught)

    def launches(self, run: Callable[[], object]) -> int:
        """Run a function and count the kernels and graphs that it launches on a GPU."""
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            run()
        names = ("cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch")
        return sum(event.count for event in profile.key_averages() if event.key.startswith(names))


def find_device() -> Device:
    """Return the GPU of this machine, or else the CPU."""
    return Device("cuda" if torch.cuda.is_available() else "cpu")
