"""Sample from the pack in large batches on any device, for contact sheets, the settings search and measurements.

Shapes used here: b batch, z latents (b, 4, 32, 128), gray canvases (b, 256, 1024), waveforms (b, n) at 16 kHz.
This small loop keeps training independent of the sampling in `its`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from its.audio.spectrogram import AUFFUSION
from its_plugins.mini.captions import Kind
from its_plugins.mini.judge_network import Classifier, amplify, resize
from its_plugins.mini.judge_network import load as load_judge
from its_plugins.mini.training import autoencoder, experts, text
from its_plugins.mini.training.control import estimate_noise
from its_plugins.mini.training.loop import bfloat16
from its_plugins.vocoders.griffin_lim import GriffinLim

PAIRS = {
    "castle": ("a painting of castle towers, grayscale", "bell ringing"),
    "dogs": ("a painting of cute dogs, grayscale", "dog barking"),
    "garden": ("a painting of a blooming garden with many birds, grayscale", "birds singing sweetly"),
    "kittens": ("a painting of furry kittens, grayscale", "a kitten meowing for attention"),
    "racing": ("a painting of auto racing game, grayscale", "a race car passing by and disappearing"),
    "trains": ("a painting of trains, grayscale", "train whistling"),
    "tigers": ("a painting of tigers, grayscale", "tiger growling"),
}
"""Table 5's prompts."""
TRIM = 32  # columns that `its` cuts from the end


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Sampling settings; the defaults are those of the pack's `model.yaml`."""

    steps: int = 30
    visual_guidance: float = 6.0
    audio_guidance: float = 9.0
    visual_weight: float = 0.4  # the audio expert's is 1 minus this
    visual_start: float = 1.0  # share of the process, counted from its end, in which the expert is active
    audio_start: float = 0.8


@dataclass(frozen=True)
class Pack:
    """Models of a pack, loaded by diffusers and transformers."""

    vae: AutoencoderKL
    encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    unets: dict[Kind, UNet2DConditionModel]
    judges: dict[Kind, Classifier]
    device: torch.device


@dataclass(frozen=True)
class Control:
    """Outlines (b, 256, 1024) for the visual expert to follow, 0 or 1, and how strongly."""

    model: ControlNetModel
    outlines: Tensor
    scale: float = 1.0


def load(folder: Path, device: torch.device) -> Pack:
    """Load the pack in `folder`, in float32."""
    kinds: dict[Kind, str] = {"visual": "unet", "audio": "unet_audio"}
    unets = {
        kind: UNet2DConditionModel.from_pretrained(folder, subfolder=name, torch_dtype=torch.float32).eval().to(device)
        for kind, name in kinds.items()
    }
    return Pack(
        autoencoder.load(folder).to(device),
        CLIPTextModel.from_pretrained(folder, subfolder="text_encoder", dtype=torch.float32).eval(),
        CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer"),
        unets,
        {kind: load_judge(kind, folder).to(device) for kind in unets},
        device,
    )


@torch.no_grad()
def sample(
    pack: Pack,
    prompts: list[tuple[str, str]],
    seeds: list[int],
    settings: Settings,
    control: Control | None = None,
) -> Tensor:
    """Sample a gray canvas for each pair of visual and audio prompt and its seed, (b, 256, 1024).

    An expert is inactive if its prompt is empty in all pairs. An outline acts on both estimates of guidance.
    """
    alphas = experts.scheduler().alphas_cumprod.to(pack.device)
    noise = [torch.randn(4, 32, 128, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    z = torch.stack(noise).to(pack.device)
    kinds: tuple[Kind, ...] = ("visual", "audio")
    texts = {kind: [pair[index] for pair in prompts] for index, kind in enumerate(kinds)}
    embeddings = {
        kind: text.embed(pack.encoder, pack.tokenizer, [""] * len(z) + texts[kind]).to(pack.device) for kind in texts
    }
    guidance = {"visual": settings.visual_guidance, "audio": settings.audio_guidance}
    weights = {"visual": settings.visual_weight, "audio": 1 - settings.visual_weight}
    starts = {"visual": settings.visual_start, "audio": settings.audio_start}
    timesteps = [round(1000 - i * 1000 / settings.steps) - 1 for i in range(settings.steps)]  # "trailing": from 999
    for i, t in enumerate(timesteps):
        active = [kind for kind in kinds if any(texts[kind]) and t <= starts[kind] * 1000]  # H(t_m T - t)
        estimate = torch.zeros_like(z)
        for kind in active:
            with bfloat16(pack.device):
                if control is not None and kind == "visual":
                    lines = torch.cat([control.outlines] * 2).to(pack.device)
                    both = estimate_noise(
                        control.model, pack.unets[kind], torch.cat([z, z]), t, embeddings[kind], lines, control.scale
                    )
                else:
                    both = pack.unets[kind](torch.cat([z, z]), t, embeddings[kind]).sample
            null, conditional = both.float().chunk(2)
            share = weights[kind] / sum(weights[each] for each in active) if len(active) > 1 else 1.0
            estimate += share * (null + guidance[kind] * (conditional - null))
        alpha = alphas[t]
        earlier = alphas[timesteps[i + 1]] if i + 1 < len(timesteps) else torch.ones_like(alpha)
        clean = (z - (1 - alpha).sqrt() * estimate) / alpha.sqrt()
        z = earlier.sqrt() * clean + (1 - earlier).sqrt() * estimate
    return autoencoder.decode(pack.vae, z)


def sample_alone(pack: Pack, kind: Kind, prompt: str, seeds: list[int], settings: Settings | None = None) -> Tensor:
    """Sample one expert alone, a gray canvas for each seed (b, 256, 1024)."""
    pair = (prompt, "") if kind == "visual" else ("", prompt)
    return sample(pack, [pair] * len(seeds), seeds, replace(settings or Settings(), audio_start=1.0))


def play(gray: Tensor) -> Tensor:
    """Vocode canvases to waveforms (b, n), as in `its`."""
    vocoder = GriffinLim()
    with torch.device(gray.device):
        vocoder.load()
    return vocoder(AUFFUSION.to_log_mel(_trim(gray)[:, None]))


def replay(gray: Tensor) -> Tensor:
    """Vocode canvases and return the spectrograms of the sounds, which may be brighter than 1."""
    return AUFFUSION.to_picture(AUFFUSION.log_mel(play(gray)))[:, 0]


@torch.no_grad()
def judge_pictures(pack: Pack, gray: Tensor) -> Tensor:
    """Return the probabilities (b, k) of the classes of pictures, "none" last."""
    return pack.judges["visual"](resize(_trim(gray))).softmax(1).cpu()


@torch.no_grad()
def judge_sounds(pack: Pack, gray: Tensor) -> Tensor:
    """Return the probabilities (b, k) of the classes of sounds, "none" last, for spectrograms."""
    return pack.judges["audio"](resize(amplify(_trim(gray)))).softmax(1).cpu()


def _trim(gray: Tensor) -> Tensor:
    return gray[:, :, : 1024 - TRIM]
