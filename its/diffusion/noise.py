"""Noise that depends on a sample's seed alone, not on batch, rank or device.

It is drawn on the CPU. Processors with other instruction sets round differently: values differ by up to about 2e-6.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def generators(seeds: Sequence[int]) -> list[torch.Generator]:
    """Create a CPU generator for each sample."""
    return [torch.Generator("cpu").manual_seed(seed) for seed in seeds]


def initial_noise(
    sources: Sequence[torch.Generator], shape: tuple[int, int, int], *, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Draw z_T ~ N(0, I) of shape (c, h, w) from each sample's generator. Returns (b, c, h, w), float32 on the CPU.

    The authors' program draws in float16, whose values differ from those of float32 for the same seed. Use
    `dtype=torch.float16` to reproduce seeds that they published.
    """
    return torch.stack([torch.randn(shape, generator=g, dtype=dtype, device="cpu").float() for g in sources])


def slerp(begin: Tensor, end: Tensor, fraction: Tensor) -> Tensor:
    """Interpolate spherically between two independent draws of noise, so that the result also has unit variance.

    Independent draws are almost orthogonal, so the angle between them is taken as pi / 2.

    Args:
        begin, end: noise (b, c, h, w).
        fraction: 0 for `begin` to 1 for `end`, broadcastable to them.
    """
    angle = fraction * torch.pi / 2
    return angle.cos() * begin + angle.sin() * end
