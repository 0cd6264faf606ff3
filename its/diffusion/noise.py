"""Random numbers that depend on a sample's own seed and on nothing else: not on batch, rank, or device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def generators(seeds: Sequence[int]) -> list[torch.Generator]:
    """One generator for each sample, on the CPU, whose streams are the same everywhere."""
    return [torch.Generator("cpu").manual_seed(seed) for seed in seeds]


def initial_noise(
    sources: Sequence[torch.Generator], shape: tuple[int, int, int], *, dtype: torch.dtype = torch.float32
) -> Tensor:
    """z_T ~ N(0, I): one draw of (c, h, w) from each sample's generator -> (b, c, h, w), float32 on the CPU.

    The authors' program draws in float16, whose stream has nothing to do with float32's of the same seed: to replay
    a seed that they published, draw with `dtype=torch.float16`.
    """
    return torch.stack([torch.randn(shape, generator=g, dtype=dtype, device="cpu").float() for g in sources])
