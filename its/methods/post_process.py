"""Turn spectrograms into samples: vocode, trim, colorize and check for finite values."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from its.errors import UserError
from its.interfaces import Colorizer, Component, Vocoder
from its.methods.color_prompt import color_prompt
from its.methods.loop import LOOP_CONTEXT, LOOP_FADE, join_ends
from its.methods.sample import Result, Sample
from its.specs.spec import SampleSpec

MAX_VALUES = 4 * 256 * 1024
"""Spectrogram values per vocoder call, which bounds memory: four of the paper's canvases."""


@dataclass
class Clock:
    """Measures seconds and peak memory of stages, for `sample.json`.

    Attributes:
        device: device to synchronise with at the end of a stage.
        seconds: duration by stage.
        peak_gib: peak allocated memory by stage, in GiB; empty on other devices than CUDA.
    """

    device: torch.device
    seconds: dict[str, float] = field(default_factory=dict)
    peak_gib: dict[str, float] = field(default_factory=dict)

    @property
    def timings(self) -> dict[str, Any]:
        """Measurements in the form of `Sample.timings`."""
        return {**self.seconds, **({"peak_gib": self.peak_gib} if self.peak_gib else {})}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Measure a stage. Synchronises with the device, so don't use it within a loop."""
        begin, on_cuda = time.perf_counter(), self.device.type == "cuda"
        if on_cuda:
            torch.cuda.reset_peak_memory_stats(self.device)
        yield
        if on_cuda:
            torch.cuda.synchronize(self.device)
            self.peak_gib[stage] = round(torch.cuda.max_memory_allocated(self.device) / 2**30, 3)
        self.seconds[stage] = round(time.perf_counter() - begin, 4)


class PostProcess(nn.Module):
    """Vocodes, trims and colorizes spectrograms.

    Args:
        vocoder: synthesises the sound.
        canvas: rows and columns of the picture.
        trim: columns to cut from the end of picture and sound.
        colorizer: colorizes the spectrogram; None for gray only.
        loop: whether the end of the sound continues at its beginning.
    """

    vocoder: Vocoder
    colorizer: Colorizer | None

    def __init__(
        self,
        *,
        vocoder: Vocoder,
        canvas: tuple[int, int],
        trim: int = 0,
        colorizer: Colorizer | None = None,
        loop: bool = False,
    ) -> None:
        super().__init__()
        self.vocoder = vocoder
        self.colorizer = colorizer
        self.canvas = canvas
        self.trim = trim
        self.loop = loop
        self._vocodes_on_cpu = False

    def components(self) -> list[tuple[str, Component]]:
        """Return vocoder and colorizer with their config keys."""
        vocoder: list[tuple[str, Component]] = [("vocoder", self.vocoder)]
        return vocoder if self.colorizer is None else [*vocoder, ("colorizer", self.colorizer)]

    def settings(self, spec: SampleSpec, prompt: str) -> dict[str, Any]:
        """Return vocoder, colorizer with colour prompt, canvas and trim, for `Method.settings`.

        Raises:
            UserError: no colour prompt can be derived from the image prompt.
        """
        colorizer = None
        if self.colorizer is not None:
            try:
                colorizer = self.colorizer.describe(identity_only=True) | {"prompt": color_prompt(prompt)}
            except UserError as error:
                raise UserError(f"{spec.source}: {error}") from None
        vocoder = self.vocoder.describe(identity_only=True)
        return {"vocoder": vocoder, "colorizer": colorizer, "canvas": list(self.canvas), "trim": self.trim}

    def forward(
        self,
        specs: Sequence[SampleSpec],
        *,
        picture: Tensor,
        spectrogram: Tensor,
        clock: Clock,
        latents: Tensor | None = None,
        prompts: Sequence[str] = (),
        sources: Sequence[torch.Generator] = (),
    ) -> list[Sample]:
        """Turn the spectrograms of a batch into samples. A sample with non-finite values is returned as failed.

        Args:
            specs: specs of the samples.
            picture: (b, 3, H, W) in [0, 1].
            spectrogram: (b, 1, H, W) gray in [0, 1]; (b, 3, H, W) in stereo.
            clock: the method's clock; its measurements are recorded.
            latents: clean latents (b, c, h, w); None if the method has none.
            prompts: image prompts, for the colorizer.
            sources: the samples' generators, for the colorizer.
        """
        with clock("vocode"):
            waveform = self.play(spectrogram).cpu()
        spectrogram = self.cut(spectrogram)
        with clock("color"):
            color = None
            if self.colorizer is not None:
                gray = spectrogram.mean(1, keepdim=True)
                color = self.colorizer(gray, [color_prompt(prompt) for prompt in prompts], sources).float().cpu()
        batch = {
            "latents": None if latents is None else latents.float().cpu(),
            "spectrogram": spectrogram.squeeze(1).float().cpu(),
            "picture": self.cut(picture).float().cpu(),
            "waveform": waveform,
            "color": color,
        }
        timings = clock.timings | {"batch_size": len(specs)}
        form, samples = self.vocoder.format, []
        for i, spec in enumerate(specs):
            tensors: dict[str, Any] = {name: None if x is None else x[i] for name, x in batch.items()}
            broken = next((name for name, x in tensors.items() if x is not None and not x.isfinite().all()), None)
            error = None if broken is None else f"not finite: the {broken}"
            result = Result(**tensors, sample_rate=form.sample_rate, format=form) if broken is None else None
            samples.append(Sample(spec=spec, result=result, error=error, timings=timings))
        return samples

    def play(self, spectrogram: Tensor) -> Tensor:
        """Vocode a spectrogram (b, 1 or 3, H, W) and trim the sound, in float32 at any precision of the run.

        Returns:
            Sound (b, n); (b, 2, n) in stereo.

        Raises:
            ValueError: the vocoder returned sound of another length than the canvas.
        """
        enabled = torch.backends.cudnn.enabled  # the default of `flags` would turn cuDNN off
        no_tf32 = torch.backends.cudnn.flags(enabled=enabled, allow_tf32=False)
        with no_tf32, torch.autocast(spectrogram.device.type, enabled=False):
            log_mel = self.vocoder.format.to_log_mel(spectrogram)
            slices = torch.split(log_mel, max(1, MAX_VALUES // log_mel[0].numel()))
            waveform = torch.cat([self._vocode_loop(part) if self.loop else self._vocode(part) for part in slices])
        hop = self.vocoder.format.hop_length
        if waveform.shape[-1] != (expected := self.canvas[1] * hop):
            name = type(self.vocoder).__name__
            raise ValueError(f"{name} returned {waveform.shape[-1]} audio samples; expected {expected}")
        return waveform[..., : (self.canvas[1] - self.trim) * hop]

    def _vocode_loop(self, log_mel: Tensor) -> Tensor:
        """Vocode (b, ..., t) with its other end around both ends, and join the ends of the sound."""
        form, columns = self.vocoder.format, log_mel.shape[-1]
        margin = min(columns, math.ceil(LOOP_CONTEXT * form.sample_rate / form.hop_length))
        index = torch.arange(-margin, columns + margin, device=log_mel.device) % columns
        sound = self._vocode(log_mel[..., index])
        begin, length = margin * form.hop_length, columns * form.hop_length
        return join_ends(sound[..., begin:], length, fade=min(length, begin, round(LOOP_FADE * form.sample_rate)))

    def _vocode(self, log_mel: Tensor) -> Tensor:
        """Run the vocoder, on the CPU if the device lacks an operation (for example long convolutions on MPS)."""
        if not self._vocodes_on_cpu:
            try:
                return self.vocoder(log_mel)
            except NotImplementedError as error:
                reason = str(error).partition("\n")[0]
                name = type(self.vocoder).__name__
                warnings.warn(f"{name} can't run on {log_mel.device}, and runs on the CPU: {reason}", stacklevel=1)
                self._vocodes_on_cpu = True
        self.vocoder.cpu()
        return self.vocoder(log_mel.cpu())

    def cut(self, picture: Tensor) -> Tensor:
        """Cut `trim` columns from the end of pictures (..., H, W)."""
        return picture[..., : self.canvas[1] - self.trim]
