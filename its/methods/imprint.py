"""Imprint, a baseline of the paper (Appendix A.1): a picture attenuates a spectrogram where it is dark."""
# ruff: noqa: D102 - overriding methods are documented in `Method`

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from einops import rearrange
from torch import Tensor

from its.diffusion.noise import generators, initial_noise
from its.diffusion.sampling import Runner, denoise, sequential
from its.errors import UserError
from its.interfaces import Colorizer, Combiner, Component, LatentCodec, NoiseExpert, Scheduler, Step, Vocoder
from its.methods import validation
from its.methods.base import Method
from its.methods.decoder import Decoder, decode
from its.methods.post_process import Clock, PostProcess
from its.methods.sample import Sample
from its.methods.speed import choose_runner, release
from its.registry import register
from its.specs.media import read_picture, read_sound
from its.specs.spec import SampleSpec
from its.specs.sweep import apply_settings, check_plan


def imprint(spectrogram: Tensor, picture: Tensor, *, rho: float | Tensor, silence: float) -> Tensor:
    """Compute x_spec (1 - rho gray(1 - x_img)): dark parts of the picture remove energy (Appendix A.1).

    If silence is white, light parts remove energy instead. The result resembles the picture in both cases.

    Args:
        spectrogram: x_spec, (b, c, H, W) in [0, 1].
        picture: x_img, (b, 3, H, W) in [0, 1].
        rho: largest fraction of the energy that is removed; a number, or (b, 1, 1, 1).
        silence: gray value of silence, 0 or 1.
    """
    gray = picture.mean(1, keepdim=True)
    mask = 1 - rho * (1 - silence - gray).abs()
    return silence + (spectrogram - silence) * mask


@dataclass(frozen=True, kw_only=True)
class _Process:
    """Settings that a sweep can change."""

    scheduler: Scheduler
    steps: Mapping[str, int]
    rho: float

    @property
    def batch_key(self) -> str:
        return json.dumps([self.scheduler.describe(), dict(self.steps)], sort_keys=True, default=str)

    def check(self) -> None:
        """Raises UserError: a number is out of range."""
        if not 0 <= self.rho <= 1:
            raise UserError(f"model.rho is {self.rho:g}; expected 0 (the spectrogram alone) to 1 (black is silent)")
        for name, steps in self.steps.items():
            if steps < 1:
                raise UserError(f"model.steps of {name} is {steps}; expected 1 or more")
            check_plan(self.scheduler, steps)


class _SingleExpert(Combiner):
    """Combiner for a single expert."""

    def __init__(self, name: str) -> None:
        self.name = name

    def weights(self, progress: float) -> Mapping[str, float]:
        return {self.name: 1.0}


@register
class Imprint(Method):
    """Imprints a picture on a spectrogram that was generated separately.

    This is a baseline of the paper (Appendix A.1). Either can be read from a file instead: see `its.specs.media`.
    """

    has_latents = False
    supports_files = True

    def __init__(
        self,
        *,
        experts: dict[str, NoiseExpert],
        scheduler: Scheduler,
        vocoder: Vocoder,
        codec: LatentCodec | None = None,
        colorizer: Colorizer | None = None,
        rho: float = 0.5,
        steps: int | dict[str, int] = 100,
        canvas: tuple[int, int] = (256, 1024),
        trim: int = 32,
        noise_dtype: Literal["float32", "float16"] = "float32",
        fallback: str | None = None,
    ) -> None:
        """Args:
        experts: two experts by name, one for pictures and one for spectrograms.
        scheduler: scheduler of both reverse processes.
        vocoder: synthesises the sound from the imprint.
        codec: decodes the latents; null to use the experts' own codecs.
        colorizer: colorizes the imprint; null for gray only.
        rho: fraction of the energy that is removed where the picture is darkest, in [0, 1].
        steps: number of steps of the reverse processes; one number, or one for each expert.
        canvas: rows (mel bands) and columns of the picture.
        trim: columns to cut from the end of picture and sound, which are padding in Auffusion's training data.
        noise_dtype: dtype of the initial noise; `float16` reproduces seeds published by the paper's authors.
        fallback: pack of weights to use if weights can't be found; null to raise an error.
        """
        validation.check_pair(experts)
        validation.check_canvas(canvas, trim)
        super().__init__(experts=experts, fallback=fallback)
        steps = steps if isinstance(steps, dict) else dict.fromkeys(experts, steps)
        validation.check_names("model.steps", steps, experts)
        self.process = _Process(scheduler=scheduler, steps=steps, rho=rho)
        self.process.check()
        self.decoder = Decoder(experts, codec)
        self.post_process = PostProcess(vocoder=vocoder, colorizer=colorizer, canvas=canvas, trim=trim)
        self.canvas = canvas
        self.noise_dtype = noise_dtype
        self._run: Runner = sequential

    def components(self) -> list[tuple[str, Component]]:
        return [*super().components(), *self.decoder.components(), *self.post_process.components()]

    def check(self) -> None:
        experts, vocoder = dict(self.named_experts()), self.post_process.vocoder
        validation.check_codecs(experts, self.decoder.codecs())
        validation.check_schedule(experts, self.process.scheduler, self.process.steps)
        validation.check_formats(experts, vocoder)
        validation.check_colorizer(self.post_process.colorizer, experts)
        for codec in (self.decoder.picture, self.decoder.sound):
            validation.check_latent_shape(self.canvas, codec)
        validation.check_bands(self.canvas, vocoder)
        validation.check_components(self.components(), canvas=self.canvas, steps=max(self.process.steps.values()))
        self.decoder.deduplicate()

    def configure_model(self) -> None:
        super().configure_model()
        self.decoder.deduplicate(loaded=True)
        self._run = choose_runner([expert for _, expert in self.named_experts()], device=self.target)

    def release(self) -> None:
        release(self._run)

    def settings(self, spec: SampleSpec) -> dict[str, Any]:
        for name, file in spec.files.items():
            kind = "image" if name == self.decoder.picture_expert else "audio"
            if file.kind != kind:
                raise UserError(f"{spec.source}: {name} is {{{file.kind}: ...}}; expected a prompt or {{{kind}: FILE}}")
        process = self._process_of(spec)
        return {
            "method": "imprint",
            "rho": process.rho,
            "scheduler": process.scheduler.describe(),
            "steps": dict(process.steps),
            **self.post_process.settings(spec, spec.prompts[self.decoder.picture_expert]),
            "noise_dtype": self.noise_dtype,
        }

    def length(self, spec: SampleSpec) -> str:
        return " and ".join(f"{steps} steps of {name}" for name, steps in self._process_of(spec).steps.items())

    def batch_key(self, spec: SampleSpec) -> str:
        """Return a key of scheduler, steps and experts with files. `rho` may differ within a batch."""
        return f"{self._process_of(spec).batch_key} {sorted(spec.files)}"

    def make(self, specs: Sequence[SampleSpec]) -> list[Sample]:
        clock = Clock(self.device)
        sources = generators([spec.seed for spec in specs])
        rho = torch.tensor([self._process_of(spec).rho for spec in specs], device=self.device)
        with clock("picture"):
            x_img = self._generate(self.decoder.picture_expert, specs, sources)
        with clock("spectrogram"):
            x_spec = self._generate(self.decoder.sound_expert, specs, sources)
        x = imprint(x_spec, x_img, rho=rearrange(rho, "b -> b 1 1 1"), silence=self.decoder.format.silence)
        return self.post_process(
            specs,
            picture=x,
            spectrogram=self.decoder.format.select_channels(x),
            prompts=[spec.prompts[self.decoder.picture_expert] for spec in specs],
            sources=sources,
            clock=clock,
        )

    def _generate(self, name: str, specs: Sequence[SampleSpec], sources: Sequence[torch.Generator]) -> Tensor:
        """Generate pictures (b, 3, H, W) in [0, 1] with one expert, or read them from the specs' files."""
        codec = self.decoder.codecs()[name]
        # Draw the noise even if a file is used, so that the other expert's noise depends on the seed alone.
        noise = initial_noise(sources, codec.latent_shape(self.canvas), dtype=getattr(torch, self.noise_dtype))
        if name in specs[0].files:
            return torch.stack([self._read(name, spec) for spec in specs]).to(self.device)
        process = self._process_of(specs[0])
        latents = denoise(
            noise.to(self.device),
            experts={name: self.guided(name, dict(self.named_experts())[name], specs)},
            combiner=_SingleExpert(name),
            scheduler=process.scheduler,
            steps=process.steps[name],
            run=self._run,
            on_step=self._step_callback(name, specs),
        )
        return decode(codec, latents)

    def _read(self, name: str, spec: SampleSpec) -> Tensor:
        file = spec.files[name]
        if file.kind == "image":
            return read_picture(file, self.canvas)
        return read_sound(file, self.post_process.vocoder.format, self.canvas[1])

    def _step_callback(self, name: str, specs: Sequence[SampleSpec]) -> Callable[[Step], None] | None:
        """Return a callback that reports the steps of both processes as one process."""
        report = self.report(len(specs))
        if report is None:
            return None
        steps = {n: s for n, s in self._process_of(specs[0]).steps.items() if n not in specs[0].files}
        offset = steps.get(self.decoder.picture_expert, 0) if name == self.decoder.sound_expert else 0
        total = sum(steps.values())
        return lambda step: report(replace(step, index=offset + step.index, steps=total))

    def _process_of(self, spec: SampleSpec) -> _Process:
        if not spec.settings:
            return self.process
        settings = apply_settings(
            {name: getattr(self.process, name) for name in ("scheduler", "steps", "rho")}, spec.settings
        )
        if not isinstance(settings["steps"], Mapping):
            settings["steps"] = dict.fromkeys(self.process.steps, settings["steps"])
        process = _Process(**settings)
        process.check()
        return process
