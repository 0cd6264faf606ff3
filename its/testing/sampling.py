"""The contract suite's checks of what walks and combines: schedulers and combiners."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from its.diffusion.sampling import participates
from its.interfaces import Combiner, Scheduler, Step
from its.testing.contract import Contract, noise_of


def check_combiner(combiner: Combiner, experts: Sequence[str], *, steps: int = 20) -> None:
    """Check a `Combiner` that was made for experts of these names."""
    need = Contract(combiner, Combiner)
    need.json("its constructor's arguments", combiner.describe())
    need_names = f"weights names every expert and no other: {', '.join(experts)}"
    for index in range(steps):
        weights = combiner.weights(index / steps)
        need(isinstance(weights, Mapping) and set(weights) == set(experts), need_names, weights)
        tensors = [weight for weight in weights.values() if isinstance(weight, Tensor)]
        numbers = [weight for weight in weights.values() if not isinstance(weight, Tensor)]
        need(
            all(isinstance(n, int | float) and math.isfinite(n) for n in numbers),
            "weights are finite numbers",
            weights,
        )
        need(
            all(t.ndim == 1 and t.device.type == "cpu" for t in tensors),
            "weights are numbers, or (b,) on the CPU",
        )
        need(all(bool(t.isfinite().all()) for t in tensors), "weights are finite numbers", weights)
        latents = noise_of(len(tensors[0]) if tensors else 2, 4, 8, 16)
        estimates = {
            name: noise_of(*latents.shape, seed=1 + number)
            for number, name in enumerate(experts)
            if participates(weights[name])  # what the others would say is not computed
        }
        step = Step(index=index, steps=steps, timestep=1 + (steps - 1 - index) * (1000 // steps), weights=weights)
        try:
            noise = combiner.combine(estimates, latents, step)
        except KeyError as error:
            raise need.broken("combine does without the estimates of experts whose weight is 0", error) from error
        need(noise.shape == latents.shape, "combine gives noise of the latents' shape", noise.shape)
        need(noise.dtype == latents.dtype, "combine gives noise of the latents' dtype", noise.dtype)
        need(bool(noise.isfinite().all()), "combine gives finite noise of finite estimates")


def check_scheduler(scheduler: Scheduler) -> None:
    """Check a `Scheduler`."""
    need = Contract(scheduler, Scheduler)
    need.json("its constructor's arguments", scheduler.describe())
    clean, noise = noise_of(2, 4, 8, 16, seed=1), noise_of(2, 4, 8, 16, seed=2)
    for steps in (1, 5, 20):
        timesteps = scheduler.timesteps(steps)
        need(timesteps.shape == (steps,), "timesteps gives (steps,)", timesteps.shape)
        need(
            timesteps.dtype == torch.int64 and timesteps.device.type == "cpu",
            "timesteps are int64 on the CPU",
        )
        need(bool((timesteps.diff() < 0).all()) and int(timesteps[-1]) >= 0, "timesteps fall", timesteps)

        def restore(steps: int = steps) -> Tensor:
            """From noised latents back to clean ones, by what an all-knowing expert would estimate."""
            scheduler.timesteps(steps)
            z = scheduler.add_noise(clean, noise, 0)
            for index in range(steps):
                # add_noise is signal * clean + sigma * noise; solved for the noise
                signal = scheduler.add_noise(clean, torch.zeros_like(noise), index)
                sigma = scheduler.add_noise(torch.zeros_like(clean), torch.ones_like(noise), index)
                z = scheduler.step((z - signal) / sigma, index, z)
            return z

        restored = restore()
        error = float((restored - clean).square().mean().sqrt())
        need(
            error < 0.1,
            f"perfect estimates lead back to the clean latents in {steps} steps",
            f"off by {error:.3f}",
        )
        need(
            torch.equal(restored, restore()),
            "timesteps starts afresh: the same walk twice gives the same latents",
        )
        for dtype in (torch.float32, torch.bfloat16):
            scheduler.timesteps(steps)
            z, eps = clean.to(dtype), noise.to(dtype)
            cleaner = scheduler.step(eps, 0, z)
            need(cleaner.shape == z.shape, "step keeps the shape of the latents", cleaner.shape)
            need(
                cleaner.dtype == dtype,
                "step keeps the dtype of the latents",
                f"{dtype} became {cleaner.dtype}",
            )
            need(bool(cleaner.isfinite().all()), "the first step on pure noise is finite")
            need(torch.equal(z, clean.to(dtype)), "step leaves the latents that it was given as they are")
