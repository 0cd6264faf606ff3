"""Joint denoising of one canvas with several experts (Chen, Geng, Owens, arXiv 2405.12221, Section 3)."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from its.interfaces import Combiner, Scheduler, Step

Estimator = Callable[[Tensor, Tensor], Tensor]
"""Maps noisy latents (b, c, h, w) and timestep (b,) to a noise estimate (b, c, h, w). Example: `GuidedExpert`."""

Runner = Callable[[Mapping[str, Estimator], Tensor, Tensor], Mapping[str, Tensor]]
"""Evaluates the experts of a step: maps experts, z_t (b, c, h, w) and t (b,) to noise estimates by name."""

ROUNDING = 1e-9
"""Tolerance for decimal fractions in binary; far below the progress of one step."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Selects one of two estimators by progress, for guidance in a limited interval (arXiv 2404.07724).

    Attributes:
        inside: estimator for progress in [begin, end).
        outside: estimator for the other steps.
        begin, end: fractions of the reverse process.
    """

    inside: Estimator
    outside: Estimator
    begin: float
    end: float

    def at(self, progress: float) -> Estimator:
        """Return the estimator at a fraction of the reverse process in [0, 1)."""
        return self.inside if self.begin <= progress + ROUNDING < self.end else self.outside


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
    """Denoise latents jointly, from noise z_T to clean latents z_0.

    Args:
        latents: z_T, or the latents before the first step of `part`, (b, c, h, w).
        experts: guided noise estimators eps_m(z_t, t), by name.
        combiner: computes the weights lambda_m(t) and the combined estimate.
        scheduler: selects t and computes z_{t-1} from z_t.
        steps: number of steps of the reverse process.
        run: runner of a step's experts; `its.diffusion.graphs` has faster ones for GPUs.
        on_step: called after each step, for progress and predictions of z_0.
        part: indices of the steps to run; None to run all. The process may begin at any step, from latents of its
            noise level.

    Returns:
        z_0, or the latents after the last step of `part`, (b, c, h, w).

    Raises:
        ValueError: `part` ends before the last step, but the scheduler's plans are not stateless, so that no other
            call could continue.
    """
    plan = scheduler.plan(steps)
    if part is not None and part.stop < steps and not plan.stateless:
        raise ValueError(f"{type(scheduler).__name__} keeps state from step to step, so it can't be interrupted")
    active = []
    for progress in (index / steps for index in range(steps)):
        weights = combiner.weights(progress)
        used = {name: expert for name, expert in experts.items() if weights[name] != 0}
        active.append({n: e.at(progress) if isinstance(e, Interval) else e for n, e in used.items()})
    z, t_device = latents, plan.timesteps.to(latents.device)  # once: the loop must not synchronise with the device
    for index in range(steps) if part is None else part:
        z_t = z
        eps = combiner.combine(run(active[index], z_t, t_device[index].expand(len(z_t))), z_t, index / steps)
        z = plan.step(eps, index, z_t)
        if on_step is not None:
            t, ran = int(plan.timesteps[index]), tuple(active[index])
            clean = functools.partial(plan.predict_clean, eps, index, z_t)
            on_step(Step(index=index, steps=steps, timestep=t, experts=tuple(experts), ran=ran, clean=clean))
    return z


class PerSample(Combiner):
    """Applies a different combiner to each sample of a batch.

    Args:
        combiners: a combiner for each sample. Consecutive samples with the same object are combined together.
    """

    def __init__(self, combiners: Sequence[Combiner]) -> None:
        self.combiners = combiners
        groups = [list(group) for _, group in itertools.groupby(combiners, key=id)]
        self._groups = [(group[0], len(group)) for group in groups]

    def weights(self, progress: float) -> Mapping[str, float]:
        """Return 1 for each expert with non-zero weight for any sample, else 0."""
        tables = [combiner.weights(progress) for combiner, _ in self._groups]
        return {name: float(any(table[name] != 0 for table in tables)) for name in tables[0]}

    def combine(self, estimates: Mapping[str, Tensor], latents: Tensor, progress: float) -> Tensor:
        """Combine each group with its combiner, from the estimates with non-zero weight."""
        combined, first = [], 0
        for combiner, size in self._groups:
            rows, weights = slice(first, first + size), combiner.weights(progress)
            active = {name: estimate[rows] for name, estimate in estimates.items() if weights[name] != 0}
            combined.append(combiner.combine(active, latents[rows], progress))
            first += size
        return torch.cat(combined)
