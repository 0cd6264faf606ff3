"""Deterministic DDIM, the sampler of the paper and of Stable Diffusion (Song et al., arXiv 2010.02502)."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from its.interfaces import Scheduler
from its.registry import register
from its_plugins.experts.noise_schedule import Betas, alphas_of

Spacing = Literal["leading", "trailing", "linspace"]


@register
class DDIM(Scheduler):
    """DDIM without added noise (eta = 0); the defaults are Stable Diffusion v1.5's.

    Equal to diffusers' `DDIMScheduler` with `clip_sample` off and epsilon prediction; only where rounding
    makes theirs take a step too many (trailing, 61 steps and others), this one takes as many as asked for.
    The tables are Python floats, computed once, in float32 as the models were trained with.

    Args:
        train_timesteps: T, the timesteps that the experts were trained with.
        beta_start: variance of the noise that training timestep 0 adds.
        beta_end: the same for the last one.
        beta_schedule: what grows evenly in between: the square root of beta, or beta. `squaredcos_cap_v2` is the
            cosine schedule of pixel-space models such as DeepFloyd IF (Nichol, Dhariwal, arXiv 2102.09672, Eq. 17),
            which knows neither start nor end.
        spacing: which timesteps stand for the T (Lin et al., arXiv 2305.08891, Table 2).
        steps_offset: added to every timestep of the leading spacing; the other spacings don't know it.
        set_alpha_to_one: end at the clean latents, instead of at the noise of training timestep 0.

    Raises:
        ValueError: an argument is out of range.
    """

    stateless = True

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
        alphas = alphas_of(beta_schedule, beta_start, beta_end, train_timesteps)
        last = torch.ones_like(alphas[:1]) if set_alpha_to_one else alphas[:1]
        self._sqrt_alphas: list[float] = (torch.cat([alphas, last]) ** 0.5).tolist()
        self._sqrt_betas: list[float] = ((1 - torch.cat([alphas, last])) ** 0.5).tolist()
        self._timesteps: list[int] = []

    def timesteps(self, steps: int) -> Tensor:
        """Begin a reverse process of this many steps -> (steps,) training timesteps, int64 on the CPU.

        Raises:
            ValueError: `steps` does not fit into the training timesteps.
        """
        if not 1 <= steps <= self.train_timesteps:
            raise ValueError(f"steps (={steps}) must lie between 1 and train_timesteps (={self.train_timesteps})")
        self._timesteps = self._spaced(steps)
        return torch.tensor(self._timesteps, dtype=torch.int64, device="cpu")

    def step(self, noise: Tensor, index: int, latents: Tensor) -> Tensor:
        """z_t -> z_{t-1}, both (b, c, h, w): Eq. 1 of the paper with sigma_t = 0.

        Raises:
            RuntimeError: no reverse process was begun.
        """
        z, eps = latents, noise
        t, before = self._timestep(index), self._timestep_after(index)
        z_0 = (z - self._sqrt_betas[t] * eps) / self._sqrt_alphas[t]
        return self._sqrt_alphas[before] * z_0 + self._sqrt_betas[before] * eps

    def add_noise(self, clean: Tensor, noise: Tensor, index: int) -> Tensor:
        """z_0 and noise, (b, c, h, w) each -> z_t at `timesteps[index]`.

        Raises:
            RuntimeError: no reverse process was begun.
        """
        t = self._timestep(index)
        return self._sqrt_alphas[t] * clean + self._sqrt_betas[t] * noise

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

    def _timestep(self, index: int) -> int:
        if not self._timesteps:
            raise RuntimeError("no reverse process was begun: call timesteps(steps) before step or add_noise")
        return self._timesteps[index]

    def _timestep_after(self, index: int) -> int:
        # As in diffusers, a step is T // steps long in every spacing, also where the timesteps lie otherwise.
        # Beyond the last timestep lies the table's last entry, the alpha of a clean picture.
        return max(self._timestep(index) - self.train_timesteps // len(self._timesteps), -1)
