"""Decode predicted pictures during sampling, within a small share of its time."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from its.interfaces import LatentCodec, Step
from its.media.encode import png_bytes
from its.runs.sample_files import eight_bit

SHARE = 0.06
"""Maximum fraction of the sampling time for previews, without the first one, which also warms up the decoder."""


class Previewer:
    """Turns the steps of a job into preview pictures.

    Latents are halved in both directions before they are decoded, which costs a quarter. The first step is always
    decoded; others only while they take less than `SHARE` of the job's time.

    Args:
        codec: codec of the picture.
        shown: fraction of the canvas's columns that remain after the trim.

    Attributes:
        batch: number of samples in the current batch.
        first: seconds of the first preview.
        spent: seconds of the others.
        count: number of previews.
    """

    def __init__(self, codec: LatentCodec, *, shown: float, clock: Callable[[], float] = time.perf_counter) -> None:
        self.codec = codec
        self.shown = shown
        self.batch = 1
        self.first = 0.0
        self.spent = 0.0
        self.count = 0
        self._clock = clock
        self._begin = clock()
        self._cost = 0.0
        self._last = sys.maxsize

    def __call__(self, step: Step) -> list[bytes] | None:
        """Return a PNG for each sample of the batch, or None for a step without preview."""
        if step.clean is None or step.index == step.steps - 1:
            return None
        if step.index <= self._last:  # of another batch
            self.batch = len(step.predict_clean())
        self._last = step.index
        if self.count and self.spent + self._cost > SHARE * (self._clock() - self._begin):
            return None
        latents = step.predict_clean()
        _synchronize(latents.device)  # else the time of the steps would count as the preview's
        begin = self._clock()
        pictures = [png_bytes(eight_bit(gray)) for gray in self._decode(latents)]
        seconds = self._clock() - begin
        if self.count:
            self._cost = min(seconds, self._cost) if self._cost else seconds
            self.spent += seconds
        else:
            self.first = seconds
        self.count += 1
        return pictures

    def _decode(self, latents: Tensor) -> Tensor:
        """Decode latents (b, c, h, w) at half size to gray pictures (b, H/2, W/2) in [0, 1] on the CPU."""
        if all(size % 2 == 0 and size >= 8 for size in latents.shape[-2:]):
            latents = functional.avg_pool2d(latents, 2)
        gray = self.codec.decode(latents).float().mean(1).cpu()
        return gray[..., : max(1, round(gray.shape[-1] * self.shown))]


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
