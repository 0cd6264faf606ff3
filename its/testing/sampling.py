"""Checks of the contract suite for combiners and schedulers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from its.interfaces import Combiner, SamplingPlan, Scheduler
from its.testing.contract import Contract, close, noise_of


def check_combiner(combiner: Combiner, experts: Sequence[str], *, steps: int = 20) -> None:
    """Check a `Combiner` that was made for experts of these names."""
    need = Contract(combiner, Combiner)
    need.json("its constructor's arguments", combiner.describe())
    need_names = f"weights names every expert and no other: {', '.join(experts)}"
    latents = noise_of(2, 4, 8, 16)
    for progress in (index / steps for index in range(steps)):
        weights = combiner.weights(progress)
        need(isinstance(weights, Mapping) and set(weights) == set(experts), need_names, weights)
        numbers = all(isinstance(weight, int | float) and math.isfinite(weight) for weight in weights.values())
        need(numbers, "weights are finite numbers", weights)
        estimates = {
            name: noise_of(*latents.shape, seed=1 + number)
            for number, name in enumerate(experts)
            if weights[name] != 0  # the others are not run
        }
        try:
            noise = combiner.combine(estimates, latents, progress)
        except KeyError as error:
            raise need.broken("combine does without the estimates of experts whose weight is 0", error) from error
        need(noise.shape == latents.shape, "combine gives noise of the latents' shape", noise.shape)
        need(noise.dtype == latents.dtype, "combine gives noise of the latents' dtype", noise.dtype)
        need(bool(noise.isfinite().all()), "combine gives finite noise of finite estimates")
        again = combiner.combine(estimates, latents, progress)
        need(torch.equal(noise, again), "combine depends on its arguments alone")
        alone = [
            combiner.combine({name: estimate[[i]] for name, estimate in estimates.items()}, latents[[i]], progress)
            for i in range(2)
        ]
        need(close(noise, torch.cat(alone)), "combine of b samples equals that of each alone")


def check_scheduler(scheduler: Scheduler) -> None:
    """Check a `Scheduler` and its plans."""
    need = Contract(scheduler, Scheduler)
    need.json("its constructor's arguments", scheduler.describe())
    clean, noise = noise_of(2, 4, 8, 16, seed=1), noise_of(2, 4, 8, 16, seed=2)
    for steps in (1, 5, 20):
        plan = scheduler.plan(steps)
        need(isinstance(plan, SamplingPlan), "plan gives a SamplingPlan", type(plan).__name__)
        timesteps = plan.timesteps
        need(timesteps.shape == (steps,), "timesteps are (steps,)", timesteps.shape)
        need(
            timesteps.dtype == torch.int64 and timesteps.device.type == "cpu",
            "timesteps are int64 on the CPU",
        )
        need(bool((timesteps.diff() < 0).all()) and int(timesteps[-1]) >= 0, "timesteps fall", timesteps)

        # Two plans in turn, from noised latents back to clean ones, by the estimates of a perfect expert.
        plans = [plan, scheduler.plan(steps)]
        walks = [plan.add_noise(clean, noise, 0) for plan in plans]
        for index in range(steps):
            for number, (each, z) in enumerate(zip(plans, walks, strict=True)):
                walks[number] = each.step(_noise_in(z, clean, each, index), index, z)
        error = float((walks[0] - clean).square().mean().sqrt())
        need(
            error < 0.1,
            f"perfect estimates lead back to the clean latents in {steps} steps",
            f"off by {error:.3f}",
        )
        need(torch.equal(*walks), "plans share no state: two in turn give the same latents")
        predicted = plan.predict_clean(noise, steps - 1, plan.add_noise(clean, noise, steps - 1))
        need(torch.allclose(predicted, clean, atol=1e-3), "predict_clean is the inverse of add_noise")
        for dtype in (torch.float32, torch.bfloat16):
            z, eps = clean.to(dtype), noise.to(dtype)
            cleaner = scheduler.plan(steps).step(eps, 0, z)
            need(cleaner.shape == z.shape, "step keeps the shape of the latents", cleaner.shape)
            need(
                cleaner.dtype == dtype,
                "step keeps the dtype of the latents",
                f"{dtype} became {cleaner.dtype}",
            )
            need(bool(cleaner.isfinite().all()), "the first step on pure noise is finite")
            need(torch.equal(z, clean.to(dtype)), "step leaves the latents that it was given as they are")


def _noise_in(latents: Tensor, clean: Tensor, plan: SamplingPlan, index: int) -> Tensor:
    """The noise that, added to clean latents, gives `latents`; add_noise is linear in both."""
    signal = plan.add_noise(clean, torch.zeros_like(clean), index)
    sigma = plan.add_noise(torch.zeros_like(clean), torch.ones_like(clean), index)
    return (latents - signal) / sigma
