"""Train the pack's autoencoder: four latent channels, 8x downsampling, decodes in a second on a CPU.

Shapes used here: b batch, images (b, 3, h, w) in [-1, 1] (three equal channels), latents (b, 4, h/8, w/8).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from einops import rearrange, repeat
from torch import Tensor

from its_plugins.mini.training.loop import Log, bfloat16, fit

LATENT_NOISE = 0.08  # standard deviations
KL_WEIGHT = 3e-5  # with ten times this weight, one of the four channels was nearly unused


def build() -> AutoencoderKL:
    """Build an untrained autoencoder of 1.3 M parameters."""
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
    """Convert gray (b, h, w) in [0, 1] to images (b, 3, h, w) in [-1, 1]."""
    return repeat(gray * 2 - 1, "b h w -> b 3 h w")


def to_gray(images: Tensor) -> Tensor:
    """Convert images (b, 3, h, w) in [-1, 1] to gray (b, h, w) in [0, 1]."""
    return (images.mean(1) / 2 + 0.5).clamp(0, 1)


def loss(reconstruction: Tensor, images: Tensor) -> Tensor:
    """Compute L1 + 0.5 MSE + 0.5 L1 of the image gradients. The last term keeps onsets and edges sharp."""
    error = reconstruction - images
    rows, columns = error.diff(dim=2), error.diff(dim=3)
    return error.abs().mean() + 0.5 * error.square().mean() + 0.5 * (rows.abs().mean() + columns.abs().mean())


def train(
    model: AutoencoderKL,
    draw: Callable[[], Tensor],
    *,
    seconds: float,
    log: Log,
    peak: float,
    decoder_only: bool = False,
) -> AutoencoderKL:
    """Train for `seconds` on gray crops (b, h, w) that `draw` returns. Returns the average of the weights (EMA).

    With `decoder_only`, the encoder is frozen, so that experts trained on its latents stay valid, and the decoder is
    trained on latents with a little noise, like those of the experts.
    """
    for module in (model.encoder, model.quant_conv):
        module.requires_grad_(not decoder_only)

    def objective(model: AutoencoderKL) -> Tensor:
        images = to_images(draw())
        if decoder_only:
            with torch.no_grad():
                mean = model.encode(images).latent_dist.mean
            latents, penalty = mean + LATENT_NOISE * torch.randn_like(mean), 0.0
        else:
            posterior = model.encode(images).latent_dist
            latents = posterior.mean + posterior.std * torch.randn_like(posterior.mean)
            penalty = KL_WEIGHT * posterior.kl().float().mean() * 64 / images[0, 0].numel()
        return loss(model.decode(latents).sample.float(), images) + penalty

    name = "decoder" if decoder_only else "vae"
    return fit(model, objective, seconds=seconds, peak=peak, name=name, log=log, warm_up=50, weight_decay=1e-4)


@torch.no_grad()
def whiten(model: AutoencoderKL, gray: Tensor) -> None:
    """Whiten the latents: fold a linear map into quant_conv and post_quant_conv.

    Latents of `gray` (b, h, w) then have mean 0 and unit covariance. Of quant_conv, only the rows of the posterior's
    mean change, not those of its log variance.

    Raises:
        ValueError: a convolution or its bias is missing.
    """
    latents = encode(model, gray)
    flat = rearrange(latents, "b c h w -> c (b h w)").double()
    mean = flat.mean(1)
    covariance = torch.cov(flat)
    values, vectors = torch.linalg.eigh(covariance)
    forward = vectors @ torch.diag(values.rsqrt()) @ vectors.T  # symmetric: closest to the old channels
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
    """Encode gray canvases (b, h, w) to the posterior's mean (b, 4, h/8, w/8), in float32."""
    with bfloat16(gray.device):
        return torch.cat([model.encode(to_images(x)).latent_dist.mean.float() for x in gray.split(batch)])


@torch.no_grad()
def decode(model: AutoencoderKL, latents: Tensor, batch: int = 4) -> Tensor:
    """Decode latents (b, 4, h/8, w/8) to gray canvases (b, h, w)."""
    return torch.cat([to_gray(model.decode(z).sample) for z in latents.split(batch)])


def load(folder: Path) -> AutoencoderKL:
    """Load the trained autoencoder of a pack, in float32."""
    return AutoencoderKL.from_pretrained(folder, subfolder="vae", torch_dtype=torch.float32).eval()
