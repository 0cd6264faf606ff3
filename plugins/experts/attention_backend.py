"""Select the attention kernel. Kernels differ by rounding; their speed depends on device, shape and dtype."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from its.errors import UserError
from its.user_cache import remember

logger = logging.getLogger("its.attention")

Attention = Literal["default", "auto", "flash", "cudnn", "efficient", "math"]
"""`default` leaves the choice to torch; `auto` measures the available backends and uses the fastest."""

BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}
HEAD_DIM = 40
"""Channels per head in Stable Diffusion's largest feature maps."""
WARM_UP_RUNS, TIMED_RUNS = 3, 10
LEAD_CYCLES = 20_000_000
"""Clock cycles (about 10 ms) that the device sleeps while the host enqueues calls, so that launches are not timed."""

Shape = tuple[int, ...]
Call = tuple[Shape, Shape]
"""Shapes (b, heads, l, d) of queries and of keys."""


def is_available(name: str, *, device: torch.device, dtype: torch.dtype) -> bool:
    """Return whether a backend can compute Stable Diffusion's attention on a device, in a dtype."""
    x = torch.zeros(1, 8, 64, HEAD_DIM, device=device, dtype=dtype)
    try:
        with sdpa_kernel(BACKENDS[name]):
            functional.scaled_dot_product_attention(x, x, x)
    except RuntimeError:  # the backend has no kernel for these inputs
        return False
    return True


def check_available(name: str, *, device: torch.device, dtype: torch.dtype) -> None:
    """Check that a backend is available on a device.

    Raises:
        UserError: the backend is not available; the message lists those that are.
    """
    if name in BACKENDS and not is_available(name, device=device, dtype=dtype):
        others = [other for other in BACKENDS if is_available(other, device=device, dtype=dtype)]
        raise UserError(
            f"attention is {name!r}, which is not available on {device.type} in {str(dtype).removeprefix('torch.')}; "
            f"expected {' or '.join(['default', *others])}"
        )


def choose_backend(run: Callable[[], object], *, device: torch.device, dtype: torch.dtype) -> str:
    """Return the name of the fastest backend for the attention calls of a function.

    The function runs once, uncompiled, to record its calls. Then each backend is timed on these calls alone. The result
    is cached per device, so that later runs use the same backend.
    """
    recorder = _CallRecorder()
    with torch.compiler.set_stance("force_eager"), recorder:
        run()
    calls = sorted(recorder.counts.items())

    def measure() -> str:
        milliseconds = time_backends(calls, device=device, dtype=dtype)
        fastest = next(iter(milliseconds))
        listed = ", ".join(f"{name} {t:.2f} ms" for name, t in milliseconds.items())
        logger.info(f"attention: using {fastest} (per forward pass: {listed})")
        return fastest

    device_name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    choice = remember("attention", [device_name, torch.__version__, str(dtype), calls], measure)
    return choice if choice in BACKENDS and is_available(choice, device=device, dtype=dtype) else measure()


def time_backends(calls: Sequence[tuple[Call, int]], *, device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """Measure the time of attention calls with each available backend, in milliseconds, the fastest first.

    Args:
        calls: shapes and number of each call.
        device: device of the measurement.
        dtype: dtype of queries, keys and values.
    """
    names = [name for name in BACKENDS if is_available(name, device=device, dtype=dtype)]
    fused = [name for name in names if name != "math"] or names  # math stores the full attention matrix
    totals = {
        name: sum(count * _time_call(name, shapes, device=device, dtype=dtype) for shapes, count in calls)
        for name in fused
    }
    return dict(sorted(totals.items(), key=lambda pair: pair[1]))


def _time_call(name: str, shapes: Call, *, device: torch.device, dtype: torch.dtype) -> float:
    """Measure one call in milliseconds; infinity if the backend has no kernel for these shapes."""
    query, key, value = (
        torch.randn(b, length, heads, d, device=device, dtype=dtype).transpose(1, 2)  # in the memory layout of the UNet
        for b, heads, length, d in (shapes[0], shapes[1], shapes[1])
    )

    def attend(runs: int) -> None:
        for _ in range(runs):
            functional.scaled_dot_product_attention(query, key, value)

    try:
        with sdpa_kernel(BACKENDS[name]):
            attend(WARM_UP_RUNS)
            if device.type != "cuda":
                start = time.perf_counter()
                attend(TIMED_RUNS)
                return 1000 * (time.perf_counter() - start) / TIMED_RUNS
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            torch.cuda._sleep(LEAD_CYCLES)  # type: ignore[no-untyped-call]
            begin.record()
            attend(TIMED_RUNS)
            end.record()
            end.synchronize()
            return begin.elapsed_time(end) / TIMED_RUNS
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:  # no kernel
        return float("inf")


class _CallRecorder(TorchFunctionMode):
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
