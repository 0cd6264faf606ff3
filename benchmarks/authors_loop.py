"""Program of the paper's authors, rewritten from its description: eager, one sample at a time, with diffusers' models.

Text is encoded for every sample, each expert decodes with its own VAE, timesteps are on the CPU, and the update is
diffusers' `DDIMScheduler.step`.
"""

from __future__ import annotations

from collections.abc import Callable
from math import log
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from its.weights.models import SkipInit
from its_plugins.random_weights.stable_diffusion import SCHEDULER
from its_plugins.vocoders.hifi_gan import HiFiGAN

SCALE = 10.0
WARM = 0.1
"""Fraction of the steps in which only the audio expert is active."""
PROMPTS = {"sd": "a painting of castle towers, grayscale", "auffusion": "bell ringing"}
OnStep = Callable[[int], None]


class AuthorsProgram:
    """Makes one sample at a time, from weights of `models.write`; the authors use float16.

    `informed` adds an informed user's optimisations: both UNets under `compile(mode="max-autotune")` (unless `compiles`
    is False), channels_last, timesteps on the device.
    """

    def __init__(
        self,
        folder: Path,
        *,
        canvas: tuple[int, int],
        steps: int,
        device: torch.device,
        dtype: torch.dtype,
        informed: bool = False,
        compiles: bool = True,
    ) -> None:
        from diffusers import DDIMScheduler

        self.canvas, self.steps, self.device, self.dtype, self.informed = canvas, steps, device, dtype, informed
        self.pipes = {name: _pipe(folder / name, device, dtype) for name in PROMPTS}
        self.scheduler = DDIMScheduler(**{k: v for k, v in SCHEDULER.items() if k != "_class_name"})
        self.vocoder = _vocoder(folder / "auffusion").to(device, dtype)
        for pipe in self.pipes.values() if informed else ():
            pipe["unet"].to(memory_format=torch.channels_last)
            pipe["vae"].to(memory_format=torch.channels_last)
            if compiles:
                pipe["unet"].compile(mode="max-autotune")

    def networks(self) -> list[nn.Module]:
        """List all networks."""
        components = [component for pipe in self.pipes.values() for component in pipe.values()]
        return [component for component in (*components, self.vocoder) if isinstance(component, nn.Module)]

    @torch.inference_mode()
    def latents(self, seed: int, on_step: OnStep | None = None) -> Tensor:
        """Sample clean latents (1, 4, h, w) for a seed."""
        text = {name: self._encode(name) for name in self.pipes}
        self.scheduler.set_timesteps(self.steps)
        shape = (1, 4, self.canvas[0] // 8, self.canvas[1] // 8)
        noise = torch.randn(shape, generator=torch.manual_seed(seed), dtype=torch.float16)
        z = noise.to(self.device, self.dtype)
        on_device = self.scheduler.timesteps.to(self.device)
        for index, t in enumerate(self.scheduler.timesteps):
            timestep = on_device[index] if self.informed else t
            noise = self._estimate("auffusion", z, timestep, text)
            if index >= round(WARM * self.steps):
                noise = 0.5 * noise + 0.5 * self._estimate("sd", z, timestep, text)
            z = self.scheduler.step(noise, t, z, eta=0.0).prev_sample
            if on_step is not None:
                on_step(index)
        return z

    @torch.inference_mode()
    def finish(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Decode latents to picture (1, 3, h, w) and sound (n,), on the CPU."""
        picture, gray = self._decode("sd", z), self._decode("auffusion", z).mean(1)
        log_mel = gray.flip(1) * (log(200.0) - log(1e-5)) + log(1e-5)
        return picture.float().cpu(), self.vocoder(log_mel).float().reshape(-1).cpu()

    def _encode(self, name: str) -> Tensor:
        pipe = self.pipes[name]
        states = []
        for prompt in (PROMPTS[name], ""):
            tokens = pipe["tokenizer"](
                prompt, padding="max_length", max_length=77, truncation=True, return_tensors="pt"
            )
            states.append(pipe["text_encoder"](tokens.input_ids.to(self.device))[0])
        return torch.cat(states[::-1])

    def _estimate(self, name: str, z: Tensor, t: Tensor, text: dict[str, Tensor]) -> Tensor:
        both = self.pipes[name]["unet"](torch.cat([z] * 2), t, encoder_hidden_states=text[name]).sample
        null, conditional = both.chunk(2)
        return null + SCALE * (conditional - null)

    def _decode(self, name: str, z: Tensor) -> Tensor:
        vae = self.pipes[name]["vae"]
        return (vae.decode(z / vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1)


def _pipe(folder: Path, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    classes = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel}
    with SkipInit():
        pipe: dict[str, Any] = {
            name: cls.from_pretrained(str(folder), subfolder=name, dtype=dtype, low_cpu_mem_usage=False)
            for name, cls in classes.items()
        }
    for model in pipe.values():
        model.eval().requires_grad_(False).to(device)
    return pipe | {"tokenizer": CLIPTokenizer.from_pretrained(str(folder / "tokenizer"))}


def _vocoder(folder: Path) -> torch.nn.Module:
    vocoder = HiFiGAN(weights=str(folder))
    vocoder.prepare()
    vocoder.load()
    assert vocoder.generator is not None
    return vocoder.generator  # the component would stay in float32
