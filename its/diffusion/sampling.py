"""Joint denoising: several experts, one canvas (Chen, Geng, Owens, arXiv 2405.12221, Section 3)."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from its.interfaces import Combiner, Scheduler, Step

Estimator = Callable[[Tensor, Tensor], Tensor]
"""Noisy latents (b, c, h, w) and timestep (b,) -> noise estimate (b, c, h, w), such as a `GuidedExpert`."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Chooses between two estimators by progress, such as one with guidance and one without (arXiv 2404.07724).

    Attributes:
        inside: used while the progress is in [begin, end).
        outside: used in the other steps.
        begin, end: shares of the reverse process.
    """

    inside: Estimator
    outside: Estimator
    begin: float
    end: float

    def at(self, progress: float) -> Estimator:
        """The estimator to use at a share of the reverse process in [0, 1)."""
        return self.inside if self.begin <= progress + ROUNDING < self.end else self.outside


ROUNDING = 1e-9
"""Allowance for decimal shares in binary; far below the progress of one step."""

Runner = Callable[[Mapping[str, Estimator], Tensor, Tensor], Mapping[str, Tensor]]
"""Runs the experts of a step: experts, z_t (b, c, h, w) and t (b,) -> their estimates, by name."""


def sequential(experts: Mapping[str, Estimator], latents: Tensor, timestep: Tensor) -> Mapping[str, Tensor]:
    """Run one expert after the other."""
    return {name: expert(latents, timestep) for name, expert in experts.items()}


def denoise(
    latents: Tensor,
    *,
    experts: Mapping[str, Estimator | Interval],
    combiner: Combiner,
    scheduler: Scheduler,
    steps: int,
    run: Runner = sequential,
    on_step: Callable[[Step], None] | None = None,
    part: range | None = None,
) -> Tensor:
    """Denoise latents jointly, from noise z_T to clean z_0.

    Args:
        latents: z_T, (b, c, h, w).
        experts: guided noise estimates eps_m(z_t, t), by name.
        combiner: gives lambda_m(t) and the combined estimate.
        scheduler: gives t and takes z_t to z_{t-1}.
        steps: length of the reverse process.
        run: how the experts of a step are run; `its.diffusion.graphs` has faster ways for GPUs.
        on_step: called after each step, for progress and for predictions of z_0.
        part: the steps to take, if not all of them; `latents` are then those before the first of these.

    Returns:
        z_0, or the latents after the part; (b, c, h, w).

    Raises:
        ValueError: `part` is given, but the scheduler's plans keep state from step to step.
    """
    plan = scheduler.plan(steps)
    if part is not None and not plan.stateless:
        raise ValueError(f"{type(scheduler).__name__} keeps state from step to step: only a whole process can be run")
    present = [_present(experts, combiner.weights(index / steps), index / steps) for index in range(steps)]
    z, t_device = latents, plan.timesteps.to(latents.device)  # once: the loop never waits for the device
    for index in range(steps) if part is None else part:
        z_t = z
        eps = combiner.combine(run(present[index], z_t, t_device[index].expand(len(z_t))), z_t, index / steps)
        z = plan.step(eps, index, z_t)
        if on_step is not None:
            on_step(
                Step(
                    index=index,
                    steps=steps,
                    timestep=int(plan.timesteps[index]),
                    experts=tuple(experts),
                    ran=tuple(present[index]),
                    clean=functools.partial(plan.predict_clean, eps, index, z_t),
                )
            )
    return z


class PerSample(Combiner):
    """Applies to each sample of a batch its own combiner.

    Args:
        combiners: one for each sample; equal neighbours should be one object, since they are applied together.
    """

    def __init__(self, combiners: Sequence[Combiner]) -> None:
        self.combiners = combiners
        groups = [list(group) for _, group in itertools.groupby(combiners, key=id)]
        self._groups = [(group[0], len(group)) for group in groups]

    def weights(self, progress: float) -> Mapping[str, float]:
        """1 for each expert that any sample needs, else 0."""
        tables = [combiner.weights(progress) for combiner, _ in self._groups]
        return {name: float(any(table[name] != 0 for table in tables)) for name in tables[0]}

    def combine(self, estimates: Mapping[str, Tensor], latents: Tensor, progress: float) -> Tensor:
        """Each group of neighbours by its combiner, from the estimates of the experts that it needs."""
        combined, first = [], 0
        for combiner, size in self._groups:
            rows, weights = slice(first, first + size), combiner.weights(progress)
            own = {name: estimate[rows] for name, estimate in estimates.items() if weights[name] != 0}
            combined.append(combiner.combine(own, latents[rows], progress))
            first += size
        return torch.cat(combined)


def _present(
    experts: Mapping[str, Estimator | Interval], weights: Mapping[str, float], progress: float
) -> dict[str, Estimator]:
    """The experts that run in a step."""
    return {
        name: expert.at(progress) if isinstance(expert, Interval) else expert
        for name, expert in experts.items()
        if weights[name] != 0
    }
