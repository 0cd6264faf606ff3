"""Deterministic DDIM, the sampler of the paper and of Stable Diffusion (Song et al., arXiv 2010.02502)."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from its.interfaces import SamplingPlan, Scheduler
from its.registry import register
from its_plugins.experts.noise_schedule import Betas, alphas_of

Spacing = Literal["leading", "trailing", "linspace"]


class _DDIMPlan(SamplingPlan):
    """Eq. 1 of the paper with sigma_t = 0.

    Args:
        timesteps: of training, falling.
        before: shares of z_0 and noise in z_t, (sqrt(alpha_t), sqrt(1 - alpha_t)) at each timestep.
        after: the same in z_{t-1}.
    """

    stateless = True

    def __init__(
        self, timesteps: list[int], before: list[tuple[float, float]], after: list[tuple[float, float]]
    ) -> None:
        self.timesteps = torch.tensor(timesteps, dtype=torch.int64, device="cpu")
        self._before, self._after = before, after

    def step(self, noise: Tensor, index: int, latents: Tensor) -> Tensor:
        (signal, sigma), (next_signal, next_sigma) = self._before[index], self._after[index]
        z_0 = (latents - sigma * noise) / signal
        return next_signal * z_0 + next_sigma * noise

    def add_noise(self, clean: Tensor, noise: Tensor, index: int) -> Tensor:
        signal, sigma = self._before[index]
        return signal * clean + sigma * noise


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
        shares = torch.cat([alphas, last])
        self._shares: list[tuple[float, float]] = torch.stack([shares**0.5, (1 - shares) ** 0.5], dim=1).tolist()

    def plan(self, steps: int) -> SamplingPlan:
        """A reverse process of this many steps.

        Raises:
            ValueError: `steps` does not fit into the training timesteps.
        """
        if not 1 <= steps <= self.train_timesteps:
            raise ValueError(f"steps (={steps}) must lie between 1 and train_timesteps (={self.train_timesteps})")
        timesteps = self._spaced(steps)
        # As in diffusers, a step is T // steps long in every spacing, whatever the distance of the timesteps.
        # After the last timestep comes the table's last entry: the shares of clean latents.
        stride = self.train_timesteps // steps
        before, after = ([self._shares[max(t - d, -1)] for t in timesteps] for d in (0, stride))
        return _DDIMPlan(timesteps, before, after)

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
