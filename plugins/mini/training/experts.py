"""Train the pack's two noise experts.

Shapes used here: b batch, z latents (b, 4, 32, 128), l token positions, c text channels.

Both start from one network trained on pictures and sounds, since most of denoising is common to both. Then the visual
expert is trained on pictures and products, and the audio expert on sounds and products.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from its_plugins.experts.noise_schedule import STABLE_DIFFUSION
from its_plugins.mini.captions import CONCEPTS, Kind, captions
from its_plugins.mini.training import text
from its_plugins.mini.training.canvases import cumulative, pick
from its_plugins.mini.training.loop import Log, fit
from its_plugins.mini.training.text import CHANNELS

SNR_CAP = 5.0  # min-SNR weighting, arXiv 2303.09556
EMPTY_SHARE = 0.1  # share of captions dropped, for classifier-free guidance
OFFSET = 0.1
"""Standard deviation of the offset noise, which is constant over each channel of a canvas.

At the last timestep the noisy latents still contain 0.07 of the clean latents. Without offset noise, a network learns
to infer their mean from the mean of the noisy latents, which is random when sampling starts (standard deviation 1/64).
With some seeds, the sound then filled the canvas.
"""


def build() -> UNet2DConditionModel:
    """Build an untrained expert of 3.7 M parameters, 5 GFLOP a forward pass.

    `attention_head_dim` is the number of heads, as in Stable Diffusion 1.5. Only the lowest resolution has
    self-attention; on 16 x 64 positions it would take a third of a step on a CPU.
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
    """Build Stable Diffusion's noise schedule."""
    return DDPMScheduler(**STABLE_DIFFUSION, clip_sample=False)


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
"""Training mix of each network: shares of (sort of canvas, kind of caption)."""


class CaptionEmbeddings:
    """Embeddings of all captions of all classes, and of the empty caption."""

    def __init__(self, table: dict[str, list[Tensor]], device: torch.device, empty_share: float = EMPTY_SHARE) -> None:
        """`table` has (embeddings, l, c) for each class of each kind, and one (l, c) under "empty"."""
        self.empty_share = empty_share
        groups = [table["empty"][0][None], *(group for kind in CONCEPTS for group in table[kind])]
        counts = torch.tensor([len(group) for group in groups])
        self.embeddings = torch.cat(groups).to(device)
        self.counts, self.starts = counts.to(device), (counts.cumsum(0) - counts).to(device)
        sizes = [len(CONCEPTS[kind]) for kind in CONCEPTS]
        self.first: dict[Kind, int] = dict(zip(CONCEPTS, (1, 1 + sizes[0]), strict=True))

    @classmethod
    def of(
        cls,
        encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        device: torch.device,
        empty_share: float = EMPTY_SHARE,
    ) -> CaptionEmbeddings:
        """Encode all captions by the pack's text encoder."""
        table = {
            kind: [text.embed(encoder, tokenizer, captions(kind, name)) for name in CONCEPTS[kind]] for kind in CONCEPTS
        }
        return cls({**table, "empty": [text.embed(encoder, tokenizer, [""])[0]]}, device, empty_share)

    def draw(self, class_ids: Tensor) -> Tensor:
        """Draw a random caption's embedding (b, l, c) for each class (b,), `empty_share` of them empty.

        Classes are numbered across kinds: see `first`.
        """
        class_ids = class_ids * (torch.rand(len(class_ids), device=class_ids.device) >= self.empty_share)
        row = (torch.rand(len(class_ids), device=class_ids.device) * self.counts[class_ids]).long()
        return self.embeddings[self.starts[class_ids] + row]


@dataclass(frozen=True)
class Examples:
    """Training data: clean canvases, and m pairs of a canvas and a class, from which batches are drawn."""

    clean: Tensor  # (n, c, h, w)
    rows: Tensor  # (m,), indices of canvases
    class_ids: Tensor  # (m,), numbers of classes
    weights: Tensor  # (m,), cumulative
    embeddings: CaptionEmbeddings

    @classmethod
    def of(
        cls,
        clean: Tensor,
        sorts: Tensor,
        names: dict[Kind, Tensor],
        mix: dict[tuple[int, Kind], float],
        embeddings: CaptionEmbeddings,
    ) -> Examples:
        """Combine canvases, their sorts (n,) and class indices by kind (n,) by a mix of (sort, kind of caption)."""
        rows, class_ids, weights = [], [], []
        for (sort, kind), share in mix.items():
            of_sort = (sorts == sort).nonzero()[:, 0]
            rows.append(of_sort)
            class_ids.append(embeddings.first[kind] + names[kind][of_sort])
            weights.append(torch.full((len(of_sort),), share / max(1, len(of_sort)), device=clean.device))
        return cls(clean, torch.cat(rows), torch.cat(class_ids), cumulative(torch.cat(weights)), embeddings)

    def draw(self, batch: int) -> tuple[Tensor, Tensor]:
        """Draw canvases (b, c, h, w) and embeddings of their captions (b, l, c)."""
        pairs = pick(self.weights, batch)
        return self.clean[self.rows[pairs]].float(), self.embeddings.draw(self.class_ids[pairs])


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

    `noising` defaults to Stable Diffusion's noise schedule.
    """
    device = examples.clean.device
    model.to(device)
    if device.type == "cpu":
        # With so few positions, unfused attention is faster on a CPU than the fused kernel, by a third.
        model.set_attn_processor(AttnProcessor())
    loss = NoiseLoss(noising or scheduler(), offset, device)

    def objective(model: UNet2DConditionModel) -> Tensor:
        clean, embeddings = examples.draw(batch)
        return loss(clean, lambda noisy, t: model(noisy, t, embeddings).sample)

    return fit(model, objective, seconds=seconds, peak=peak, name=name, log=log)


class NoiseLoss:
    """Weighted error of noise estimates at random timesteps."""

    def __init__(self, noising: DDPMScheduler, offset: float, device: torch.device) -> None:
        """`offset` is the standard deviation of the offset noise."""
        self.offset, self.alphas = offset, noising.alphas_cumprod.to(device)
        snr = self.alphas / (1 - self.alphas)
        self.weights = snr.clamp(max=SNR_CAP) / snr

    def __call__(self, clean: Tensor, estimate: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Add noise to clean latents (b, c, h, w) and compare it with `estimate(noisy, timesteps)`."""
        t = torch.randint(len(self.alphas), (len(clean),), device=clean.device)
        noise = torch.randn_like(clean) + self.offset * torch.randn_like(clean[:, :, :1, :1])
        alpha = self.alphas[t][:, None, None, None]
        error = estimate(alpha.sqrt() * clean + (1 - alpha).sqrt() * noise, t).float() - noise
        return (error.square().mean((1, 2, 3)) * self.weights[t]).mean()
