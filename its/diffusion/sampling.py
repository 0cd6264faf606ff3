"""Joint denoising: several experts, one canvas (Chen, Geng, Owens, arXiv 2405.12221, Section 3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from its.interfaces import Combiner, Scheduler, Step

Estimator = Callable[[Tensor, Tensor], Tensor]
"""Noisy latents (b, c, h, w) and timestep (b,) -> noise estimate (b, c, h, w), such as a `GuidedExpert`."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Two estimators that take turns, such as one with guidance and one without (arXiv 2404.07724).

    Attributes:
        inside: while the share of the reverse process that lies behind is in [begin, end).
        outside: else.
    """

    inside: Estimator
    outside: Estimator
    begin: float
    end: float

    def at(self, progress: float) -> Estimator:
        """The one whose turn it is."""
        return self.inside if self.begin <= progress + ROUNDING < self.end else self.outside


ROUNDING = 1e-9
"""Allowance for decimal shares in binary; far below the progress of one step."""

Weights = Mapping[str, float | Tensor]
"""lambda_m of each expert, by name: a number, or (b,) with one for each sample."""

Runner = Callable[[Mapping[str, Estimator], Tensor, Tensor], Mapping[str, Tensor]]
"""How the experts that take part in a step are run: experts, z_t and t -> their estimates, by name."""


def in_turn(experts: Mapping[str, Estimator], latents: Tensor, timestep: Tensor) -> Mapping[str, Tensor]:
    """One expert after the other."""
    return {name: expert(latents, timestep) for name, expert in experts.items()}


def denoise(
    latents: Tensor,
    *,
    experts: Mapping[str, Estimator | Interval],
    combiner: Combiner,
    scheduler: Scheduler,
    steps: int,
    run: Runner = in_turn,
    on_step: Callable[[Step], None] | None = None,
    part: range | None = None,
) -> Tensor:
    """From noise z_T to clean latents z_0, both (b, c, h, w).

    Args:
        latents: z_T.
        experts: guided noise estimates eps_m(z_t, t), by name.
        combiner: gives lambda_m(t) and the combined estimate.
        scheduler: gives t and takes z_t to z_{t-1}.
        steps: length of the reverse process.
        run: how the experts of a step are run; `its.diffusion.graphs` has faster ways for GPUs.
        on_step: called after each step, for progress.
        part: the steps to walk, if not all of them, from latents as they are before the first of these. A scheduler
            that keeps state from step to step can't walk in parts.
    """
    z = latents
    timesteps = scheduler.timesteps(steps)
    weights = [combiner.weights(index / steps) for index in range(steps)]
    present = [_present(experts, lambdas, index / steps) for index, lambdas in enumerate(weights)]
    t_device, weights = timesteps.to(z.device), _on_device(weights, z)  # once: the loop never waits for the device
    for index in range(steps) if part is None else part:
        step = Step(index=index, steps=steps, timestep=int(timesteps[index]), weights=weights[index])
        eps = run(present[index], z, t_device[index].expand(len(z)))
        z = scheduler.step(combiner.combine(eps, z, step), index, z)
        if on_step is not None:
            on_step(step)
    return z


class Watched(Combiner):
    """A combiner that remembers its last estimate, for the clean latents that it points to.

    Args:
        combiner: whose estimates they are.
    """

    def __init__(self, combiner: Combiner) -> None:
        self.combiner = combiner
        self._last: tuple[int, Tensor, Tensor] | None = None

    def weights(self, progress: float) -> Mapping[str, float | Tensor]:
        """The combiner's."""
        return self.combiner.weights(progress)

    def combine(self, estimates: Mapping[str, Tensor], latents: Tensor, step: Step) -> Tensor:
        """The combiner's."""
        eps = self.combiner.combine(estimates, latents, step)
        self._last = step.index, latents, eps
        return eps

    def clean(self, scheduler: Scheduler) -> Tensor:
        """What z_0 would be if the last estimate were right, (b, c, h, w).

        z_t is linear in z_0 and the noise, so the scheduler's own `add_noise` says how much of each there is in it.
        """
        if self._last is None:
            raise RuntimeError("nothing was estimated yet")
        index, z, eps = self._last
        one, zero = torch.ones_like(z[:1, :1, :1, :1]), torch.zeros_like(z[:1, :1, :1, :1])
        signal, sigma = scheduler.add_noise(one, zero, index), scheduler.add_noise(zero, one, index)
        return (z - sigma * eps) / signal


def participates(weight: float | Tensor) -> bool:
    """Whether an expert of this weight, a number or (b,) on the CPU, has to be run at all."""
    return bool(weight.any()) if isinstance(weight, Tensor) else weight != 0


def _present(experts: Mapping[str, Estimator | Interval], weights: Weights, progress: float) -> dict[str, Estimator]:
    """Those who take part in a step."""
    return {
        name: expert.at(progress) if isinstance(expert, Interval) else expert
        for name, expert in experts.items()
        if participates(weights[name])
    }


def _on_device(weights: Sequence[Weights], latents: Tensor) -> list[Weights]:
    """The weights of all steps, those that are tensors beside the latents, in one copy for each expert."""
    moved: list[dict[str, float | Tensor]] = [dict(lambdas) for lambdas in weights]
    for name in moved[0] if moved else ():
        rows = {index: row for index, step in enumerate(moved) if isinstance(row := step[name], Tensor)}
        if rows:
            together = torch.stack(list(rows.values())).to(latents)
            for index, row in zip(rows, together, strict=True):
                moved[index][name] = row
    return list(moved)
