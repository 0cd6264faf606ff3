"""Noise schedules and prediction types, as `scheduler_config.json` states them."""

from __future__ import annotations

import math
from collections.abc import Mapping
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
"""What Stable Diffusion v1 was trained with; its own file leaves the prediction type out."""


def alphas_of(schedule: Betas, start: float, end: float, timesteps: int) -> Tensor:
    """(T,) alpha_t, float32 on the CPU: the share of the signal's variance at each training timestep.

    Args:
        schedule: what grows evenly: the square root of beta (`scaled_linear`) or beta (`linear`); `squaredcos_cap_v2`
            is the cosine schedule of Nichol and Dhariwal (arXiv 2102.09672, Eq. 17), which has no start and end.
        start: beta of training timestep 0.
        end: beta of the last one.
        timesteps: T.
    """
    if schedule == "squaredcos_cap_v2":
        betas = _cosine_betas(timesteps)
    else:
        power = 0.5 if schedule == "scaled_linear" else 1.0
        # In float32 and in this order, as diffusers does and as the models were trained: float64 differs by 1e-6,
        # which the networks let grow over a hundred steps.
        ends = start**power, end**power
        betas = torch.linspace(*ends, timesteps, dtype=torch.float32, device="cpu") ** (1 / power)
    return torch.cumprod(1 - betas, dim=0)  # alpha_t of the paper, which is alpha-bar elsewhere


def read_schedule(config: Mapping[str, Any], *, where: str) -> tuple[Tensor, Prediction]:
    """The noise schedule and the prediction type of a `scheduler_config.json`.

    Args:
        config: content of the file; what it leaves out is Stable Diffusion v1's.
        where: the weights, for messages.

    Raises:
        UserError: a schedule that experts can't share: with zero terminal signal, or of a kind that is not known.
    """
    known = {**STABLE_DIFFUSION, **{key: value for key, value in config.items() if value is not None}}
    if known.get("rescale_betas_zero_snr"):
        raise UserError(
            f"{where}: its noise schedule ends without signal (rescale_betas_zero_snr), where no noise estimate tells "
            "the picture, so it can't share a canvas with other experts. Expected a model with a schedule as Stable "
            "Diffusion v1's"
        )
    prediction = known["prediction_type"]
    if prediction not in get_args(Prediction):
        expected = ", ".join(get_args(Prediction))
        raise UserError(f"{where}: prediction_type is {prediction!r}; expected one of {expected}")
    if "trained_betas" in known:
        betas = torch.tensor(known["trained_betas"], dtype=torch.float32, device="cpu")
        return torch.cumprod(1 - betas, dim=0), prediction
    schedule = known["beta_schedule"]
    if schedule not in get_args(Betas):
        raise UserError(f"{where}: beta_schedule is {schedule!r}; expected one of {', '.join(get_args(Betas))}")
    return alphas_of(schedule, known["beta_start"], known["beta_end"], known["num_train_timesteps"]), prediction


class ToEpsilon:
    """Turns a network's output into a noise estimate.

    With a = alpha_t: v = sqrt(a) eps - sqrt(1 - a) z_0 (Salimans, Ho, arXiv 2202.00512) and
    z_t = sqrt(a) z_0 + sqrt(1 - a) eps, so that eps = sqrt(a) v + sqrt(1 - a) z_t.

    Args:
        alphas: (T,) alpha_t.
        prediction: what the network was trained to predict.
    """

    def __init__(self, alphas: Tensor, prediction: Prediction) -> None:
        self.alphas = alphas
        self.prediction = prediction
        self._roots: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def __call__(self, output: Tensor, latents: Tensor, timestep: Tensor) -> Tensor:
        """Output and noisy latents (b, c, h, w), timestep (b,) -> noise (b, c, h, w)."""
        if self.prediction == "epsilon":
            return output
        signal, sigma = (table[timestep].reshape(-1, 1, 1, 1) for table in self._tables(latents.device))
        if self.prediction == "v_prediction":
            return (signal * output + sigma * latents).to(output.dtype)
        return ((latents - signal * output) / sigma).to(output.dtype)

    def _tables(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """sqrt(alpha) and sqrt(1 - alpha), in float32 whatever the precision of the run."""
        if device not in self._roots:
            alphas = self.alphas.double()  # 1 - alpha is small at the first timesteps
            self._roots[device] = alphas.sqrt().float().to(device), (1 - alphas).sqrt().float().to(device)
        return self._roots[device]


def _cosine_betas(timesteps: int) -> Tensor:
    def signal(time: float) -> float:  # alpha-bar at a share of the whole time
        return math.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2

    shares = [signal((t + 1) / timesteps) / signal(t / timesteps) for t in range(timesteps)]
    return torch.tensor([min(1 - share, 0.999) for share in shares], dtype=torch.float32, device="cpu")
