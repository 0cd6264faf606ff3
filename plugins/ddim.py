"""Deterministic DDIM, the sampler of the paper and of Stable Diffusion (Song et al., arXiv 2010.02502)."""

from __future__ import annotations

from math import sqrt
from typing import Literal, get_args

import torch
from torch import Tensor

from its.interfaces import Scheduler
from its.registry import register

Betas = Literal["scaled_linear", "linear"]
Spacing = Literal["leading", "trailing", "linspace"]


@register
class DDIM(Scheduler):
    """DDIM without added noise (eta = 0); the defaults are Stable Diffusion v1.5's.

    Equal to diffusers' `DDIMScheduler` with `clip_sample` off and epsilon prediction; only where rounding
    makes theirs take a step too many (trailing, 61 steps and others), this one takes as many as asked for.
    The tables are Python floats, computed once in double precision.

    Args:
        train_timesteps: T, the timesteps that the experts were trained with.
        beta_start: variance of the noise that training timestep 0 adds.
        beta_end: the same for the last one.
        beta_schedule: what grows evenly in between: the square root of beta, or beta.
        spacing: which timesteps stand for the T (Lin et al., arXiv 2305.08891, Table 2).
        steps_offset: added to every timestep of the leading spacing; the other spacings don't know it.
        set_alpha_to_one: end at the clean latents, instead of at the noise of training timestep 0.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        *,
        train_timesteps: int = 1000,
        beta_start: float = 0.00085,
        beta_end: float = 0.012,
        beta_schedule: Betas = "scaled_linear",
        spacing: Spacing = "leading",
        steps_offset: int = 1,
        set_alpha_to_one: bool = False,
    ) -> None:
        if train_timesteps < 1:
            raise ValueError(f"train_timesteps (={train_timesteps}) must be at least 1")
        if not 0 < beta_start <= beta_end < 1:
            raise ValueError(f"expected 0 < beta_start (={beta_start}) <= beta_end (={beta_end}) < 1")
        if beta_schedule not in get_args(Betas):
            raise ValueError(f"beta_schedule (={beta_schedule}) must be one of {', '.join(get_args(Betas))}")
        if spacing not in get_args(Spacing):
            raise ValueError(f"spacing (={spacing}) must be one of {', '.join(get_args(Spacing))}")
        if steps_offset < 0:
            raise ValueError(f"steps_offset (={steps_offset}) must not be negative")
        self.train_timesteps = train_timesteps
        self.spacing = spacing
        self.steps_offset = steps_offset
        power = 0.5 if beta_schedule == "scaled_linear" else 1.0
        ends = beta_start**power, beta_end**power
        betas = torch.linspace(*ends, train_timesteps, dtype=torch.float64, device="cpu") ** (1 / power)
        # alpha_t of the paper, which is alpha-bar elsewhere
        self.alphas: list[float] = torch.cumprod(1 - betas, dim=0).tolist()
        self.final_alpha = 1.0 if set_alpha_to_one else self.alphas[0]
        self._timesteps: list[int] = []

    def timesteps(self, steps: int) -> Tensor:
        """Begin a reverse process of this many steps -> (steps,) training timesteps, int64 on the CPU.

        Raises:
            ValueError: `steps` does not fit into the training timesteps.
        """
        if not 1 <= steps <= self.train_timesteps:
            raise ValueError(
                f"steps (={steps}) must lie between 1 and train_timesteps (={self.train_timesteps})"
            )
        self._timesteps = self._spaced(steps)
        return torch.tensor(self._timesteps, dtype=torch.int64, device="cpu")

    def step(self, noise: Tensor, index: int, latents: Tensor) -> Tensor:
        """z_t -> z_{t-1}, both (b, c, h, w): Eq. 1 of the paper with sigma_t = 0.

        Raises:
            RuntimeError: no reverse process was begun.
        """
        z, eps = latents, noise
        a_t, a_prev = self._alpha(index), self._alpha_after(index)
        z_0 = (z - sqrt(1 - a_t) * eps) / sqrt(a_t)
        return sqrt(a_prev) * z_0 + sqrt(1 - a_prev) * eps

    def add_noise(self, clean: Tensor, noise: Tensor, index: int) -> Tensor:
        """z_0 and noise, (b, c, h, w) each -> z_t at `timesteps[index]`.

        Raises:
            RuntimeError: no reverse process was begun.
        """
        a_t = self._alpha(index)
        return sqrt(a_t) * clean + sqrt(1 - a_t) * noise

    def _spaced(self, steps: int) -> list[int]:
        last = self.train_timesteps - 1
        if self.spacing == "trailing":
            return [round(self.train_timesteps * (steps - k) / steps) - 1 for k in range(steps)]
        if self.spacing == "linspace":
            return [round(last * k / max(steps - 1, 1)) for k in reversed(range(steps))]
        stride = self.train_timesteps // steps
        first = (steps - 1) * stride + self.steps_offset
        if first > last:
            raise ValueError(
                f"steps (={steps}) with steps_offset (={self.steps_offset}) would begin at timestep {first}, "
                f"but the last one of training is {last}: take fewer steps or a smaller offset"
            )
        return [first - k * stride for k in range(steps)]

    def _alpha(self, index: int) -> float:
        if not self._timesteps:
            raise RuntimeError("no reverse process was begun: call timesteps(steps) before step or add_noise")
        return self.alphas[self._timesteps[index]]

    def _alpha_after(self, index: int) -> float:
        # As in diffusers, a step is T // steps long in every spacing, also where the timesteps lie otherwise.
        previous = self._timesteps[index] - self.train_timesteps // len(self._timesteps)
        return self.alphas[previous] if previous >= 0 else self.final_alpha
