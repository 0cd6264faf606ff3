"""Deterministic DDIM (Song et al., arXiv 2010.02502), the sampler of the paper and of Stable Diffusion."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from its.interfaces import SamplingPlan, Scheduler
from its.registry import register
from its_plugins.experts.noise_schedule import Betas, compute_alphas

Spacing = Literal["leading", "trailing", "linspace"]


class _DDIMPlan(SamplingPlan):
    """Eq. 1 of the paper with sigma_t = 0.

    Args:
        timesteps: decreasing training timesteps.
        current: (sqrt(alpha_t), sqrt(1 - alpha_t)), the factors of z_0 and of the noise in z_t, for each timestep.
        following: the factors in z_{t-1}.
    """

    stateless = True

    def __init__(
        self, timesteps: list[int], current: list[tuple[float, float]], following: list[tuple[float, float]]
    ) -> None:
        self.timesteps = torch.tensor(timesteps, dtype=torch.int64, device="cpu")
        self._current, self._following = current, following

    def step(self, noise: Tensor, index: int, latents: Tensor) -> Tensor:
        (signal, sigma), (next_signal, next_sigma) = self._current[index], self._following[index]
        z_0 = (latents - sigma * noise) / signal
        return next_signal * z_0 + next_sigma * noise

    def add_noise(self, clean: Tensor, noise: Tensor, index: int) -> Tensor:
        signal, sigma = self._current[index]
        return signal * clean + sigma * noise


@register
class DDIM(Scheduler):
    """DDIM without added noise (eta = 0); the defaults are Stable Diffusion v1.5's.

    Equals diffusers' `DDIMScheduler` with `clip_sample` off and epsilon prediction, except that it always takes `steps`
    steps; by rounding, diffusers takes one more in some cases (for example, trailing spacing and 61 steps). The tables
    are Python floats, computed once, in float32 as in the models' training.

    Args:
        train_timesteps: T, number of training timesteps of the experts.
        beta_start: beta of training timestep 0.
        beta_end: beta of the last training timestep.
        beta_schedule: `scaled_linear`: the square root of beta is linear; `linear`: beta is. `squaredcos_cap_v2` is the
            cosine schedule of DeepFloyd IF and other pixel-space models (Nichol, Dhariwal, arXiv 2102.09672, Eq. 17),
            which ignores `beta_start` and `beta_end`.
        spacing: choice of timesteps (Lin et al., arXiv 2305.08891, Table 2).
        steps_offset: offset of each timestep of the leading spacing; other spacings ignore it.
        set_alpha_to_one: end at clean latents, instead of at the noise level of training timestep 0.

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
        for name, value, choices in (("beta_schedule", beta_schedule, Betas), ("spacing", spacing, Spacing)):
            if value not in get_args(choices):
                raise ValueError(f"{name} (={value}) must be one of {', '.join(get_args(choices))}")
        if steps_offset < 0:
            raise ValueError(f"steps_offset (={steps_offset}) must not be negative")
        self.train_timesteps = train_timesteps
        self.spacing = spacing
        self.steps_offset = steps_offset
        alphas = compute_alphas(beta_schedule, beta_start, beta_end, train_timesteps)
        last = torch.ones_like(alphas[:1]) if set_alpha_to_one else alphas[:1]
        alphas = torch.cat([alphas, last])
        self._factors: list[tuple[float, float]] = torch.stack([alphas**0.5, (1 - alphas) ** 0.5], dim=1).tolist()

    def plan(self, steps: int) -> SamplingPlan:
        if not 1 <= steps <= self.train_timesteps:
            raise ValueError(f"steps (={steps}) must lie between 1 and train_timesteps (={self.train_timesteps})")
        timesteps = self._choose_timesteps(steps)
        # As in diffusers, a step spans T // steps timesteps in every spacing, whatever the distance of the timesteps.
        # Index -1 is the table's last entry: the factors of the final latents.
        stride = self.train_timesteps // steps
        current, following = ([self._factors[max(t - d, -1)] for t in timesteps] for d in (0, stride))
        return _DDIMPlan(timesteps, current, following)

    def _choose_timesteps(self, steps: int) -> list[int]:
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
                f"but the last training timestep is {last}; use fewer steps or a smaller offset"
            )
        return [first - k * stride for k in range(steps)]
