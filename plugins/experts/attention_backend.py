"""Which of torch's kernels computes attention. They differ by rounding, and in speed by device, shape and dtype."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from its.errors import UserError
from its.user_cache import remember

logger = logging.getLogger("its.attention")

Attention = Literal["default", "auto", "flash", "cudnn", "efficient", "math"]
"""`default` leaves the choice to torch; `auto` measures and takes the fastest."""

BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}
HEAD_DIM = 40
"""Stable Diffusion's, in its widest layers."""
WARM_UP, TIMED_RUNS = 3, 10
LEAD = 20_000_000
"""Clock cycles, about 10 ms, that the device waits while the host enqueues: launches would be timed otherwise."""

Shape = tuple[int, ...]
Call = tuple[Shape, Shape]
"""Shapes (b, heads, l, d) of queries and of keys."""


def usable(name: str, *, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a backend computes Stable Diffusion's attention on this device, in this dtype."""
    x = torch.zeros(1, 8, 64, HEAD_DIM, device=device, dtype=dtype)
    try:
        with sdpa_kernel(BACKENDS[name]):
            functional.scaled_dot_product_attention(x, x, x)
    except RuntimeError:  # no kernel of this kind for these inputs
        return False
    return True


def require(name: str, *, device: torch.device, dtype: torch.dtype) -> None:
    """Refuse a backend that is not available on a device.

    Raises:
        UserError: it names those that are.
    """
    if name in BACKENDS and not usable(name, device=device, dtype=dtype):
        others = [other for other in BACKENDS if usable(other, device=device, dtype=dtype)]
        kind = str(dtype).removeprefix("torch.")
        raise UserError(
            f"attention is {name!r}, which is not available on {device.type} in {kind}; "
            f"expected {' or '.join(['default', *others])}"
        )


def choose(run: Callable[[], object], *, device: torch.device, dtype: torch.dtype) -> str:
    """Name of the fastest backend for the attention calls of a function.

    The function runs once, uncompiled, to find its calls; then each backend is timed on these calls alone. The choice
    is remembered for the device, so that later runs compute the same bits.
    """
    calls = _Calls()
    with torch.compiler.set_stance("force_eager"), calls:
        run()
    found = sorted(calls.counts.items())

    def measure() -> str:
        milliseconds = fastest(found, device=device, dtype=dtype)
        listed = ", ".join(f"{name} {t:.2f} ms" for name, t in milliseconds.items())
        logger.info(f"attention: {next(iter(milliseconds))} ({listed} a forward pass)")
        return next(iter(milliseconds))

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    choice = remember("attention", [name, torch.__version__, str(dtype), found], measure)
    return choice if choice in BACKENDS and usable(choice, device=device, dtype=dtype) else measure()


def fastest(calls: Sequence[tuple[Call, int]], *, device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """Milliseconds that attention calls take with each usable backend, the fastest first.

    Args:
        calls: shapes and how often they occur.
        device: to measure on.
        dtype: of queries, keys and values.
    """
    names = [name for name in BACKENDS if usable(name, device=device, dtype=dtype)]
    fused = [name for name in names if name != "math"] or names  # math materialises all weights
    totals = {
        name: sum(count * _milliseconds(name, shapes, device=device, dtype=dtype) for shapes, count in calls)
        for name in fused
    }
    return dict(sorted(totals.items(), key=lambda pair: pair[1]))


def _milliseconds(name: str, shapes: Call, *, device: torch.device, dtype: torch.dtype) -> float:
    """Of one call; infinite where the backend has no kernel for these shapes."""
    query, key, value = (_heads(shape, device, dtype) for shape in (shapes[0], shapes[1], shapes[1]))
    clock = _DeviceClock() if device.type == "cuda" else _HostClock()
    try:
        with sdpa_kernel(BACKENDS[name]):
            for _ in range(WARM_UP):
                functional.scaled_dot_product_attention(query, key, value)
            clock.start()
            for _ in range(TIMED_RUNS):
                functional.scaled_dot_product_attention(query, key, value)
            return clock.stop() / TIMED_RUNS
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:
        return float("inf")


def _heads(shape: Shape, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Random (b, heads, l, d), in memory as (b, l, heads, d)."""
    batch, heads, length, width = shape
    return torch.randn(batch, length, heads, width, device=device, dtype=dtype).transpose(1, 2)


class _DeviceClock:
    """Times a CUDA device, in milliseconds."""

    def __init__(self) -> None:
        self._begin, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]

    def start(self) -> None:
        torch.cuda._sleep(LEAD)  # type: ignore[no-untyped-call]
        self._begin.record()

    def stop(self) -> float:
        self._end.record()
        self._end.synchronize()
        return self._begin.elapsed_time(self._end)


class _HostClock:
    """Times a device whose calls return when they are done, in milliseconds."""

    def start(self) -> None:
        self._begin = time.perf_counter()

    def stop(self) -> float:
        return 1000 * (time.perf_counter() - self._begin)


class _Calls(TorchFunctionMode):
    """Counts attention calls by their shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[Call] = Counter()

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        if func is functional.scaled_dot_product_attention:
            self.counts[tuple(args[0].shape), tuple(args[1].shape)] += 1
        return func(*args, **(kwargs or {}))
