"""What all parts of `gpu.py` share: weights on disk, a device, sizes, and how to build what is compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import models
import ours
import torch
from authors_loop import AuthorsProgram
from counting import gemm_rate
from measuring import Figure, figure
from ours import LADDER, Levers, NotThere
from torch import Tensor
from variants import of_ours

from its.methods.denoising import MultimodalDenoising

TOLERANCE = 1e-2
"""Relative error of the latents against float32."""
CHECK_STEPS = 10


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What all parts share.

    Attributes:
        folder: with the weights.
        compile: whether anything compiles.
        batches: batch sizes of ours.
        failures: of the checks, added to as they are seen.
    """

    folder: Path
    device: torch.device
    dtype: torch.dtype
    tiny: bool
    rounds: int
    compile: bool
    batches: Sequence[int]
    failures: list[str]

    def write_weights(self) -> None:
        """Into the folder, drawn on the device."""
        models.write(self.folder, self.shape, device=self.device, dtype=self.dtype)

    @property
    def shape(self) -> models.Shape:
        return models.TINY if self.tiny else models.REAL

    @property
    def steps(self) -> int:
        return 10 if self.tiny else 100

    @property
    def fast_steps(self) -> int:
        return 5 if self.tiny else 25

    @property
    def fast_batches(self) -> list[int]:
        """Of the preset: the smallest, and 16 or the one nearest to it."""
        return sorted({min(self.batches), min(self.batches, key=lambda b: abs(b - 16))})

    @property
    def best(self) -> Levers:
        """All that this device has."""
        best = ours.for_device(list(LADDER.values())[-1], self.device)
        return best if self.compile else Levers(channels_last=best.channels_last)

    def authors(self, dtype: torch.dtype | None = None, *, informed: bool = False) -> AuthorsProgram:
        return AuthorsProgram(
            self.folder,
            canvas=self.shape.canvas,
            steps=self.steps,
            device=self.device,
            dtype=dtype or self.dtype,
            informed=informed,
            compiles=self.compile,
        )

    def method(self, levers: Levers, dtype: torch.dtype | None = None, *, fast: bool = False) -> MultimodalDenoising:
        if levers.compile and not self.compile:
            raise NotThere("left out (--no-compile)")
        return ours.build(
            self.folder,
            canvas=self.shape.canvas,
            steps=self.fast_steps if fast else self.steps,
            device=self.device,
            dtype=dtype or self.dtype,
            levers=levers,
            scheduler=ours.dpm_solver() if fast else None,
        )

    def gemm(self) -> float:
        """FLOP/s."""
        return gemm_rate(self.device, torch.bfloat16, 256 if self.tiny else 8192)

    def reference(self) -> Tensor:
        """(4, h, w): the first seed's latents in float32, whose loop has nothing switched on."""
        variant = of_ours(self.method(Levers(), torch.float32), batch=1, steps=CHECK_STEPS)
        return variant.make(CHECK_STEPS, None).latents[0]

    def check(self, name: str, latents: Tensor, reference: Tensor) -> Figure:
        """Relative error of the first seed's latents."""
        error = ((latents[0] - reference).norm() / reference.norm()).item()
        if not error < TOLERANCE:
            self.failures.append(f"{name}: relative error {error:.3g} against float32; expected under {TOLERANCE:g}")
        return figure(error, "")
