"""Adapter for deterministic schedulers of diffusers, some of which need fewer steps than DDIM."""

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
"""Stable Diffusion v1.5's settings. Each scheduler is constructed with those that it accepts."""


class _DiffusersPlan(SamplingPlan):
    """Reverse process of a diffusers scheduler that stores earlier estimates.

    Args:
        solver: scheduler with its timesteps set; not shared with other plans.
    """

    def __init__(self, solver: Any) -> None:
        self._noising = copy.deepcopy(solver)  # after set_begin_index, add_noise would ignore its timesteps
        self._solver = solver
        self.timesteps = solver.timesteps.round().to(torch.int64)

    def step(self, noise: Tensor, index: int, latents: Tensor) -> Tensor:
        if getattr(self._solver, "step_index", 0) is None and hasattr(self._solver, "set_begin_index"):
            self._solver.set_begin_index(index)  # otherwise the solver searches for its timestep
        return self._solver.step(noise, self._solver.timesteps[index], latents, return_dict=False)[0]

    def add_noise(self, clean: Tensor, noise: Tensor, index: int) -> Tensor:
        timesteps = self._noising.timesteps[index].expand(len(clean)).to(clean.device)
        return self._noising.add_noise(clean, noise, timesteps)


@register
class DiffusersScheduler(Scheduler):
    """Scheduler of diffusers by class name, for example DPMSolverMultistepScheduler or UniPCMultistepScheduler.

    The noise schedule is Stable Diffusion v1.5's by default. Stochastic schedulers are refused, since a sample must
    depend on its seed alone, and so are schedulers that evaluate the models more than once per step.

    Args:
        name: class name in diffusers.
        options: constructor arguments, which override Stable Diffusion's settings.

    Raises:
        ValueError: diffusers has no such scheduler, the scheduler does not accept an option, or it is refused.
    """

    def __init__(self, *, name: str = "DPMSolverMultistepScheduler", options: dict[str, Any] | None = None) -> None:
        self.name = name
        self._solver = _make(name, options or {})
        self._check()

    def plan(self, steps: int) -> SamplingPlan:
        solver = copy.deepcopy(self._solver)
        solver.set_timesteps(steps, device="cpu")
        if len(solver.timesteps) != steps:
            raise ValueError(
                f"{self.name} takes {len(solver.timesteps)} evaluations for {steps} steps; expected one per step"
            )
        return _DiffusersPlan(solver)

    def _check(self) -> None:
        if not hasattr(self._solver, "add_noise"):
            raise ValueError(f"{self.name} can't add noise to latents; use a scheduler for denoising")
        sigma = float(self._solver.init_noise_sigma)
        if abs(sigma - 1) > 1e-6:
            raise ValueError(f"{self.name} starts from noise of standard deviation {sigma:g}; expected 1")
        z = torch.linspace(-1, 1, 16, device="cpu").reshape(1, 1, 4, 4)
        results = []
        for _ in range(2):
            result, plan = z, self.plan(4)
            for index in range(4):
                result = plan.step(z, index, result)
            results.append(result)
        if not torch.equal(*results):
            raise ValueError(f"{self.name} adds random noise; use a deterministic scheduler")


def _make(name: str, options: dict[str, Any]) -> Any:
    import diffusers

    cls = getattr(diffusers, name, None)
    known = [n for n in dir(diffusers) if n.endswith("Scheduler") and not n.startswith("Flax")]
    if cls is None or name not in known:
        near = get_close_matches(name, known, n=3)
        raise ValueError(f"diffusers has no scheduler {name!r}; try {', '.join(near or known[:5])}")
    accepted = cls._get_init_keys(cls) - {"self"}
    if unknown := [key for key in options if key not in accepted]:
        raise ValueError(f"{name} has no option {unknown[0]}; expected one of {', '.join(sorted(accepted))}")
    return cls(**{key: value for key, value in DEFAULTS.items() if key in accepted} | options)
