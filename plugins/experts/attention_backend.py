"""Which of torch's kernels computes attention. They differ by rounding, and in speed by device, shape and dtype."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from its.errors import UserError

Attention = Literal["default", "auto", "flash", "cudnn", "efficient", "math"]
"""`default` leaves the choice to torch, `auto` takes the fastest of a few timed runs."""

BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}
HEAD_DIM = 40
"""Stable Diffusion's, in its widest layers."""
TIMED_RUNS = 3


def usable(name: str, *, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a backend computes Stable Diffusion's attention here, in this precision."""
    x = torch.zeros(1, 8, 64, HEAD_DIM, device=device, dtype=dtype)
    try:
        with sdpa_kernel(BACKENDS[name]):
            functional.scaled_dot_product_attention(x, x, x)
    except RuntimeError:  # no kernel of this kind for these inputs
        return False
    return True


def require(name: str, *, device: torch.device, dtype: torch.dtype) -> None:
    """Refuse a backend that can't be had here.

    Raises:
        UserError: it names those that can.
    """
    if name in BACKENDS and not usable(name, device=device, dtype=dtype):
        others = [other for other in BACKENDS if usable(other, device=device, dtype=dtype)]
        kind = str(dtype).removeprefix("torch.")
        raise UserError(f"attention is {name!r}, which can't be had on {device.type} in {kind}: take {_or(others)}")


def fastest(run: Callable[[], object], *, device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """Seconds that a function takes with each usable backend, the fastest first; without compiling for each of them."""
    seconds: dict[str, float] = {}
    for name in BACKENDS:
        if usable(name, device=device, dtype=dtype):
            with torch.compiler.set_stance("force_eager"), sdpa_kernel(BACKENDS[name]):
                run()  # warms up
                _wait(device)
                begin = time.perf_counter()
                for _ in range(TIMED_RUNS):
                    run()
                _wait(device)
            seconds[name] = (time.perf_counter() - begin) / TIMED_RUNS
    return dict(sorted(seconds.items(), key=lambda pair: pair[1]))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _or(names: list[str]) -> str:
    return " or ".join(["default", *names])
