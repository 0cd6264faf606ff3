"""Contact sheets: what the pack makes of its five main pairs, seed by seed and not selected.

Shapes used here: b batch (one row a seed), z latents (b, 4, 32, 128), gray canvases (b, 256, 1024).
The product's own sampling is in `its`; this small loop keeps training independent of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from its_plugins.mini.training import autoencoder, experts, text

PAIRS = (
    ("a painting of castle towers, grayscale", "bell ringing"),
    ("a painting of tigers, grayscale", "tiger growling"),
    ("a painting of trains, grayscale", "train whistling"),
    ("a painting of furry kittens, grayscale", "a kitten meowing for attention"),
    ("a painting of cute dogs, grayscale", "dog barking"),
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a sheet is sampled, in the paper's terms: steps, gammas, weights, and shares of the process."""

    steps: int = 30
    guidance_visual: float = 4.5
    guidance_audio: float = 4.0
    weight_visual: float = 0.58
    start_visual: float = 1.0
    start_audio: float = 0.82


@dataclass(frozen=True)
class Pack:
    """A pack's parts, loaded by plain diffusers and transformers."""

    vae: AutoencoderKL
    encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    visual: UNet2DConditionModel
    audio: UNet2DConditionModel


def load(folder: Path) -> Pack:
    """The pack in `folder`, in float32."""
    unets = [
        UNet2DConditionModel.from_pretrained(folder, subfolder=name, torch_dtype=torch.float32).eval()
        for name in ("unet", "unet_audio")
    ]
    encoder = CLIPTextModel.from_pretrained(folder, subfolder="text_encoder", dtype=torch.float32).eval()
    tokenizer = CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer")
    return Pack(autoencoder.load(folder), encoder, tokenizer, *unets)


def timesteps(steps: int) -> list[int]:
    """Evenly spaced from 999 down ("trailing"), so that the first step really sees noise alone."""
    return [round(1000 - i * 1000 / steps) - 1 for i in range(steps)]


@torch.no_grad()
def sample(pack: Pack, visual: str, audio: str, *, seeds: list[int], settings: Settings, half: bool = True) -> Tensor:
    """Compose one prompt pair for each seed -> (b, 256, 1024) gray; an empty prompt switches its expert off."""
    alphas = experts.scheduler().alphas_cumprod
    table = text.embed(pack.encoder, pack.tokenizer, [visual, audio, ""])
    z = torch.stack([torch.randn(4, 32, 128, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
    moments = timesteps(settings.steps)
    parts = (
        (
            pack.visual,
            table[0],
            settings.guidance_visual,
            settings.weight_visual,
            settings.start_visual,
            visual,
        ),
        (
            pack.audio,
            table[1],
            settings.guidance_audio,
            1 - settings.weight_visual,
            settings.start_audio,
            audio,
        ),
    )
    for i, t in enumerate(moments):
        total, weights = torch.zeros_like(z), 0.0
        for unet, embedding, guidance, weight, start, prompt in parts:
            if not prompt or t > start * 1000:  # H(t_m T - t)
                continue
            both = torch.stack([table[2], embedding]).repeat_interleave(len(z), dim=0)
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                null, conditional = unet(torch.cat([z, z]), t, both).sample.float().chunk(2)
            total += weight * (null + guidance * (conditional - null))
            weights += weight
        estimate = total / weights
        alpha = alphas[t]
        earlier = alphas[moments[i + 1]] if i + 1 < len(moments) else torch.tensor(1.0)
        clean = (z - (1 - alpha).sqrt() * estimate) / alpha.sqrt()
        z = earlier.sqrt() * clean + (1 - earlier).sqrt() * estimate
    return autoencoder.decode(pack.vae, z)


def grid(rows: list[Tensor], path: Path, *, columns: int = 2, shrink: int = 2) -> None:
    """Rows of (b, 256, 1024) canvases, one row a pair, `columns` canvases side by side -> a gray PNG."""
    from PIL import Image

    lines = []
    for canvases in rows:
        blank = canvases.new_zeros(-len(canvases) % columns, *canvases.shape[1:])
        lines += [torch.cat(list(part), dim=1) for part in torch.cat([canvases, blank]).split(columns)]
        lines.append(torch.full((8, lines[-1].shape[1]), 0.5))
    picture = torch.nn.functional.avg_pool2d(torch.cat(lines)[None], shrink)[0]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((picture * 255).round().byte().numpy()).save(path, optimize=True)


def main() -> None:
    """The command line: `python -m its_plugins.mini.training.sheet --pack DIR --out FILE.png --seeds 0 1 2 3`."""
    import argparse

    parser = argparse.ArgumentParser(description="Sample the five main pairs with the pack's settings.")
    parser.add_argument("--pack", type=Path, default=Path(__file__).parents[1] / "weights")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(8)))
    options = parser.parse_args()
    pack = load(options.pack)
    rows = [sample(pack, v, a, seeds=options.seeds, settings=Settings()) for v, a in PAIRS]
    grid(rows, options.out)


if __name__ == "__main__":
    main()
