"""Scheduler that keeps a region of the canvas, while the rest is composed around it."""

from __future__ import annotations

from torch import Tensor

from its.interfaces import SamplingPlan, Scheduler


class KeptRegion(Scheduler):
    """Replaces a region of the latents after each step by given latents of the same noise level.

    A simpler form of RePaint (Lugmayr et al., arXiv 2201.09865), without its resampling. The same noise is added at
    every step, so that the region follows the path on which a deterministic sampler would generate it.

    Args:
        scheduler: scheduler of the reverse process.
        clean: latents z_0 of the region, (b, c, h, w).
        noise: noise of the region, (b, c, h, w).
        mask: 1 in the region, 0 elsewhere, (b, 1, h, w).
    """

    def __init__(self, scheduler: Scheduler, *, clean: Tensor, noise: Tensor, mask: Tensor) -> None:
        self.scheduler = scheduler
        self.clean, self.noise, self.mask = clean, noise, mask

    def plan(self, steps: int) -> SamplingPlan:
        """Create a reverse process of the wrapped scheduler that keeps the region."""
        return _KeptRegionPlan(self.scheduler.plan(steps), self)


class _KeptRegionPlan(SamplingPlan):
    def __init__(self, plan: SamplingPlan, region: KeptRegion) -> None:
        self.plan, self.region = plan, region
        self.timesteps, self.stateless = plan.timesteps, plan.stateless

    def step(self, noise: Tensor, index: int, latents: Tensor) -> Tensor:
        z, region = self.plan.step(noise, index, latents), self.region
        is_last = index + 1 == len(self.timesteps)
        kept = region.clean if is_last else self.plan.add_noise(region.clean, region.noise, index + 1)
        return z.where(region.mask == 0, kept)

    def predict_clean(self, noise: Tensor, index: int, latents: Tensor) -> Tensor:
        return self.plan.predict_clean(noise, index, latents).where(self.region.mask == 0, self.region.clean)

    def add_noise(self, clean: Tensor, noise: Tensor, index: int) -> Tensor:
        return self.plan.add_noise(clean, noise, index)
