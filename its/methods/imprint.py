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
from its.diffusion.sampling import denoise
from its.errors import UserError
from its.interfaces import Colorizer, Combiner, LatentCodec, NoiseExpert, Part, Scheduler, Step, Vocoder
from its.methods import fit
from its.methods.base import Method
from its.methods.decoding import Decoding
from its.methods.finishing import Clock, Finishing
from its.methods.sample import Sample
from its.specs.media import read_picture, read_sound
from its.specs.spec import SampleSpec
from its.specs.sweep import changed


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
        """Raises UserError: a number makes no sense."""
        if not 0 <= self.rho <= 1:
            raise UserError(f"model.rho is {self.rho:g}; expected 0 (the spectrogram alone) to 1 (black stays silent)")
        for name, steps in self.steps.items():
            if steps < 1:
                raise UserError(f"model.steps of {name} is {steps}; expected 1 or more")
            try:
                self.scheduler.timesteps(steps)
            except ValueError as error:
                raise UserError(f"steps: {type(self.scheduler).__name__}: {error}") from None


class _Alone(Combiner):
    """One expert by itself."""

    def __init__(self, expert: str) -> None:
        self.expert = expert

    def weights(self, progress: float) -> Mapping[str, float]:
        return {self.expert: 1.0}


class Imprint(Method):
    """Makes a picture and a spectrogram apart from each other, and imprints the one on the other.

    Either may be a file of the user's own instead: see `its.specs.media`.
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
        fit.check_pair(experts)
        fit.check_canvas(canvas, trim)
        super().__init__(experts=experts, fallback=fallback)
        each = steps if isinstance(steps, dict) else dict.fromkeys(experts, steps)
        fit.check_names("model.steps", each, experts)
        self.process = _Process(scheduler=scheduler, steps=each, rho=rho)
        self.process.check()
        self.decoding = Decoding(experts, codec)
        self.finishing = Finishing(vocoder=vocoder, colorizer=colorizer, canvas=canvas, trim=trim)
        self.canvas = canvas
        self.noise_dtype = noise_dtype

    def parts(self) -> list[tuple[str, Part]]:
        """Experts, codecs, vocoder and colorizer."""
        experts: list[tuple[str, Part]] = [(f"experts.{name}", expert) for name, expert in self.named_experts()]
        return [*experts, *self.decoding.parts(), *self.finishing.parts()]

    def check(self) -> None:
        """The canvas suits the codecs and the vocoder, and the vocoder plays what the expert draws."""
        fit.check_codecs(dict(self.named_experts()), self.decoding.codecs())
        fit.check_schedule(dict(self.named_experts()), self.process.scheduler, self.process.steps)
        fit.check_formats(experts=dict(self.named_experts()), vocoder=self.finishing.vocoder)
        fit.check_color(colorizer=self.finishing.colorizer, experts=dict(self.named_experts()))
        for codec in (self.decoding.picture, self.decoding.sound):
            fit.check_canvas_for(self.canvas, codec, self.finishing.vocoder)
        fit.check_parts(self.parts(), canvas=self.canvas, steps=max(self.process.steps.values()))
        self.decoding.join()

    def configure_model(self) -> None:
        """Load all weights. Lightning may call this more than once."""
        super().configure_model()
        self.decoding.join(loaded=True)

    def settings(self, row: SampleSpec) -> dict[str, Any]:
        """Everything under `model` that a sample depends on."""
        process, finishing = self._process_of(row), self.finishing
        for name, file in row.files.items():
            if file.kind != (kind := "image" if name == self.decoding.picture_expert else "audio"):
                raise UserError(f"{row.source}: in the place of {name} goes {{{kind}: FILE}}, got {{{file.kind}: ...}}")
        return {
            "method": "imprint",
            "rho": process.rho,
            "scheduler": process.scheduler.describe(),
            "vocoder": finishing.vocoder.describe(defining=True),
            "colorizer": finishing.coloring(row, row.prompts[self.decoding.picture_expert]),
            "steps": dict(process.steps),
            "canvas": list(self.canvas),
            "trim": finishing.trim,
            "noise_dtype": self.noise_dtype,
        }

    def length(self, row: SampleSpec) -> str:
        """Steps of both processes."""
        return " and ".join(f"{steps} steps of {name}" for name, steps in self._process_of(row).steps.items())

    def batch_key(self, row: SampleSpec) -> str:
        """Rows of other rho go together, those of other steps or with files in other places don't."""
        return f"{self._process_of(row).key} {sorted(row.files)}"

    def make(self, rows: Sequence[SampleSpec]) -> list[Sample]:
        """Picture, spectrogram, imprint, and the rest of it."""
        clock = Clock(self.device)
        sources = generators([row.seed for row in rows])
        rho = torch.tensor([self._process_of(row).rho for row in rows], device=self.device)
        seen = self.decoding.picture_expert
        with clock("picture"):
            x_img = self._draw(seen, rows, sources)
        with clock("spectrogram"):
            x_spec = self._draw(self.decoding.sound_expert, rows, sources)
        x = imprint(x_spec, x_img, rho=rearrange(rho, "b -> b 1 1 1"), silence=self.decoding.format.silence)
        return self.finishing(
            rows,
            latents=None,
            picture=x,
            spectrogram=self.decoding.format.sounding(x),
            prompts=[row.prompts[seen] for row in rows],
            sources=sources,
            clock=clock,
        )

    def _draw(self, name: str, rows: Sequence[SampleSpec], sources: Sequence[torch.Generator]) -> Tensor:
        """(b, 3, H, W) in [0, 1]: what one expert makes of the rows alone, or what is in the rows' files."""
        codec = self.decoding.picture if name == self.decoding.picture_expert else self.decoding.sound
        # Also where a file needs none: the other expert's noise is that of its seed in any case.
        noise = initial_noise(sources, codec.latent_shape(self.canvas), dtype=getattr(torch, self.noise_dtype))
        if name in rows[0].files:
            return torch.stack([self._read(name, row) for row in rows]).to(self.device)
        process = self._process_of(rows[0])
        latents = denoise(
            noise.to(self.device),
            experts={name: self.guided(name, self._expert(name), rows)},
            combiner=_Alone(name),
            scheduler=process.scheduler,
            steps=process.steps[name],
            on_step=self._reporter(name, rows),
        )
        return codec.decode(latents).float()

    def _read(self, name: str, row: SampleSpec) -> Tensor:
        """(3, H, W) in [0, 1]."""
        file = row.files[name]
        if file.kind == "image":
            return read_picture(file, self.canvas)
        return read_sound(file, self.finishing.vocoder.format, self.canvas[1])

    def _reporter(self, name: str, rows: Sequence[SampleSpec]) -> Callable[[Step], None] | None:
        """Both processes are one to the progress bar."""
        tell = self.report(len(rows))
        if tell is None:
            return None
        lengths = {n: s for n, s in self._process_of(rows[0]).steps.items() if n not in rows[0].files}
        order = [self.decoding.picture_expert, self.decoding.sound_expert]
        before = sum(lengths.get(earlier, 0) for earlier in order[: order.index(name)])
        total = sum(lengths.values())
        return lambda step: tell(replace(step, index=before + step.index, steps=total))

    def _expert(self, name: str) -> NoiseExpert:
        return dict(self.named_experts())[name]

    def _process_of(self, row: SampleSpec) -> _Process:
        """The process with the row's settings."""
        if not row.settings:
            return self.process
        own = self.process
        parts = changed({"scheduler": own.scheduler, "steps": own.steps, "rho": own.rho}, row.settings)
        if not isinstance(parts["steps"], Mapping):
            parts["steps"] = dict.fromkeys(own.steps, parts["steps"])
        process = _Process(**parts)
        process.check()
        return process
