"""Turn spectrograms into samples: vocode, trim, colour, and check that all values are finite."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from its.errors import UserError
from its.interfaces import Colorizer, Component, Vocoder
from its.methods.color_prompt import color_prompt
from its.methods.sample import Result, Sample
from its.specs.spec import SampleSpec

VALUES_AT_ONCE = 4 * 256 * 1024
"""Values of spectrograms that are vocoded together: four of the paper's canvases, which bounds memory."""


@dataclass
class Clock:
    """Seconds and peak memory by stage, for `sample.json`.

    Attributes:
        device: a stage ends when the device has finished its work.
        seconds: by stage.
        peak_gib: the most memory that was allocated in each stage, in GiB; empty where the device is not a CUDA device.
    """

    device: torch.device
    seconds: dict[str, float] = field(default_factory=dict)
    peak_gib: dict[str, float] = field(default_factory=dict)

    @property
    def timings(self) -> dict[str, Any]:
        """For the record."""
        return {**self.seconds, **({"peak_gib": self.peak_gib} if self.peak_gib else {})}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Measure a stage."""
        begin, on_cuda = time.perf_counter(), self.device.type == "cuda"
        if on_cuda:
            torch.cuda.reset_peak_memory_stats(self.device)
        yield
        if on_cuda:
            torch.cuda.synchronize(self.device)  # a few times a batch, never within the loop
            self.peak_gib[stage] = round(torch.cuda.max_memory_allocated(self.device) / 2**30, 3)
        self.seconds[stage] = round(time.perf_counter() - begin, 4)


class PostProcess(nn.Module):
    """Vocodes, trims and colours spectrograms.

    Args:
        vocoder: plays them.
        canvas: rows and columns of the picture.
        trim: columns cut from the end, with their sound.
        colorizer: makes colour pictures of them; None for none.
    """

    vocoder: Vocoder
    colorizer: Colorizer | None

    def __init__(
        self, *, vocoder: Vocoder, canvas: tuple[int, int], trim: int = 0, colorizer: Colorizer | None = None
    ) -> None:
        super().__init__()
        self.vocoder = vocoder
        self.colorizer = colorizer
        self.canvas = canvas
        self.trim = trim

    def components(self) -> list[tuple[str, Component]]:
        """Vocoder and colorizer by their keys."""
        parts: list[tuple[str, Component]] = [("vocoder", self.vocoder)]
        return parts if self.colorizer is None else [*parts, ("colorizer", self.colorizer)]

    def coloring(self, spec: SampleSpec, prompt: str) -> dict[str, Any] | None:
        """Colorizer and colour prompt, as recorded in `sample.json`; None without a colorizer.

        Raises:
            UserError: no colour prompt follows from the picture's prompt.
        """
        if self.colorizer is None:
            return None
        try:
            return self.colorizer.describe(defining=True) | {"prompt": color_prompt(prompt)}
        except UserError as error:
            raise UserError(f"{spec.source}: {error}") from None

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
        """Turn the spectrograms of a batch into samples; one with values that are not finite is a failed sample.

        Args:
            specs: of the samples.
            picture: (b, 3, H, W) in [0, 1].
            spectrogram: (b, 1, H, W) gray in [0, 1]; in stereo (b, 3, H, W).
            clock: started by the method; its stages are recorded.
            latents: (b, c, h, w) clean; None if the method has none.
            prompts: of the pictures, for the colorizer.
            sources: the samples' own generators, for the colorizer's noise.
        """
        with clock("vocode"):
            sound = self.play(spectrogram).cpu()
        spectrogram = self.cut(spectrogram)
        with clock("color"):
            color = self._color(spectrogram.mean(1, keepdim=True), prompts, sources)
        keep = {
            "latents": None if latents is None else latents.float().cpu(),
            "spectrogram": spectrogram.squeeze(1).float().cpu(),
            "picture": self.cut(picture).float().cpu(),
            "waveform": sound,
            "color": color,
        }
        timings = clock.timings | {"batch_size": len(specs)}
        samples = []
        for i, spec in enumerate(specs):
            stages: dict[str, Any] = {name: None if x is None else x[i] for name, x in keep.items()}
            if wrong := [name for name, x in stages.items() if x is not None and not x.isfinite().all()]:
                samples.append(Sample(spec=spec, error=f"not finite: the {wrong[0]}", timings=timings))
                continue
            result = Result(**stages, sample_rate=self.vocoder.format.sample_rate, format=self.vocoder.format)
            samples.append(Sample(spec=spec, result=result, timings=timings))
        return samples

    def play(self, spectrogram: Tensor) -> Tensor:
        """Spectrogram (b, 1 or 3, h, w) -> trimmed sound (b, n) or (b, 2, n), in float32 at any precision of the run.

        Raises:
            ValueError: the vocoder's sound has another length than the canvas.
        """
        with _no_tf32(), torch.autocast(spectrogram.device.type, enabled=False):
            log_mel = self.vocoder.format.to_log_mel(spectrogram)
            waveform = torch.cat(
                [self.vocoder(part) for part in torch.split(log_mel, max(1, VALUES_AT_ONCE // log_mel[0].numel()))]
            )
        expected = self.canvas[1] * self.vocoder.format.hop_length
        if waveform.shape[-1] != expected:
            name = type(self.vocoder).__name__
            raise ValueError(f"{name} gave {waveform.shape[-1]} samples of sound; expected {expected}")
        return waveform[..., : (self.canvas[1] - self.trim) * self.vocoder.format.hop_length]

    def _color(self, gray: Tensor, prompts: Sequence[str], sources: Sequence[torch.Generator]) -> Tensor | None:
        """(b, 1, h, w) gray -> (b, 3, h, w) on the CPU."""
        if self.colorizer is None:
            return None
        colored: Tensor = self.colorizer(gray, [color_prompt(prompt) for prompt in prompts], sources)
        return colored.float().cpu()

    def cut(self, picture: Tensor) -> Tensor:
        """Cut the padding's columns off."""
        return picture[..., : self.canvas[1] - self.trim]


def _no_tf32() -> AbstractContextManager[None]:
    on = torch.backends.cudnn.enabled  # by default these flags would turn cuDNN off
    return torch.backends.cudnn.flags(enabled=on, allow_tf32=False)
