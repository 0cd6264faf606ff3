"""Contract checks of combiners and schedulers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from its.interfaces import Combiner, SamplingPlan, Scheduler
from its.testing.contract import Contract, close, noise_of


def check_combiner(combiner: Combiner, experts: Sequence[str], *, steps: int = 20) -> None:
    """Check a `Combiner` for experts of these names."""
    need = Contract(combiner, Combiner)
    need.json("the constructor's arguments", combiner.describe())
    names_clause = f"weights has a value for every expert and for no other name: {', '.join(experts)}"
    latents = noise_of(2, 4, 8, 16)
    for progress in (index / steps for index in range(steps)):
        weights = combiner.weights(progress)
        need(isinstance(weights, Mapping) and set(weights) == set(experts), names_clause, weights)
        finite = all(isinstance(weight, int | float) and math.isfinite(weight) for weight in weights.values())
        need(finite, "weights are finite numbers", weights)
        seeds = {name: seed for seed, name in enumerate(experts, 1) if weights[name] != 0}
        estimates = {name: noise_of(*latents.shape, seed=seed) for name, seed in seeds.items()}
        try:
            noise = combiner.combine(estimates, latents, progress)
        except KeyError as error:
            raise need.violation("combine needs no estimates of experts with weight 0", error) from error
        need(noise.shape == latents.shape, "combine returns the shape of the latents", noise.shape)
        need(noise.dtype == latents.dtype, "combine returns the dtype of the latents", noise.dtype)
        need(bool(noise.isfinite().all()), "combine returns finite values for finite estimates")
        again = combiner.combine(estimates, latents, progress)
        need(torch.equal(noise, again), "combine depends on its arguments alone")
        singles = [
            combiner.combine({name: estimate[[i]] for name, estimate in estimates.items()}, latents[[i]], progress)
            for i in range(2)
        ]
        need(close(noise, torch.cat(singles)), "combine of a batch equals that of each sample")


def check_scheduler(scheduler: Scheduler) -> None:
    """Check a `Scheduler` and its plans."""
    need = Contract(scheduler, Scheduler)
    need.json("the constructor's arguments", scheduler.describe())
    clean, noise = noise_of(2, 4, 8, 16, seed=1), noise_of(2, 4, 8, 16, seed=2)
    for steps in (1, 5, 20):
        plan = scheduler.plan(steps)
        need(isinstance(plan, SamplingPlan), "plan returns a SamplingPlan", type(plan).__name__)
        timesteps = plan.timesteps
        need(timesteps.shape == (steps,), "timesteps are (steps,)", timesteps.shape)
        need(timesteps.dtype == torch.int64 and timesteps.device.type == "cpu", "timesteps are int64 on the CPU")
        need(bool((timesteps.diff() < 0).all()) and int(timesteps[-1]) >= 0, "timesteps decrease", timesteps)

        # Run two plans alternately, from noised to clean latents, with the estimates of a perfect expert.
        plans = [plan, scheduler.plan(steps)]
        latents = [plan.add_noise(clean, noise, 0) for plan in plans]
        for index in range(steps):
            latents = [p.step(_noise_in(z, clean, p, index), index, z) for p, z in zip(plans, latents, strict=True)]
        error = float((latents[0] - clean).square().mean().sqrt())
        need(error < 0.1, f"perfect estimates reconstruct the clean latents in {steps} steps", f"error {error:.3f}")
        need(torch.equal(*latents), "plans share no state: two alternating plans return equal latents")
        later, z = scheduler.plan(steps), clean
        for index in range(steps // 2, steps):
            z = later.add_noise(clean, noise, index) if index == steps // 2 else z
            z = later.step(_noise_in(z, clean, later, index), index, z)
        error = float((z - clean).square().mean().sqrt())
        need(error < 0.1, f"a plan of {steps} steps may begin at step {steps // 2}", f"error {error:.3f}")
        predicted = plan.predict_clean(noise, steps - 1, plan.add_noise(clean, noise, steps - 1))
        need(torch.allclose(predicted, clean, atol=1e-3), "predict_clean is the inverse of add_noise")
        for dtype in (torch.float32, torch.bfloat16):
            z, eps = clean.to(dtype), noise.to(dtype)
            result = scheduler.plan(steps).step(eps, 0, z)
            need(result.shape == z.shape, "step returns the shape of the latents", result.shape)
            need(result.dtype == dtype, "step returns the dtype of the latents", f"{result.dtype} for {dtype}")
            need(bool(result.isfinite().all()), "the first step returns finite values for pure noise")
            need(torch.equal(z, clean.to(dtype)), "step does not change the latents in place")


def _noise_in(latents: Tensor, clean: Tensor, plan: SamplingPlan, index: int) -> Tensor:
    """Return the noise for which `add_noise` returns `latents`, using its linearity."""
    signal = plan.add_noise(clean, torch.zeros_like(clean), index)
    sigma = plan.add_noise(torch.zeros_like(clean), torch.ones_like(clean), index)
    return (latents - signal) / sigma
