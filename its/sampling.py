"""Joint denoising: several experts, one canvas (Chen, Geng, Owens, arXiv 2405.12221, Section 3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from its.interfaces import Combiner, Scheduler, Step

Estimator = Callable[[Tensor, Tensor], Tensor]
"""Noisy latents (b, c, h, w) and timestep (b,) -> noise estimate (b, c, h, w), such as a `GuidedExpert`."""


def denoise(
    latents: Tensor,
    *,
    experts: Mapping[str, Estimator],
    combiner: Combiner,
    scheduler: Scheduler,
    steps: int,
    on_step: Callable[[Step], None] | None = None,
) -> Tensor:
    """From noise z_T to clean latents z_0, both (b, c, h, w).

    Args:
        latents: z_T.
        experts: guided noise estimates eps_m(z_t, t), by name.
        combiner: gives lambda_m(t) and the combined estimate.
        scheduler: gives t and takes z_t to z_{t-1}.
        steps: length of the reverse process.
        on_step: called after each step, for progress.
    """
    z = latents
    timesteps = scheduler.timesteps(steps)
    t_device = timesteps.to(z.device)  # once: the loop never waits for the device
    for index, t in enumerate(timesteps.tolist()):
        step = Step(index=index, steps=steps, timestep=t, weights=combiner.weights(index / steps))
        eps = {
            name: expert(z, t_device[index].expand(len(z)))
            for name, expert in experts.items()
            if participates(step.weights[name])
        }
        z = scheduler.step(combiner.combine(eps, z, step), index, z)
        if on_step is not None:
            on_step(step)
    return z


def participates(weight: float | Tensor) -> bool:
    """Whether an expert of this weight, a number or (b,) on the CPU, has to be run at all."""
    return bool(weight.any()) if isinstance(weight, Tensor) else weight != 0
