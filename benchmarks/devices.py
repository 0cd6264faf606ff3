"""The measured device. Measurements that need a GPU are None on a CPU."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch


class Device:
    """A CPU, and the base class of `Gpu`.

    Attributes:
        torch: the `torch.device`.
        has_graphs: whether CUDA graphs and streams are available.
    """

    has_graphs = False

    def __init__(self) -> None:
        self.torch = torch.device("cpu")

    def synchronize(self) -> None:
        """Wait until the device has finished its work."""

    def free(self) -> None:
        """Return unused memory."""
        gc.collect()

    def allocated(self) -> int | None:
        """Return the number of bytes in use."""
        return None

    def reset_peak(self) -> None:
        """Start measuring the peak of `allocated`."""

    def peak(self) -> int | None:
        """Return the largest `allocated` since `reset_peak`, which stages of our method also call."""
        return None

    def warn_of_waits(self, on: bool) -> None:
        """Turn warnings about waits of the host for the device on or off."""

    def launches(self, run: Callable[[], object]) -> int | None:
        """Run a function and count the kernels and graphs that it launches."""
        run()
        return None

    @contextmanager
    def waits(self) -> Iterator[Callable[[], int | None]]:
        """Count the waits of the block while `warn_of_waits` is on; yields a function that returns the count."""
        yield lambda: None


class Gpu(Device):
    """A CUDA device."""

    has_graphs = True

    def __init__(self) -> None:
        self.torch = torch.device("cuda")

    def synchronize(self) -> None:
        torch.cuda.synchronize(self.torch)

    def free(self) -> None:
        gc.collect()
        torch.cuda.empty_cache()

    def allocated(self) -> int | None:
        return torch.cuda.memory_allocated(self.torch)

    def reset_peak(self) -> None:
        torch.cuda.reset_peak_memory_stats(self.torch)

    def peak(self) -> int | None:
        return torch.cuda.max_memory_allocated(self.torch)

    def warn_of_waits(self, on: bool) -> None:
        torch.cuda.set_sync_debug_mode("warn" if on else "default")

    def launches(self, run: Callable[[], object]) -> int | None:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            run()
        names = ("cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch")
        return sum(event.count for event in profile.key_averages() if event.key.startswith(names))

    @contextmanager
    def waits(self) -> Iterator[Callable[[], int | None]]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield lambda: sum("synchronizing CUDA operation" in str(warning.message) for warning in caught)


def here() -> Device:
    """Return the GPU of this machine, or its CPU if it has none."""
    return Gpu() if torch.cuda.is_available() else Device()
