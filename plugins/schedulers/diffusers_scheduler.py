"""Any deterministic scheduler of diffusers, for fewer steps than DDIM needs."""

from __future__ import annotations

import copy
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor

from its.interfaces import SamplingPlan, Scheduler
from its.registry import register
from its_plugins.experts.noise_schedule import STABLE_DIFFUSION

DEFAULTS = {**STABLE_DIFFUSION, "steps_offset": 1, "set_alpha_to_one": False, "clip_sample": False}
"""Stable Diffusion v1.5's settings; each scheduler takes those that it has."""


class _DiffusersPlan(SamplingPlan):
    """A reverse process by a scheduler of diffusers, which keeps earlier estimates.

    Args:
        solver: with its timesteps set; used by this plan alone.
    """

    def __init__(self, solver: Any) -> None:
        self._noising = copy.deepcopy(solver)  # one that has a begin index adds the noise of its current step alone
        self._solver = solver
        if hasattr(solver, "set_begin_index"):
            solver.set_begin_index(0)  # else each step looks its timestep up
        self.timesteps = solver.timesteps.round().to(torch.int64)

    def step(self, noise: Tensor, index: int, latents: Tensor) -> Tensor:
        cleaner: Tensor = self._solver.step(noise, self._solver.timesteps[index], latents, return_dict=False)[0]
        return cleaner

    def add_noise(self, clean: Tensor, noise: Tensor, index: int) -> Tensor:
        timesteps = self._noising.timesteps[index].expand(len(clean)).to(clean.device)
        noisy: Tensor = self._noising.add_noise(clean, noise, timesteps)
        return noisy


@register
class DiffusersScheduler(Scheduler):
    """A scheduler of diffusers by its class name, such as DPMSolverMultistepScheduler or UniPCMultistepScheduler.

    It gets Stable Diffusion v1.5's noise schedule. Those that draw noise of their own are refused, since a sample
    may depend on nothing but its own seed; so are those that call the models more than once a step.

    Args:
        name: of the class.
        options: arguments of its constructor, over Stable Diffusion's.

    Raises:
        ValueError: there is no such scheduler, it does not take an option, or it is refused.
    """

    def __init__(self, *, name: str = "DPMSolverMultistepScheduler", options: dict[str, Any] | None = None) -> None:
        self.name = name
        self._solver = _make(name, options or {})
        self._check()

    def plan(self, steps: int) -> SamplingPlan:
        """A reverse process of this many steps.

        Raises:
            ValueError: the scheduler evaluates the models more than once a step.
        """
        solver = copy.deepcopy(self._solver)
        solver.set_timesteps(steps, device="cpu")
        if len(solver.timesteps) != steps:
            raise ValueError(
                f"{self.name} takes {len(solver.timesteps)} evaluations for {steps} steps; expected one each"
            )
        return _DiffusersPlan(solver)

    def _check(self) -> None:
        """Check that the scheduler is deterministic, and that it starts from noise of unit variance."""
        if not hasattr(self._solver, "add_noise"):
            raise ValueError(f"{self.name} adds no noise, as an inverse scheduler; take one that removes it")
        sigma = float(self._solver.init_noise_sigma)
        if abs(sigma - 1) > 1e-6:
            raise ValueError(f"{self.name} starts from noise of standard deviation {sigma:g}; expected 1")
        z = torch.linspace(-1, 1, 16, device="cpu").reshape(1, 1, 4, 4)
        ends = []
        for _ in range(2):
            end, plan = z, self.plan(4)
            for index in range(4):
                end = plan.step(z, index, end)
            ends.append(end)
        if not torch.equal(*ends):
            raise ValueError(f"{self.name} draws noise of its own; take a deterministic scheduler")


def _make(name: str, options: dict[str, Any]) -> Any:
    import diffusers

    cls = getattr(diffusers, name, None)
    known = [n for n in dir(diffusers) if n.endswith("Scheduler") and not n.startswith("Flax")]
    if cls is None or name not in known:
        near = get_close_matches(name, known, n=3)
        raise ValueError(f"diffusers has no scheduler {name!r}; try {', '.join(near or known[:5])}")
    takes = cls._get_init_keys(cls) - {"self"}
    if unknown := [key for key in options if key not in takes]:
        raise ValueError(f"{name} takes no option {unknown[0]}; it takes {', '.join(sorted(takes))}")
    return cls(**{key: value for key, value in DEFAULTS.items() if key in takes} | options)
