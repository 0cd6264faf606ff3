"""Noise schedules and prediction types from `scheduler_config.json`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from its.errors import UserError

Betas = Literal["scaled_linear", "linear", "squaredcos_cap_v2"]
Prediction = Literal["epsilon", "v_prediction", "sample"]

STABLE_DIFFUSION: Mapping[str, Any] = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
}
"""Settings of Stable Diffusion v1's training; the original file omits the prediction type."""


def compute_alphas(schedule: Betas, start: float, end: float, timesteps: int) -> Tensor:
    """Compute alpha_t (T,), the signal's share of the variance at each training timestep, float32 on the CPU.

    Args:
        schedule: `scaled_linear`: the square root of beta is linear; `linear`: beta is. `squaredcos_cap_v2` is the
            cosine schedule (Nichol, Dhariwal, arXiv 2102.09672, Eq. 17), which ignores `start` and `end`.
        start: beta of training timestep 0.
        end: beta of the last training timestep.
        timesteps: T.
    """
    if schedule == "squaredcos_cap_v2":
        signal = [math.cos((t / timesteps + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(timesteps + 1)]
        betas = torch.tensor([min(1 - b / a, 0.999) for a, b in pairwise(signal)], dtype=torch.float32, device="cpu")
    else:
        power = 0.5 if schedule == "scaled_linear" else 1.0
        # In float32 and in this order, as in diffusers and in training: float64 differs by 1e-6, an error that the
        # networks amplify over a hundred steps.
        ends = start**power, end**power
        betas = torch.linspace(*ends, timesteps, dtype=torch.float32, device="cpu") ** (1 / power)
    return torch.cumprod(1 - betas, dim=0)  # the paper's alpha_t, elsewhere called alpha-bar


def read_schedule(config: Mapping[str, Any], *, where: str) -> tuple[Tensor, Prediction]:
    """Read the noise schedule, as alpha_t (T,), and the prediction type from the settings of a scheduler.

    Args:
        config: contents of `scheduler_config.json`; missing keys default to Stable Diffusion v1's.
        where: name of the weights, for messages.

    Raises:
        UserError: the schedule has zero terminal SNR, or the schedule or prediction type is not supported.
    """
    settings = {**STABLE_DIFFUSION, **{key: value for key, value in config.items() if value is not None}}
    if settings.get("rescale_betas_zero_snr"):
        raise UserError(
            f"{where}: its noise schedule has zero terminal SNR (rescale_betas_zero_snr), which can't be combined with "
            "other experts. Use a model with a noise schedule like Stable Diffusion v1's"
        )
    prediction = settings["prediction_type"]
    if prediction not in get_args(Prediction):
        expected = ", ".join(get_args(Prediction))
        raise UserError(f"{where}: prediction_type is {prediction!r}; expected one of {expected}")
    if "trained_betas" in settings:
        betas = torch.tensor(settings["trained_betas"], dtype=torch.float32, device="cpu")
        return torch.cumprod(1 - betas, dim=0), prediction
    schedule = settings["beta_schedule"]
    if schedule not in get_args(Betas):
        raise UserError(f"{where}: beta_schedule is {schedule!r}; expected one of {', '.join(get_args(Betas))}")
    ends = settings["beta_start"], settings["beta_end"]
    return compute_alphas(schedule, *ends, settings["num_train_timesteps"]), prediction


class ToEpsilon:
    """Converts a network's output to a noise estimate.

    With a = alpha_t: v = sqrt(a) eps - sqrt(1 - a) z_0 (Salimans, Ho, arXiv 2202.00512) and
    z_t = sqrt(a) z_0 + sqrt(1 - a) eps, so that eps = sqrt(a) v + sqrt(1 - a) z_t.

    Args:
        alphas: alpha_t, (T,).
        prediction: prediction type of the network.
    """

    def __init__(self, alphas: Tensor, prediction: Prediction) -> None:
        self.alphas = alphas
        self.prediction = prediction
        self._roots: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def __call__(self, output: Tensor, latents: Tensor, timestep: Tensor) -> Tensor:
        """Return the noise (b, c, h, w) from output and noisy latents (b, c, h, w) and timestep (b,)."""
        if self.prediction == "epsilon":
            return output
        signal, sigma = (table[timestep].reshape(-1, 1, 1, 1) for table in self._tables(latents.device))
        if self.prediction == "v_prediction":
            return (signal * output + sigma * latents).to(output.dtype)
        return ((latents - signal * output) / sigma).to(output.dtype)

    def _tables(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return sqrt(alpha) and sqrt(1 - alpha), in float32 whatever the precision of the run."""
        if device not in self._roots:
            alphas = self.alphas.double()  # 1 - alpha is small at the first timesteps
            self._roots[device] = alphas.sqrt().float().to(device), (1 - alphas).sqrt().float().to(device)
        return self._roots[device]
