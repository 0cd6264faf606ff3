"""Multimodal denoising, the paper's main method: experts of one latent space denoise one canvas together."""

from __future__ import annotations

import json
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
from its.specs.sweep import Process, process_of_batch


@register
class MultimodalDenoising(Method):
    """Experts of one latent space denoise one canvas jointly.

    This is the main method of the paper (arXiv 2405.12221, Section 3).
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
        experts: by the names that prompts, guidance scales and weights refer to.
        combiner: combines their noise estimates.
        scheduler: of the reverse process, the same for all.
        vocoder: plays the spectrogram.
        codec: decodes the latents; by default the ones that the experts bring.
        colorizer: makes a colour picture of the gray one.
        steps: of the reverse process.
        canvas: rows and columns of the picture. Rows are mel bands.
        trim: columns cut from the end, with their sound: padding of Auffusion's training data.
        noise_dtype: `float16` replays seeds published by the paper's authors.
        guidance_interval: begin and end, as shares of the reverse process, of the steps that are guided; null for all
            of them. Steps without guidance cost half, and the result is another one.
        compile: have torch compile the experts' networks, which takes a minute once; results differ by rounding.
        cuda_graph: replay the experts of a step as one CUDA graph, with equal results; `auto` does on a CUDA device,
            if all experts allow it.
        streams: run the experts of a step side by side on a CUDA device, with equal results; `auto` does in graphs of
            small batches.
        fallback: pack of weights to take as a whole where the named ones can't be had; null for an error.
        """
        validation.check_some(experts)
        validation.check_canvas(canvas, trim)
        validation.check_interval(guidance_interval)
        super().__init__(experts=experts, fallback=fallback)
        self.process = Process(combiner=combiner, scheduler=scheduler, steps=steps)
        self.process.check()
        validation.check_combiner(self.process, list(experts), canvas)
        self.decoder = Decoder(experts, codec)
        self.post_process = PostProcess(vocoder=vocoder, colorizer=colorizer, canvas=canvas, trim=trim)
        self.canvas = canvas
        self.noise_dtype = noise_dtype
        self.guidance_interval = guidance_interval
        self.compile_networks = compile
        self.cuda_graph = cuda_graph
        self.streams = streams
        self.fixed_shapes = compile  # each batch size is a compilation
        self._run: Runner = sequential
        self._processes: dict[str, Process] = {}

    def components(self) -> list[tuple[str, Component]]:
        """Experts, codecs, vocoder and colorizer."""
        return [*super().components(), *self.decoder.components(), *self.post_process.components()]

    def check(self) -> None:
        """Check latent spaces, noise schedules, canvas, codec and vocoder.

        Raises:
            UserError: they do not fit each other.
        """
        vocoder, experts = self.post_process.vocoder, dict(self.named_experts())
        validation.check_latent_spaces(experts)
        validation.check_codecs(experts, self.decoder.codecs())
        validation.check_schedule(experts, self.process.scheduler, dict.fromkeys(experts, self.process.steps))
        validation.check_formats(experts=experts, vocoder=vocoder)
        validation.check_canvas_for(self.canvas, self.decoder.sound, vocoder)
        validation.check_parts(self.components(), canvas=self.canvas, steps=self.process.steps)
        validation.check_color(colorizer=self.post_process.colorizer, experts=experts)
        self.decoder.join()

    def unused_components(self) -> set[str]:
        """Experts that run in no step of any process: the config's own, and those of specs seen by `definition`."""
        processes = (self.process, *self._processes.values())
        used = {name for process in processes for name in process.participants()}
        return {f"experts.{name}" for name in self.experts if name not in used}

    def configure_model(self) -> None:
        """Load all weights. Lightning may call this more than once."""
        super().configure_model()
        self.decoder.join(loaded=True)
        self._speed_up()

    def release(self) -> None:
        """Free CUDA graphs."""
        release(self._run)

    def settings(self, spec: SampleSpec) -> dict[str, Any]:
        """Everything under `model` that a sample depends on."""
        process, post = self.process_of(spec), self.post_process
        return {
            "method": "multimodal denoising",
            "combiner": process.combiner.describe(),
            "scheduler": process.scheduler.describe(),
            "vocoder": post.vocoder.describe(defining=True),
            "colorizer": post.coloring(spec, spec.prompts[self.decoder.picture_expert]),
            "steps": process.steps,
            "canvas": list(self.canvas),
            "trim": post.trim,
            "noise_dtype": self.noise_dtype,
            **({} if self.guidance_interval is None else {"guidance_interval": list(self.guidance_interval)}),
        }

    def length(self, spec: SampleSpec) -> str:
        """Steps of the reverse process."""
        return f"{self.process_of(spec).steps} steps"

    def batch_key(self, spec: SampleSpec) -> str:
        """Specs of equal schedulers and steps can share a batch; their combiners may differ."""
        return self.process_of(spec).batch_key

    def make(self, specs: Sequence[SampleSpec]) -> list[Sample]:
        """Draw noise, denoise jointly, decode, vocode and colour."""
        clock = Clock(self.device)
        sources, noise = self.noise(specs)
        return self.finish(specs, self.walk(specs, noise, clock=clock), sources=sources, clock=clock)

    def finish(
        self, specs: Sequence[SampleSpec], latents: Tensor, *, sources: Sequence[torch.Generator], clock: Clock
    ) -> list[Sample]:
        """Clean latents (b, c, h, w) -> whole samples."""
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
        """Each spec's own generator, and z_T drawn from it, (b, c, h, w)."""
        sources = generators([spec.seed for spec in specs])
        shape = self.decoder.sound.latent_shape(self.canvas)
        drawn = initial_noise(sources, shape, dtype=getattr(torch, self.noise_dtype))
        return sources, drawn.to(self.device)

    def walk(
        self,
        specs: Sequence[SampleSpec],
        latents: Tensor,
        *,
        clock: Clock,
        part: range | None = None,
        on_step: Callable[[Step], None] | None = None,
    ) -> Tensor:
        """Denoise the latents of specs that share a batch.

        Args:
            specs: give prompts and settings.
            latents: (b, c, h, w), before the process or the part.
            clock: times it.
            part: steps of the process; by default all.
            on_step: called after each step; by default the progress callback.

        Returns:
            Latents (b, c, h, w) after it.
        """
        process = process_of_batch([self.process_of(spec) for spec in specs])
        with clock("text"):
            needed = process.participants()
            experts = {
                name: self._estimator(name, expert, specs) for name, expert in self.named_experts() if name in needed
            }
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
        """Number of network evaluations for a spec in some steps: two for each guided expert, else one."""
        process = self.process_of(spec)
        begin, end = self.guidance_interval or (0.0, 1.0)
        count = 0
        for index in part:
            progress = index / process.steps
            guided = begin <= progress + ROUNDING < end or self.guidance_interval is None
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

    def _speed_up(self) -> None:
        """Compile networks, and choose how the experts of a step are run.

        Raises:
            UserError: `cuda_graph` or `streams` is set without a GPU.
        """
        idle = self.unused_components()
        used = {name: expert for name, expert in self.named_experts() if f"experts.{name}" not in idle}
        self._run = choose_runner(used.values(), device=self.target, cuda_graph=self.cuda_graph, streams=self.streams)
        for name, expert in used.items():
            if self.compile_networks and not expert.compile_network():
                kind = type(expert).__name__
                warnings.warn(f"model.compile: expert {name} ({kind}) has nothing to compile", stacklevel=1)

    def process_of(self, spec: SampleSpec) -> Process:
        """The process with the spec's settings; one object for equal settings."""
        if not spec.settings:
            return self.process
        key = json.dumps(dict(spec.settings), sort_keys=True)
        if key not in self._processes:
            changed = self.process.changed(spec.settings)
            changed.check()
            validation.check_combiner(changed, self.expert_names, self.canvas)
            self._processes[key] = changed
        return self._processes[key]
