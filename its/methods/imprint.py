"""Imprint, the paper's simple baseline: a picture that takes energy out of a spectrogram where it is dark."""

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
from its.specs.sweep import changed, check_plan


def imprint(spectrogram: Tensor, picture: Tensor, *, rho: float | Tensor, silence: float) -> Tensor:
    """x_spec (1 - rho gray(1 - x_img)): the picture's dark parts take energy away (Appendix A.1).

    Where silence is drawn white, its light parts do: the result looks like the picture in either case.

    Args:
        spectrogram: x_spec, (b, c, h, w) in [0, 1].
        picture: x_img, (b, 3, h, w) in [0, 1].
        rho: share of the energy that goes at most; a number, or (b, 1, 1, 1).
        silence: gray value of no energy, 0 or 1.
    """
    gray = picture.mean(1, keepdim=True)
    mask = 1 - rho * (1 - silence - gray).abs()
    return silence + (spectrogram - silence) * mask


@dataclass(frozen=True, kw_only=True)
class _Process:
    """What a sweep can change."""

    scheduler: Scheduler
    steps: Mapping[str, int]
    rho: float

    @property
    def key(self) -> str:
        """Equal for processes whose samples can share a batch."""
        return json.dumps([self.scheduler.describe(), dict(self.steps)], sort_keys=True, default=str)

    def check(self) -> None:
        """Raises UserError: a number is out of range."""
        if not 0 <= self.rho <= 1:
            raise UserError(f"model.rho is {self.rho:g}; expected 0 (the spectrogram alone) to 1 (black stays silent)")
        for name, steps in self.steps.items():
            if steps < 1:
                raise UserError(f"model.steps of {name} is {steps}; expected 1 or more")
            check_plan(self.scheduler, steps)


class _Single(Combiner):
    """The estimate of one expert."""

    def __init__(self, expert: str) -> None:
        self.expert = expert

    def weights(self, progress: float) -> Mapping[str, float]:
        return {self.expert: 1.0}


@register
class Imprint(Method):
    """Imprints a picture on a spectrogram that was made separately.

    This is a baseline of the paper (Appendix A.1). Either may be a file instead: see `its.specs.media`.
    """

    has_latents = False
    takes_files = True

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
        experts: one that draws pictures and one that draws spectrograms.
        scheduler: of the reverse processes.
        vocoder: plays the imprint.
        codec: decodes the latents; by default the ones that the experts bring.
        colorizer: makes a colour picture of the gray one.
        rho: how much energy the picture takes away where it is darkest, in [0, 1].
        steps: of the reverse processes; one number, or one for each expert.
        canvas: rows and columns of the picture. Rows are mel bands.
        trim: columns cut from the end, with their sound: padding of Auffusion's training data.
        noise_dtype: `float16` replays seeds published by the paper's authors.
        fallback: pack of weights to take as a whole where the named ones can't be had; null for an error.
        """
        validation.check_pair(experts)
        validation.check_canvas(canvas, trim)
        super().__init__(experts=experts, fallback=fallback)
        each = steps if isinstance(steps, dict) else dict.fromkeys(experts, steps)
        validation.check_names("model.steps", each, experts)
        self.process = _Process(scheduler=scheduler, steps=each, rho=rho)
        self.process.check()
        self.decoder = Decoder(experts, codec)
        self.post_process = PostProcess(vocoder=vocoder, colorizer=colorizer, canvas=canvas, trim=trim)
        self.canvas = canvas
        self.noise_dtype = noise_dtype
        self._run: Runner = sequential

    def components(self) -> list[tuple[str, Component]]:
        """Experts, codecs, vocoder and colorizer."""
        return [*super().components(), *self.decoder.components(), *self.post_process.components()]

    def check(self) -> None:
        """The canvas suits the codecs and the vocoder, and the vocoder plays what the expert draws."""
        validation.check_codecs(dict(self.named_experts()), self.decoder.codecs())
        validation.check_schedule(dict(self.named_experts()), self.process.scheduler, self.process.steps)
        validation.check_formats(experts=dict(self.named_experts()), vocoder=self.post_process.vocoder)
        validation.check_color(colorizer=self.post_process.colorizer, experts=dict(self.named_experts()))
        for codec in (self.decoder.picture, self.decoder.sound):
            validation.check_canvas_for(self.canvas, codec, self.post_process.vocoder)
        validation.check_parts(self.components(), canvas=self.canvas, steps=max(self.process.steps.values()))
        self.decoder.join()

    def configure_model(self) -> None:
        """Load all weights. Lightning may call this more than once."""
        super().configure_model()
        self.decoder.join(loaded=True)
        self._run = choose_runner([expert for _, expert in self.named_experts()], device=self.target)

    def release(self) -> None:
        """Free CUDA graphs."""
        release(self._run)

    def settings(self, spec: SampleSpec) -> dict[str, Any]:
        """Everything under `model` that a sample depends on."""
        process, post = self._process_of(spec), self.post_process
        for name, file in spec.files.items():
            if file.kind != (kind := "image" if name == self.decoder.picture_expert else "audio"):
                raise UserError(
                    f"{spec.source}: in the place of {name} goes {{{kind}: FILE}}, got {{{file.kind}: ...}}"
                )
        return {
            "method": "imprint",
            "rho": process.rho,
            "scheduler": process.scheduler.describe(),
            "vocoder": post.vocoder.describe(defining=True),
            "colorizer": post.coloring(spec, spec.prompts[self.decoder.picture_expert]),
            "steps": dict(process.steps),
            "canvas": list(self.canvas),
            "trim": post.trim,
            "noise_dtype": self.noise_dtype,
        }

    def length(self, spec: SampleSpec) -> str:
        """Steps of both processes."""
        return " and ".join(f"{steps} steps of {name}" for name, steps in self._process_of(spec).steps.items())

    def batch_key(self, spec: SampleSpec) -> str:
        """Specs of equal scheduler and steps, with files for the same experts, can share a batch; rho may differ."""
        return f"{self._process_of(spec).key} {sorted(spec.files)}"

    def make(self, specs: Sequence[SampleSpec]) -> list[Sample]:
        """Make picture, spectrogram and imprint, then vocode and colour."""
        clock = Clock(self.device)
        sources = generators([spec.seed for spec in specs])
        rho = torch.tensor([self._process_of(spec).rho for spec in specs], device=self.device)
        seen = self.decoder.picture_expert
        with clock("picture"):
            x_img = self._draw(seen, specs, sources)
        with clock("spectrogram"):
            x_spec = self._draw(self.decoder.sound_expert, specs, sources)
        x = imprint(x_spec, x_img, rho=rearrange(rho, "b -> b 1 1 1"), silence=self.decoder.format.silence)
        return self.post_process(
            specs,
            latents=None,
            picture=x,
            spectrogram=self.decoder.format.sounding(x),
            prompts=[spec.prompts[seen] for spec in specs],
            sources=sources,
            clock=clock,
        )

    def _draw(self, name: str, specs: Sequence[SampleSpec], sources: Sequence[torch.Generator]) -> Tensor:
        """(b, 3, H, W) in [0, 1]: pictures made by one expert, or read from the specs' files."""
        codec = self.decoder.picture if name == self.decoder.picture_expert else self.decoder.sound
        # Drawn even if a file makes it unnecessary, so that the other expert's noise depends on the seed alone.
        noise = initial_noise(sources, codec.latent_shape(self.canvas), dtype=getattr(torch, self.noise_dtype))
        if name in specs[0].files:
            return torch.stack([self._read(name, spec) for spec in specs]).to(self.device)
        process = self._process_of(specs[0])
        latents = denoise(
            noise.to(self.device),
            experts={name: self.guided(name, self._expert(name), specs)},
            combiner=_Single(name),
            scheduler=process.scheduler,
            steps=process.steps[name],
            run=self._run,
            on_step=self._reporter(name, specs),
        )
        return decode(codec, latents)

    def _read(self, name: str, spec: SampleSpec) -> Tensor:
        """(3, H, W) in [0, 1]."""
        file = spec.files[name]
        if file.kind == "image":
            return read_picture(file, self.canvas)
        return read_sound(file, self.post_process.vocoder.format, self.canvas[1])

    def _reporter(self, name: str, specs: Sequence[SampleSpec]) -> Callable[[Step], None] | None:
        """A callback that reports both processes as one."""
        report = self.report(len(specs))
        if report is None:
            return None
        lengths = {n: s for n, s in self._process_of(specs[0]).steps.items() if n not in specs[0].files}
        order = [self.decoder.picture_expert, self.decoder.sound_expert]
        before = sum(lengths.get(earlier, 0) for earlier in order[: order.index(name)])
        total = sum(lengths.values())
        return lambda step: report(replace(step, index=before + step.index, steps=total))

    def _expert(self, name: str) -> NoiseExpert:
        return dict(self.named_experts())[name]

    def _process_of(self, spec: SampleSpec) -> _Process:
        """The process with the spec's settings."""
        if not spec.settings:
            return self.process
        own = self.process
        parts = changed({"scheduler": own.scheduler, "steps": own.steps, "rho": own.rho}, spec.settings)
        if not isinstance(parts["steps"], Mapping):
            parts["steps"] = dict.fromkeys(own.steps, parts["steps"])
        process = _Process(**parts)
        process.check()
        return process
