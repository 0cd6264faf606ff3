"""Any deterministic scheduler of diffusers, for fewer steps than DDIM needs."""

from __future__ import annotations

import copy
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor

from its.interfaces import Scheduler
from its.registry import register
from its_plugins.experts.noise_schedule import STABLE_DIFFUSION

DEFAULTS = {**STABLE_DIFFUSION, "steps_offset": 1, "set_alpha_to_one": False, "clip_sample": False}
"""Stable Diffusion v1.5's settings; each scheduler takes those that it has."""


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
        self._fresh = _make(name, options or {})
        self._current: Any = None
        self._noising: Any = None  # of the same process; the one that steps adds the noise of its own step alone
        self._check()

    def timesteps(self, steps: int) -> Tensor:
        """Begin a reverse process of this many steps -> (steps,) training timesteps, int64 on the CPU.

        Raises:
            ValueError: this scheduler has no such process.
        """
        # A copy: multistep solvers keep earlier estimates, and a new process must not see them.
        self._current = copy.deepcopy(self._fresh)
        self._current.set_timesteps(steps, device="cpu")
        timesteps: Tensor = self._current.timesteps
        if len(timesteps) != steps:
            raise ValueError(f"{self.name} takes {len(timesteps)} evaluations for {steps} steps; expected one each")
        self._noising = copy.deepcopy(self._current)
        if hasattr(self._current, "set_begin_index"):
            self._current.set_begin_index(0)  # else each step looks its timestep up
        return timesteps.round().to(torch.int64)

    def step(self, noise: Tensor, index: int, latents: Tensor) -> Tensor:
        """z_t -> z_{t-1}, both (b, c, h, w).

        Raises:
            RuntimeError: no reverse process was begun.
        """
        current = self._begun()
        cleaner: Tensor = current.step(noise, current.timesteps[index], latents, return_dict=False)[0]
        return cleaner

    def add_noise(self, clean: Tensor, noise: Tensor, index: int) -> Tensor:
        """z_0 and noise, (b, c, h, w) each -> z_t at `timesteps[index]`.

        Raises:
            RuntimeError: no reverse process was begun.
        """
        self._begun()
        timesteps = self._noising.timesteps[index].expand(len(clean)).to(clean.device)
        noisy: Tensor = self._noising.add_noise(clean, noise, timesteps)
        return noisy

    def _begun(self) -> Any:
        if self._current is None:
            raise RuntimeError("no reverse process was begun: call timesteps(steps) before step or add_noise")
        return self._current

    def _check(self) -> None:
        """Two processes of the same must agree, and must start from noise of unit variance at its own scale."""
        if not hasattr(self._fresh, "add_noise"):
            raise ValueError(f"{self.name} adds no noise, as an inverse scheduler; take one that removes it")
        sigma = float(self._fresh.init_noise_sigma)
        if abs(sigma - 1) > 1e-6:
            raise ValueError(f"{self.name} starts from noise of standard deviation {sigma:g}; expected 1")
        z = torch.linspace(-1, 1, 16, device="cpu").reshape(1, 1, 4, 4)
        ends = []
        for _ in range(2):
            end = z
            for index in range(len(self.timesteps(4))):
                end = self.step(z, index, end)
            ends.append(end)
        if not torch.equal(*ends):
            raise ValueError(f"{self.name} draws noise of its own; take a deterministic scheduler")
        self._current = None


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
