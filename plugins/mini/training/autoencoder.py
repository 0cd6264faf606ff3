"""The pack's autoencoder: 8x smaller latents of four channels, small enough to decode in a second on a CPU.

Shapes used here: b batch, images (b, 3, h, w) in [-1, 1] (gray, three times over), latents (b, 4, h/8, w/8).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from einops import rearrange, repeat
from torch import Tensor

LATENT_NOISE = 0.08  # standard deviations
KL_WEIGHT = 3e-5  # ten times more left one of the four channels nearly dead


def build() -> AutoencoderKL:
    """An untrained autoencoder, 1.3 M parameters."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 80),
        layers_per_block=1,
        norm_num_groups=8,
        mid_block_add_attention=False,
        scaling_factor=1.0,
        sample_size=256,
    )


def to_images(gray: Tensor) -> Tensor:
    """(b, h, w) gray in [0, 1] -> (b, 3, h, w) in [-1, 1]."""
    return repeat(gray * 2 - 1, "b h w -> b 3 h w")


def to_gray(images: Tensor) -> Tensor:
    """(b, 3, h, w) in [-1, 1] -> (b, h, w) gray in [0, 1]."""
    return (images.mean(1) / 2 + 0.5).clamp(0, 1)


def loss(reconstruction: Tensor, images: Tensor) -> Tensor:
    """L1, half the squared error, and a quarter of the L1 error of the gradients, which keeps edges sharp."""
    error = reconstruction - images
    rows, columns = error.diff(dim=2), error.diff(dim=3)
    return error.abs().mean() + 0.5 * error.square().mean() + 0.25 * (rows.abs().mean() + columns.abs().mean())


def train(
    model: AutoencoderKL,
    batches: Iterator[Tensor],
    *,
    seconds: float,
    log: Callable[[dict], None],
    peak: float = 2e-3,
    decoder_only: bool = False,
) -> None:
    """Fit `model` to (b, h, w) gray crops for `seconds`; the learning rate's cosine ends with the time.

    With `decoder_only` the latents stay what they are, so experts trained on them stay right; the decoder
    then sees them with a little noise, as an expert's latents have.
    """
    parts = [model.decoder, model.post_quant_conv] if decoder_only else [model]
    parameters = [parameter for part in parts if part is not None for parameter in part.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=peak, betas=(0.9, 0.99), weight_decay=1e-4)
    model.train()
    start, step, smooth = time.monotonic(), 0, 0.0
    while (done := (time.monotonic() - start) / seconds) < 1:
        rate = peak * min(1, (step + 1) / 50) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        images = to_images(next(batches))
        with torch.autocast("cpu", torch.bfloat16):
            if decoder_only:
                with torch.no_grad():
                    mean = model.encode(images).latent_dist.mean
                reconstruction = model.decode(mean + LATENT_NOISE * torch.randn_like(mean)).sample
                divergence = torch.zeros(())
            else:
                posterior = model.encode(images).latent_dist
                reconstruction = model.decode(posterior.sample()).sample
                divergence = posterior.kl().float().mean() * 64 / images[0, 0].numel()
        objective = loss(reconstruction.float(), images)
        optimizer.zero_grad(set_to_none=True)
        (objective + KL_WEIGHT * divergence).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step += 1
        smooth += max(0.05, 1 / step) * (objective.item() - smooth)
        if step % 50 == 0:
            name, passed = "decoder" if decoder_only else "vae", round(time.monotonic() - start, 1)
            log({"stage": name, "step": step, "loss": round(smooth, 5), "seconds": passed})
    model.eval()


@torch.no_grad()
def whiten(model: AutoencoderKL, gray: Tensor) -> None:
    """Fold a linear map into quant_conv and post_quant_conv: latents of (b, h, w) `gray` get unit covariance.

    The posterior's log variance goes through the same convolution as its mean and keeps its old rows.
    """
    latents = encode(model, gray)
    flat = rearrange(latents, "b c h w -> c (b h w)").double()
    mean = flat.mean(1)
    covariance = torch.cov(flat)
    values, vectors = torch.linalg.eigh(covariance)
    forward = vectors @ torch.diag(values.rsqrt()) @ vectors.T  # symmetric, so that channels keep their meaning
    backward = torch.linalg.inv(forward)
    quant, post = model.quant_conv, model.post_quant_conv
    if quant is None or post is None or quant.bias is None or post.bias is None:
        raise ValueError("the autoencoder needs quant_conv and post_quant_conv with biases to whiten its latents")
    kernel, bias = quant.weight[:4, :, 0, 0].double(), quant.bias[:4].double()
    quant.weight[:4, :, 0, 0] = (forward @ kernel).float()
    quant.bias[:4] = (forward @ (bias - mean)).float()
    kernel = post.weight[:, :, 0, 0].double()
    post.bias += (kernel @ mean).float()
    post.weight[:, :, 0, 0] = (kernel @ backward).float()


@torch.no_grad()
def encode(model: AutoencoderKL, gray: Tensor, batch: int = 4) -> Tensor:
    """(b, h, w) gray -> (b, 4, h/8, w/8) float32 latents: the posterior's mean."""
    with torch.autocast("cpu", torch.bfloat16):
        return torch.cat([model.encode(to_images(part)).latent_dist.mean.float() for part in gray.split(batch)])


@torch.no_grad()
def decode(model: AutoencoderKL, latents: Tensor, batch: int = 4) -> Tensor:
    """(b, 4, h/8, w/8) latents -> (b, h, w) gray."""
    return torch.cat([to_gray(model.decode(part).sample) for part in latents.split(batch)])


def decibels(model: AutoencoderKL, gray: Tensor) -> float:
    """Peak signal-to-noise ratio of the reconstruction of (b, h, w) gray."""
    error = (decode(model, encode(model, gray)) - gray).square().mean().item()
    return -10 * math.log10(error)


def load(folder: Path) -> AutoencoderKL:
    """The trained autoencoder of a pack."""
    return AutoencoderKL.from_pretrained(folder, subfolder="vae", torch_dtype=torch.float32).eval()


def crops(pool: Tensor, *, batch: int, size: int, seed: int) -> Iterator[Tensor]:
    """Endless (batch, size, size) gray crops of a (count, h, w) uint8 pool."""
    generator = torch.Generator().manual_seed(seed)
    count, height, width = pool.shape
    while True:
        which = torch.randint(count, (batch,), generator=generator).tolist()
        tops = torch.randint(height - size + 1, (batch,), generator=generator).tolist()
        lefts = torch.randint(width - size + 1, (batch,), generator=generator).tolist()
        parts = [pool[i, t : t + size, k : k + size] for i, t, k in zip(which, tops, lefts, strict=True)]
        yield torch.stack(parts).float() / 255
