"""Multimodal denoising, the paper's main method (arXiv 2405.12221, Section 3)."""
# ruff: noqa: D102 - overriding methods are documented in `Method`

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from its.diffusion.guidance import GuidedExpert
from its.diffusion.sampling import ROUNDING, Interval, Runner, denoise, sequential
from its.diffusion.windows import Layout, Windows
from its.interfaces import (
    Colorizer,
    Combiner,
    Component,
    ExpertWrapper,
    LatentCodec,
    NoiseExpert,
    Scheduler,
    Step,
    Vocoder,
)
from its.methods import validation
from its.methods.base import Method
from its.methods.conditioning import check_control, check_transition, embed_prompts, read_controls
from its.methods.decoder import Decoder
from its.methods.loop import begin_quietly
from its.methods.post_process import Clock, PostProcess
from its.methods.sample import Sample
from its.methods.speed import Auto, choose_runner, release
from its.methods.start import Starts
from its.registry import register
from its.specs.spec import SampleSpec
from its.specs.sweep import Process, merge_processes


@dataclass(frozen=True, kw_only=True)
class WindowSize:
    """Width of windows and distance of their beginnings, in columns of the canvas."""

    width: int
    stride: int


@register
class MultimodalDenoising(Method):
    """Denoises one canvas jointly with several experts.

    All experts must have the same latent space. This is the main method of the paper (arXiv 2405.12221, Section 3).
    """

    supports_material = True

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
        guidance_rescale: float = 0.0,
        windows: WindowSize | None = None,
        loop: bool = False,
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
        guidance_rescale: share of the guided estimate that is rescaled to the standard deviation of the conditional
            one, against overexposure at high guidance scales (arXiv 2305.08891); 0 for none, 0.7 as there.
        windows: overlapping windows of the experts on a wide canvas, `{width: 1024, stride: 512}`; null for none.
        loop: make a picture and a sound whose end continues at its beginning; `trim` must be 0. Without the user's own
            material, it is rotated to begin where it is quietest.
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
        validation.check_loop(loop=loop, trim=trim)
        if loop and windows is None:
            windows = WindowSize(width=canvas[1], stride=canvas[1])  # `Layout` places two
        if windows is not None:
            windows = WindowSize(**windows) if isinstance(windows, Mapping) else windows
            validation.check_windows(windows.width, windows.stride)
            width, stride = windows.width, windows.stride
            experts = {n: Windows(expert=e, width=width, stride=stride, circular=loop) for n, e in experts.items()}
        super().__init__(experts=experts, fallback=fallback)
        self.process = Process(
            combiner=combiner, scheduler=scheduler, steps=steps, guidance_rescale=float(guidance_rescale)
        )
        self.process.check()
        validation.check_combiner(self.process, list(experts), canvas)
        self.decoder = Decoder(experts, codec, loop=loop)
        self.post_process = PostProcess(vocoder=vocoder, colorizer=colorizer, canvas=canvas, trim=trim, loop=loop)
        self.starts = Starts(self.decoder, self.post_process, noise_dtype=getattr(torch, noise_dtype))
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
        for expert in experts.values():
            if isinstance(expert, Windows):
                validation.check_windows(expert.width, expert.stride, multiple_of=expert.scale)
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
        experts = [expert for _, expert in self.named_experts()]
        check_control(spec, experts)
        check_transition(spec, self._layout(experts[0]))
        self.starts.check(spec)
        return {
            "method": "multimodal denoising",
            "combiner": process.combiner.describe(),
            "scheduler": process.scheduler.describe(),
            "steps": process.steps,
            **self.post_process.settings(spec, spec.prompts[self.decoder.picture_expert]),
            "noise_dtype": self.noise_dtype,
            **({} if self.guidance_interval is None else {"guidance_interval": list(self.guidance_interval)}),
            **({"guidance_rescale": process.guidance_rescale} if process.guidance_rescale else {}),
            **({"loop": True} if self.decoder.loop else {}),
        }

    def length(self, spec: SampleSpec) -> str:
        return f"{self.process_of(spec).steps - self.first_step(spec)} steps"

    def batch_key(self, spec: SampleSpec) -> str:
        """Return a key of the process without its combiner, and of the first step."""
        return f"{self.process_of(spec).batch_key} {self.first_step(spec)}"

    def first_step(self, spec: SampleSpec) -> int:
        """Return the index of the first step: 0, or later for a spec that starts from a picture or a sound."""
        steps, start = self.process_of(spec).steps, spec.material.start
        return 0 if start is None else steps - round(start.strength * steps)

    def make(self, specs: Sequence[SampleSpec]) -> list[Sample]:
        clock = Clock(self.device)
        with clock("start"):
            sources, latents = self.first_latents(specs)
        latents = self.denoise_latents(specs, latents, clock=clock)
        return self.finish(specs, latents, sources=sources, clock=clock)

    def finish(
        self, specs: Sequence[SampleSpec], latents: Tensor, *, sources: Sequence[torch.Generator], clock: Clock
    ) -> list[Sample]:
        """Decode clean latents (b, c, h, w) and post-process."""
        with clock("decode"):
            picture, spectrogram = self.decoder(latents)
        if self.decoder.loop:
            free = [self._has_no_places(spec) for spec in specs]
            latents, picture, spectrogram = begin_quietly(
                latents, picture, spectrogram, free=free, silence=self.decoder.format.silence
            )
        return self.post_process(
            specs,
            latents=latents,
            picture=picture,
            spectrogram=spectrogram,
            prompts=[spec.prompts[self.decoder.picture_expert] for spec in specs],
            sources=sources,
            clock=clock,
        )

    def _has_no_places(self, spec: SampleSpec) -> bool:
        """Whether a sample may be rotated: neither material, combiner nor views belong to places on the canvas."""
        sums_estimates = type(self.process_of(spec).combiner).combine is Combiner.combine
        inner = [expert.expert if isinstance(expert, Windows) else expert for _, expert in self.named_experts()]
        has_views = any(isinstance(expert, ExpertWrapper) for expert in inner)
        return sums_estimates and not (spec.material or spec.transition or has_views)

    def first_latents(self, specs: Sequence[SampleSpec]) -> tuple[list[torch.Generator], Tensor]:
        """Return each spec's generator, and the latents before `first_step`, (b, c, h, w): noise, or a noised start."""
        return self.starts.first_latents(specs, self.process_of(specs[0]), self.first_step(specs[0]), self.device)

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
            part: indices of the steps to run; None for all from `first_step` on.
            on_step: called after each step; None for the progress callback.

        Returns:
            Latents after the last step, (b, c, h, w).
        """
        process = merge_processes([self.process_of(spec) for spec in specs])
        with clock("text"):
            names = process.participants()
            experts = {n: self._estimator(n, expert, specs) for n, expert in self.named_experts() if n in names}
            scheduler = self.starts.keep_regions(specs, process.scheduler, self.device)
        with clock("denoise"):
            return denoise(
                latents,
                experts=experts,
                combiner=process.combiner,
                scheduler=scheduler,
                steps=process.steps,
                run=self._run,
                on_step=on_step or self.report(len(specs)),
                part=range(self.first_step(specs[0]), process.steps) if part is None else part,
            )

    def evaluations(self, spec: SampleSpec, part: range) -> int:
        """Count the network evaluations for a spec in some steps: in each window two if guided, one if not."""
        process = self.process_of(spec)
        begin, end = self.guidance_interval or (0.0, math.inf)
        layouts = {name: self._layout(expert) for name, expert in self.named_experts()}
        windows = {name: 1 if layout is None else len(layout.starts) for name, layout in layouts.items()}
        count = 0
        for index in part:
            progress = index / process.steps
            guided = begin <= progress + ROUNDING < end
            for name, weight in process.combiner.weights(progress).items():
                if weight != 0:
                    count += windows[name] * (2 if guided and spec.guidance_scale[name] != 1 else 1)
        return count

    def _estimator(self, name: str, expert: NoiseExpert, specs: Sequence[SampleSpec]) -> GuidedExpert | Interval:
        encode = self._texts[name]
        text = embed_prompts(expert, encode, name, specs, self._layout(expert), self.device)
        null_text = encode([spec.negative_prompts[name] for spec in specs], self.device)
        controls = read_controls(
            specs, expert.controls, canvas=self.canvas, trim=self.post_process.trim, cached=self.starts.cached
        )
        if controls is not None:
            pictures, scales = (tensor.to(self.device) for tensor in controls)
            text, null_text = (expert.add_control(each, pictures, scales) for each in (text, null_text))
        guided = GuidedExpert(
            expert,
            text=text,
            null_text=null_text.expand_as(text),
            scales=[spec.guidance_scale[name] for spec in specs],
            rescale=self.process_of(specs[0]).guidance_rescale,
        )
        if self.guidance_interval is None:
            return guided
        begin, end = self.guidance_interval
        return Interval(inside=guided, outside=guided.unguided(), begin=begin, end=end)

    def _layout(self, expert: NoiseExpert) -> Layout | None:
        """Return the windows of an expert; None if it is not divided into windows."""
        return expert.layout(self.decoder.sound.latent_shape(self.canvas)[2]) if isinstance(expert, Windows) else None

    def clear_text_caches(self) -> None:
        super().clear_text_caches()
        self.starts.clear()

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
