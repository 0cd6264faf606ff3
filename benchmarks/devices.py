"""The measured device. What only a GPU can tell is None on a CPU."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch


class Device:
    """A CPU; `Gpu` overrides what a GPU adds.

    Attributes:
        torch: for tensors and modules.
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
        """Bytes in use."""
        return None

    def reset_peak(self) -> None:
        """Begin to measure the peak of `allocated`."""

    def peak(self) -> int | None:
        """Largest `allocated` since `reset_peak`. The stages of our method reset it too."""
        return None

    def warn_of_waits(self, on: bool) -> None:
        """From now on, warn (or don't) whenever the host waits for the device."""

    def launches(self, run: Callable[[], object]) -> int | None:
        """Number of kernels and graphs that the host launches in a function."""
        run()
        return None

    @contextmanager
    def waits(self) -> Iterator[Callable[[], int | None]]:
        """Within it, count the waits reported while `warn_of_waits` is on; yields a function that returns the count."""
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
    """The GPU of this machine, or else its CPU."""
    return Gpu() if torch.cuda.is_available() else Device()
