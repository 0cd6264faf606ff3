"""The pack's two noise experts: small UNets of Stable Diffusion's kind, and how they learn.

Shapes used here: b batch, z latents (b, 4, 32, 128), l token positions, c text channels.

Both start as one network that learns pictures and sounds alike, since most of denoising is common to them;
then each goes on alone, the visual expert on pictures and products, the audio expert on sounds and products.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor

from its_plugins.mini.captions import CONCEPTS, Kind
from its_plugins.mini.training.canvases import cumulative, pick
from its_plugins.mini.training.loop import Log, fit
from its_plugins.mini.training.text import CHANNELS

SNR_CAP = 5.0  # min-SNR weighting, arXiv 2303.09556
EMPTY_SHARE = 0.1  # captions dropped, for classifier-free guidance
OFFSET = 0.1
"""Standard deviation of the offset noise, a constant for each channel of a canvas.

At the last timestep a little of the clean latents (0.07) is left under the noise. Without an offset a network learns
to read their mean off the noise's mean, which is chance when sampling begins (standard deviation 1/64): it decided
whether a canvas became a picture that sounds or a sound without a picture.
"""


def build() -> UNet2DConditionModel:
    """An untrained expert, 3.7 M parameters, 5 GFLOP a forward.

    `attention_head_dim` is the number of heads here, as in Stable Diffusion 1.5. Self-attention runs on the
    8x-smaller level alone: on 16 x 64 positions it took a third of a CPU step.
    """
    return UNet2DConditionModel(
        sample_size=(32, 128),
        in_channels=4,
        out_channels=4,
        block_out_channels=(48, 80, 104),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        only_cross_attention=(False, True, False),
        cross_attention_dim=CHANNELS,
        attention_head_dim=4,
        norm_num_groups=8,
    )


def scheduler() -> DDPMScheduler:
    """Stable Diffusion's noise schedule."""
    return DDPMScheduler(
        num_train_timesteps=1000,
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
    )


MIXES: dict[str, dict[tuple[str, Kind], float]] = {
    "joint": {
        ("pictures", "visual"): 0.2,
        ("sounds", "audio"): 0.24,
        ("products", "visual"): 0.28,
        ("products", "audio"): 0.28,
    },
    "visual": {("pictures", "visual"): 0.3, ("products", "visual"): 0.7},
    "audio": {("sounds", "audio"): 0.4, ("products", "audio"): 0.6},
}
"""What each network trains on: how often a sort of canvas with the caption of its picture or of its sound."""


class Wordings:
    """The embeddings of all captions of all classes, and of the empty one."""

    def __init__(self, table: dict[str, list[Tensor]], device: torch.device) -> None:
        """`table`: for each kind, (wordings, l, c) for each class; "empty", one (l, c)."""
        lots = [table["empty"][0][None], *(lot for kind in CONCEPTS for lot in table[kind])]
        counts = torch.tensor([len(lot) for lot in lots])
        self.embeddings = torch.cat(lots).to(device)
        self.counts, self.starts = counts.to(device), (counts.cumsum(0) - counts).to(device)
        sizes = [len(CONCEPTS[kind]) for kind in CONCEPTS]
        self.first: dict[Kind, int] = dict(zip(CONCEPTS, (1, 1 + sizes[0]), strict=True))

    def draw(self, lots: Tensor) -> Tensor:
        """A random wording for each of these classes (b,), numbered through all kinds, a tenth empty: (b, l, c)."""
        lots = lots * (torch.rand(len(lots), device=lots.device) >= EMPTY_SHARE)
        row = (torch.rand(len(lots), device=lots.device) * self.counts[lots]).long()
        return self.embeddings[self.starts[lots] + row]


@dataclass(frozen=True)
class Examples:
    """Clean canvases (n, c, h, w) to learn from, and what may be said of them: rows, classes, running weights (m,)."""

    clean: Tensor
    rows: Tensor
    lots: Tensor
    weights: Tensor
    wordings: Wordings

    @classmethod
    def of(
        cls,
        clean: Tensor,
        sorts: Tensor,
        names: dict[Kind, Tensor],
        mix: dict[tuple[int, Kind], float],
        wordings: Wordings,
    ) -> Examples:
        """Canvases of the sorts (n,) with class indices by kind (n,), drawn and captioned by a mix of shares."""
        rows, lots, weights = [], [], []
        for (sort, kind), share in mix.items():
            chosen = (sorts == sort).nonzero()[:, 0]
            rows.append(chosen)
            lots.append(wordings.first[kind] + names[kind][chosen])
            weights.append(torch.full((len(chosen),), share / max(1, len(chosen)), device=clean.device))
        return cls(clean, torch.cat(rows), torch.cat(lots), cumulative(torch.cat(weights)), wordings)

    def draw(self, batch: int) -> tuple[Tensor, Tensor]:
        """Canvases (b, c, h, w) and embeddings of their captions (b, l, c)."""
        which = pick(self.weights, batch)
        return self.clean[self.rows[which]].float(), self.wordings.draw(self.lots[which])


def train(
    model: UNet2DConditionModel,
    examples: Examples,
    *,
    batch: int,
    seconds: float,
    peak: float,
    name: str,
    log: Log,
    noising: DDPMScheduler | None = None,
    offset: float = OFFSET,
) -> UNet2DConditionModel:
    """Train for `seconds` of wall time and return the average of the weights (EMA).

    `noising` is Stable Diffusion's if none is given.
    """
    device = examples.clean.device
    model.to(device)
    if device.type == "cpu":
        # Plain attention: for the few positions here it is a third faster on a CPU than the fused kernel.
        model.set_attn_processor(AttnProcessor())
    alphas = (noising or scheduler()).alphas_cumprod.to(device)
    snr = alphas / (1 - alphas)
    weights = snr.clamp(max=SNR_CAP) / snr

    def objective(model: UNet2DConditionModel) -> Tensor:
        clean, text = examples.draw(batch)
        t = torch.randint(len(alphas), (batch,), device=device)
        noise = torch.randn_like(clean) + offset * torch.randn_like(clean[:, :, :1, :1])
        alpha = alphas[t][:, None, None, None]
        estimate = model(alpha.sqrt() * clean + (1 - alpha).sqrt() * noise, t, text).sample
        return ((estimate.float() - noise).square().mean((1, 2, 3)) * weights[t]).mean()

    return fit(model, objective, seconds=seconds, peak=peak, name=name, log=log)
