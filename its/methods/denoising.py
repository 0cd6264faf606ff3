"""Multimodal denoising, the paper's main method (arXiv 2405.12221, Section 3)."""
# ruff: noqa: D102 - overriding methods are documented in `Method`

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from its.diffusion.guidance import GuidedExpert
from its.diffusion.noise import generators, initial_noise
from its.diffusion.sampling import ROUNDING, Interval, Runner, denoise, sequential
from its.interfaces import Colorizer, Combiner, Component, LatentCodec, NoiseExpert, Scheduler, Step, Vocoder
from its.methods import validation
from its.methods.base import Method
from its.methods.decoder import Decoder
from its.methods.post_process import Clock, PostProcess
from its.methods.sample import Sample
from its.methods.speed import Auto, choose_runner, release
from its.registry import register
from its.specs.spec import SampleSpec
from its.specs.sweep import Process, merge_processes


@register
class MultimodalDenoising(Method):
    """Denoises one canvas jointly with several experts.

    All experts must have the same latent space. This is the main method of the paper (arXiv 2405.12221, Section 3).
    """

    def __init__(
        self,
        *,
        experts: dict[str, NoiseExpert],
        combiner: Combiner,
        scheduler: Scheduler,
        vocoder: Vocoder,
        codec: LatentCodec | None = None,
        colorizer: Colorizer | None = None,
        steps: int = 100,
        canvas: tuple[int, int] = (256, 1024),
        trim: int = 32,
        noise_dtype: Literal["float32", "float16"] = "float32",
        guidance_interval: tuple[float, float] | None = None,
        compile: bool = False,
        cuda_graph: Auto = "auto",
        streams: Auto = "auto",
        fallback: str | None = None,
    ) -> None:
        """Args:
        experts: experts by name. Prompts, guidance scales and weights refer to these names.
        combiner: combines the experts' noise estimates.
        scheduler: scheduler of the reverse process, shared by all experts.
        vocoder: synthesises the sound from the spectrogram.
        codec: decodes the latents; null to use the experts' own codecs.
        colorizer: colorizes the spectrogram; null for gray only.
        steps: number of steps of the reverse process.
        canvas: rows (mel bands) and columns of the picture.
        trim: columns to cut from the end of picture and sound, which are padding in Auffusion's training data.
        noise_dtype: dtype of the initial noise; `float16` reproduces seeds published by the paper's authors.
        guidance_interval: [begin, end) of classifier-free guidance, as fractions of the reverse process; null to guide
            all steps. An unguided step costs half as much as a guided one; results differ.
        compile: compile the experts with torch.compile, which takes about a minute; results differ by rounding.
        cuda_graph: replay a step's experts as one CUDA graph, with equal results; `auto` enables it on CUDA devices if
            all experts support it.
        streams: run a step's experts on parallel CUDA streams, with equal results; `auto` enables it in CUDA graphs of
            small batches.
        fallback: pack of weights to use if weights can't be found; null to raise an error.
        """
        validation.check_not_empty(experts)
        validation.check_canvas(canvas, trim)
        validation.check_interval(guidance_interval)
        super().__init__(experts=experts, fallback=fallback)
        self.process = Process(combiner=combiner, scheduler=scheduler, steps=steps)
        self.process.check()
        validation.check_combiner(self.process, list(experts), canvas)
        self.decoder = Decoder(experts, codec)
        self.post_process = PostProcess(vocoder=vocoder, colorizer=colorizer, canvas=canvas, trim=trim)
        self.canvas, self.noise_dtype, self.guidance_interval = canvas, noise_dtype, guidance_interval
        self.compile_networks, self.cuda_graph, self.streams = compile, cuda_graph, streams
        self.fixed_shapes = compile  # each batch size is compiled separately
        self._run: Runner = sequential
        self._processes: dict[str, Process] = {}

    def components(self) -> list[tuple[str, Component]]:
        return [*super().components(), *self.decoder.components(), *self.post_process.components()]

    def check(self) -> None:
        experts = dict(self.named_experts())
        validation.check_latent_spaces(experts)
        validation.check_codecs(experts, self.decoder.codecs())
        validation.check_schedule(experts, self.process.scheduler, dict.fromkeys(experts, self.process.steps))
        validation.check_formats(experts, self.post_process.vocoder)
        validation.check_latent_shape(self.canvas, self.decoder.sound)
        validation.check_bands(self.canvas, self.post_process.vocoder)
        validation.check_components(self.components(), canvas=self.canvas, steps=self.process.steps)
        validation.check_colorizer(self.post_process.colorizer, experts)
        self.decoder.deduplicate()

    def unused_components(self) -> set[str]:
        """Return the keys of experts with weight 0 in every step of the config's process and of all specs so far."""
        used = set().union(*(process.participants() for process in (self.process, *self._processes.values())))
        return {f"experts.{name}" for name in self.experts if name not in used}

    def configure_model(self) -> None:
        super().configure_model()
        self.decoder.deduplicate(loaded=True)
        unused = self.unused_components()
        used = {name: expert for name, expert in self.named_experts() if f"experts.{name}" not in unused}
        self._run = choose_runner(used.values(), device=self.target, cuda_graph=self.cuda_graph, streams=self.streams)
        for name, expert in used.items():
            if self.compile_networks and not expert.compile_network():
                kind = type(expert).__name__
                warnings.warn(f"model.compile: expert {name} ({kind}) has no network to compile", stacklevel=1)

    def release(self) -> None:
        release(self._run)

    def settings(self, spec: SampleSpec) -> dict[str, Any]:
        process = self.process_of(spec)
        return {
            "method": "multimodal denoising",
            "combiner": process.combiner.describe(),
            "scheduler": process.scheduler.describe(),
            "steps": process.steps,
            **self.post_process.settings(spec, spec.prompts[self.decoder.picture_expert]),
            "noise_dtype": self.noise_dtype,
            **({} if self.guidance_interval is None else {"guidance_interval": list(self.guidance_interval)}),
        }

    def length(self, spec: SampleSpec) -> str:
        return f"{self.process_of(spec).steps} steps"

    def batch_key(self, spec: SampleSpec) -> str:
        """Return a key of scheduler and steps. Combiners may differ within a batch."""
        return self.process_of(spec).batch_key

    def make(self, specs: Sequence[SampleSpec]) -> list[Sample]:
        clock = Clock(self.device)
        sources, noise = self.noise(specs)
        return self.finish(specs, self.denoise_latents(specs, noise, clock=clock), sources=sources, clock=clock)

    def finish(
        self, specs: Sequence[SampleSpec], latents: Tensor, *, sources: Sequence[torch.Generator], clock: Clock
    ) -> list[Sample]:
        """Decode clean latents (b, c, h, w) and post-process."""
        with clock("decode"):
            picture, spectrogram = self.decoder(latents)
        return self.post_process(
            specs,
            latents=latents,
            picture=picture,
            spectrogram=spectrogram,
            prompts=[spec.prompts[self.decoder.picture_expert] for spec in specs],
            sources=sources,
            clock=clock,
        )

    def noise(self, specs: Sequence[SampleSpec]) -> tuple[list[torch.Generator], Tensor]:
        """Create a generator for each spec and draw z_T from it, (b, c, h, w)."""
        sources = generators([spec.seed for spec in specs])
        shape = self.decoder.sound.latent_shape(self.canvas)
        return sources, initial_noise(sources, shape, dtype=getattr(torch, self.noise_dtype)).to(self.device)

    def denoise_latents(
        self,
        specs: Sequence[SampleSpec],
        latents: Tensor,
        *,
        clock: Clock,
        part: range | None = None,
        on_step: Callable[[Step], None] | None = None,
    ) -> Tensor:
        """Denoise the latents of a batch.

        Args:
            specs: specs with equal `batch_key`.
            latents: latents before the first step, (b, c, h, w).
            clock: measures the stages `text` and `denoise`.
            part: indices of the steps to run; None to run all.
            on_step: called after each step; None for the progress callback.

        Returns:
            Latents after the last step, (b, c, h, w).
        """
        process = merge_processes([self.process_of(spec) for spec in specs])
        with clock("text"):
            names = process.participants()
            experts = {n: self._estimator(n, expert, specs) for n, expert in self.named_experts() if n in names}
        with clock("denoise"):
            return denoise(
                latents,
                experts=experts,
                combiner=process.combiner,
                scheduler=process.scheduler,
                steps=process.steps,
                run=self._run,
                on_step=on_step or self.report(len(specs)),
                part=part,
            )

    def evaluations(self, spec: SampleSpec, part: range) -> int:
        """Count the network evaluations for a spec in some steps: two for a guided expert, one for an unguided one."""
        process = self.process_of(spec)
        begin, end = self.guidance_interval or (0.0, math.inf)
        count = 0
        for index in part:
            progress = index / process.steps
            guided = begin <= progress + ROUNDING < end
            for name, weight in process.combiner.weights(progress).items():
                if weight != 0:
                    count += 2 if guided and spec.guidance_scale[name] != 1 else 1
        return count

    def _estimator(self, name: str, expert: NoiseExpert, specs: Sequence[SampleSpec]) -> GuidedExpert | Interval:
        guided = self.guided(name, expert, specs)
        if self.guidance_interval is None:
            return guided
        begin, end = self.guidance_interval
        return Interval(inside=guided, outside=guided.unguided(), begin=begin, end=end)

    def process_of(self, spec: SampleSpec) -> Process:
        """Return the process with the spec's settings. Specs with equal settings share one object."""
        if not spec.settings:
            return self.process
        key = json.dumps(dict(spec.settings), sort_keys=True)
        if key not in self._processes:
            process = self.process.with_settings(spec.settings)
            process.check()
            validation.check_combiner(process, self.expert_names, self.canvas)
            self._processes[key] = process
        return self._processes[key]
