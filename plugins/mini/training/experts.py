"""The pack's two noise experts: small UNets of Stable Diffusion's kind, and how they learn.

Shapes used here: b batch, z latents (b, 4, 32, 128), l token positions, c text channels.

Both start as one network that learns pictures and sounds alike, since most of denoising is common to them;
then each goes on alone, the visual expert on pictures and products, the audio expert on sounds and products.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor

from its_plugins.mini.training.text import CHANNELS

SNR_CAP = 5.0  # min-SNR weighting, arXiv 2303.09556
EMPTY_SHARE = 0.1  # captions dropped, for classifier-free guidance


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


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run trains on.

    Attributes:
        shares: how often to draw ("pictures", "visual"), ("sounds", "audio"), ("products", either): which
            canvases, and which of their captions.
        width: latent columns of a crop; 128 is the whole canvas.
        batch: crops a step.
        peak: learning rate after warm-up; a cosine takes it to almost 0 when the time is up.
    """

    shares: dict[tuple[str, str], float]
    width: int
    batch: int
    peak: float = 1e-3


JOINT = Plan(
    shares={
        ("pictures", "visual"): 0.22,
        ("sounds", "audio"): 0.2,
        ("products", "visual"): 0.34,
        ("products", "audio"): 0.24,
    },
    width=64,
    batch=16,
)
VISUAL = Plan(
    shares={("pictures", "visual"): 0.3, ("products", "visual"): 0.7},
    width=128,
    batch=8,
    peak=8e-4,
)
AUDIO = Plan(
    shares={("sounds", "audio"): 0.4, ("products", "audio"): 0.6},
    width=128,
    batch=8,
    peak=8e-4,
)
PLANS = {"joint": JOINT, "visual": VISUAL, "audio": AUDIO}


class Source(Protocol):
    """Where training draws from."""

    def refresh(self) -> None:
        """Take in what has appeared meanwhile."""

    def batches(self, plan: Plan) -> Iterator[tuple[Tensor, Tensor]]:
        """Endless (clean latents (b, c, h, w), embeddings (b, l, c))."""


class Latents:
    """Cached latents in shards that another process may still be adding to, with the captions' embeddings.

    A shard is a safetensors file: for each source its latents (n, 4, 32, 128) in half precision, and the
    class indices `<source>.visual` and `<source>.audio`, -1 where there is none.
    """

    def __init__(self, folder: Path, *, embeddings: dict[str, list[Tensor]], seed: int) -> None:
        """`embeddings`: "visual" and "audio", (wordings, l, c) for each class; "empty", one (l, c)."""
        self.folder, self.embeddings = folder, embeddings
        self.generator = torch.Generator().manual_seed(seed)
        self.read: set[Path] = set()
        self.data: dict[str, Tensor] = {}
        self.refresh()

    def refresh(self) -> None:
        """Take in shards that have appeared."""
        from safetensors.torch import load_file

        for path in sorted(set(self.folder.glob("*.safetensors")) - self.read):
            for key, value in load_file(path).items():
                self.data[key] = torch.cat([self.data[key], value]) if key in self.data else value
            self.read.add(path)
        if not self.data:
            raise FileNotFoundError(f"no *.safetensors in {self.folder}: make the latents first")

    def batches(self, plan: Plan) -> Iterator[tuple[Tensor, Tensor]]:
        """Endless (latents (b, 4, 32, width), embeddings (b, l, c))."""
        kinds, shares = list(plan.shares), torch.tensor(list(plan.shares.values()))
        while True:
            rows = [
                self._row(*kinds[int(i)], plan.width)
                for i in torch.multinomial(shares, plan.batch, replacement=True, generator=self.generator)
            ]
            yield torch.stack([z for z, _ in rows]), torch.stack([text for _, text in rows])

    def _row(self, source: str, kind: str, width: int) -> tuple[Tensor, Tensor]:
        row = self._draw(len(self.data[source]))
        z = self.data[source][row].float()
        if width < z.shape[-1]:  # at the slots' borders, give or take a little, so that most objects stay whole
            left = 32 * self._draw((z.shape[-1] - width) // 32 + 1) + self._draw(7) - 3
            left = min(max(left, 0), z.shape[-1] - width)
            z = z[..., left : left + width]
        if torch.rand((), generator=self.generator) < EMPTY_SHARE:
            return z, self.embeddings["empty"][0]
        wordings = self.embeddings[kind][int(self.data[f"{source}.{kind}"][row])]
        return z, wordings[self._draw(len(wordings))]

    def _draw(self, count: int) -> int:
        return int(torch.randint(count, (), generator=self.generator))


def train(
    model: UNet2DConditionModel,
    latents: Source,
    plan: Plan,
    *,
    seconds: float,
    name: str,
    log: Callable[[dict], None],
    checkpoint: Path,
    noising: DDPMScheduler | None = None,
) -> UNet2DConditionModel:
    """Train for `seconds` of wall time and return the average of the weights (EMA).

    `noising` is Stable Diffusion's if none is given.

    Every few minutes all state goes to `checkpoint`, from which a killed run goes on where it was.
    """
    # Plain attention: for the few positions here it is a third faster on a CPU than the fused kernel.
    model.set_attn_processor(AttnProcessor())
    alphas = (noising or scheduler()).alphas_cumprod
    snr = alphas / (1 - alphas)
    weights = snr.clamp(max=SNR_CAP) / snr
    optimizer = torch.optim.AdamW(model.parameters(), lr=plan.peak, betas=(0.9, 0.99), weight_decay=1e-2)
    average = copy.deepcopy(model).eval().requires_grad_(False)
    step, smooth, spent = 0, 1.0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        step, smooth, spent = state["step"], state["loss"], state["seconds"]
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
    start, saved = time.monotonic() - spent, spent
    model.train()
    batches = latents.batches(plan)
    while (passed := time.monotonic() - start) < seconds:
        rate = plan.peak * min(1, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * passed / seconds)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        z, text = next(batches)
        t = torch.randint(1000, (len(z),))
        noise = torch.randn_like(z)
        alpha = alphas[t][:, None, None, None]
        with torch.autocast("cpu", torch.bfloat16):
            estimate = model(alpha.sqrt() * z + (1 - alpha).sqrt() * noise, t, text).sample
        objective = ((estimate.float() - noise).square().mean((1, 2, 3)) * weights[t]).mean()
        optimizer.zero_grad(set_to_none=True)
        objective.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        decay = min(0.998, (1 + step) / (20 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)
        smooth += max(0.02, 1 / step) * (objective.item() - smooth)
        if step % 25 == 0:
            log({"stage": name, "step": step, "loss": round(smooth, 5), "seconds": round(passed, 1)})
        if passed > saved + 240:
            saved = passed
            latents.refresh()
            _save(checkpoint, model, average, optimizer, {"step": step, "loss": smooth, "seconds": passed})
    log({"stage": name, "step": step, "loss": round(smooth, 5), "seconds": round(passed, 1)})
    return average


def _save(
    path: Path,
    model: UNet2DConditionModel,
    average: UNet2DConditionModel,
    optimizer: torch.optim.Optimizer,
    numbers: dict[str, float],
) -> None:
    state = {
        "model": model.state_dict(),
        "average": average.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    unfinished = path.with_suffix(".part")
    torch.save({**state, **numbers}, unfinished)
    unfinished.rename(path)
