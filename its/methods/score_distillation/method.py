"""Multimodal score distillation (SDS), a baseline of the paper: optimise an image with several experts."""
# ruff: noqa: D102 - overriding methods are documented in `Method`

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from its.diffusion.noise import generators
from its.errors import UserError
from its.interfaces import Colorizer, Component, LatentCodec, NoiseExpert, Step, Vocoder
from its.methods import validation
from its.methods.base import Method
from its.methods.decoder import first_expert
from its.methods.post_process import Clock, PostProcess
from its.methods.sample import CHECKPOINT, Sample
from its.methods.score_distillation.checkpoint import load_checkpoint, save_checkpoint
from its.methods.score_distillation.implicit_image import PAPER, ImplicitImage, Network
from its.methods.score_distillation.optimisation import Optimisation, SDSGuidance, SDSTarget, denoising_errors, distil
from its.registry import register
from its.specs.spec import SampleSpec
from its.specs.sweep import apply_settings


@dataclass(frozen=True, kw_only=True)
class _Process:
    """Settings that a sweep can change."""

    guides: Mapping[str, SDSGuidance]
    iterations: int
    learning_rate: float

    def with_settings(self, settings: Mapping[str, Any]) -> _Process:
        """Apply a spec's settings. Raises UserError: they are invalid."""
        weights = {f"{name}.weight": guide.weight for name, guide in self.guides.items()}
        numbers = {"guides": weights, "iterations": self.iterations, "learning_rate": self.learning_rate}
        values = apply_settings(numbers, settings)
        if not isinstance(values["guides"], Mapping):
            expected = ", ".join(f"guides.{key}" for key in weights)
            raise UserError(f"data.sweep: guides can't be swept as one setting; expected one of {expected}")
        guides = {n: replace(guide, weight=values["guides"][f"{n}.weight"]) for n, guide in self.guides.items()}
        return _Process(**values | {"guides": guides})


@register
class ScoreDistillation(Method):
    """Optimises an image by score distillation.

    The gradient of an implicit image is the sum over all experts (Eq. 7 of the paper). Experts may differ in latent
    space and noise schedule. Each encodes the image with its own codec, which must be differentiable. An unfinished
    sample has a checkpoint in its folder, from which the same command continues.
    """

    one_by_one = True
    needs_gradients = True
    cuda_precision = "32-true"  # gradients through the encoders exceed the range of float16
    has_latents = False

    def __init__(
        self,
        *,
        experts: dict[str, NoiseExpert],
        vocoder: Vocoder,
        colorizer: Colorizer | None = None,
        guides: dict[str, SDSGuidance] | None = None,
        iterations: int = 40_000,
        learning_rate: float = 1e-4,
        weight_decay: float = 1e-3,
        timesteps: tuple[float, float] = (0.02, 0.98),
        network: Network = PAPER,
        probes: int = 16,
        checkpoint_every: int = 500,
        canvas: tuple[int, int] = (256, 1024),
        trim: int = 32,
        fallback: str | None = None,
    ) -> None:
        """Args:
        experts: experts by name. Prompts, guidance scales and guides refer to these names.
        vocoder: synthesises the sound from the image.
        colorizer: colorizes the image; null for gray only.
        guides: weight, start and crops by expert; by default weight 1 from iteration 0 on the full image.
        iterations: number of iterations of AdamW.
        learning_rate: learning rate of AdamW.
        weight_decay: weight decay of AdamW.
        timesteps: [first, last] t to draw, as fractions of the experts' training timesteps.
        network: hyperparameters of the implicit image.
        probes: number of (t, eps) to measure each expert's denoising error with, before and after, for `sample.json`.
        checkpoint_every: iterations between checkpoints.
        canvas: rows (mel bands) and columns of the image.
        trim: columns to cut from the end of picture and sound, which are padding in Auffusion's training data.
        fallback: pack of weights to use if weights can't be found; null to raise an error.
        """
        validation.check_not_empty(experts)
        validation.check_canvas(canvas, trim)
        super().__init__(experts=experts, fallback=fallback)
        guides = dict.fromkeys(experts, SDSGuidance()) | (guides or {})
        validation.check_names("model.guides", guides, experts)
        self.process = _Process(guides=guides, iterations=iterations, learning_rate=learning_rate)
        self.weight_decay = weight_decay
        self.timesteps = timesteps
        self.network = network
        self.probes = probes
        self.checkpoint_every = checkpoint_every
        self.canvas = canvas
        self.picture_expert = first_expert(experts, audio=False)
        self.codecs = nn.ModuleDict({name: expert.codec() for name, expert in experts.items()})
        self.post_process = PostProcess(vocoder=vocoder, colorizer=colorizer, canvas=canvas, trim=trim)
        for name in ("iterations", "probes", "checkpoint_every"):
            if (count := getattr(self.process if name == "iterations" else self, name)) < 1:
                raise UserError(f"model.{name} is {count}; expected 1 or more")
        if not 0 <= timesteps[0] < timesteps[1] <= 1:
            raise UserError(f"model.timesteps is {list(timesteps)}; expected [first, last] with 0 <= first < last <= 1")
        for name, guide in guides.items():
            guide.check(f"model.guides.{name}", canvas)
        if all(guide.begin > 0 for guide in guides.values()):
            raise UserError("model.guides: no expert has begin 0; expected at least one, to guide the first iterations")

    def components(self) -> list[tuple[str, Component]]:
        codecs: dict[int, tuple[str, Component]] = {}
        for name, codec in self._named_codecs():
            codecs.setdefault(id(codec), (f"codecs.{name}", codec))
        return [*super().components(), *codecs.values(), *self.post_process.components()]

    def check(self) -> None:
        experts, steps = dict(self.named_experts()), self.process.iterations
        for name, codec in self._named_codecs():
            size = self.process.guides[name].input_size(self.canvas)
            validation.check_latent_shape(size, codec, key=f"guides.{name}")
            validation.check_components([(f"experts.{name}", experts[name])], canvas=size, steps=steps)
        validation.check_components(self.post_process.components(), canvas=self.canvas, steps=steps)
        validation.check_formats(experts, self.post_process.vocoder)
        validation.check_bands(self.canvas, self.post_process.vocoder)
        validation.check_colorizer(self.post_process.colorizer, experts)
        unique: dict[str, LatentCodec] = {}  # codecs with equal weights are loaded once
        for name, codec in self._named_codecs():
            if (provenance := codec.provenance()) is not None:
                self.codecs[name] = unique.setdefault(json.dumps(provenance, sort_keys=True), codec)

    def on_predict_start(self) -> None:
        for name, codec in self._named_codecs():
            size = self.process.guides[name].input_size(self.canvas)
            validation.check_encoder(name, codec, size, self.device)

    def settings(self, spec: SampleSpec) -> dict[str, Any]:
        process = self._process_of(spec)
        return {
            "method": "score distillation",
            "guides": {name: asdict(guide) for name, guide in process.guides.items()},
            "iterations": process.iterations,
            "learning_rate": process.learning_rate,
            "weight_decay": self.weight_decay,
            "timesteps": list(self.timesteps),
            "network": asdict(self.network),
            **self.post_process.settings(spec, spec.prompts[self.picture_expert]),
        }

    def length(self, spec: SampleSpec) -> str:
        return f"{self._process_of(spec).iterations} iterations"

    def batch_key(self, spec: SampleSpec) -> str:
        """Return the number of iterations, so that all samples of a batch take equally long."""
        return str(self._process_of(spec).iterations)

    def make(self, specs: Sequence[SampleSpec]) -> list[Sample]:
        clock, scores, images = Clock(self.device), [], []
        with clock("optimise"), torch.inference_mode(False), torch.enable_grad():
            for number in range(len(specs)):
                image, errors = self._optimise(number, specs)
                images.append(image)
                scores.append({"denoising_error": errors})
        x = torch.cat(images).expand(-1, 3, -1, -1)
        samples = self.post_process(
            specs,
            picture=x,
            spectrogram=self.post_process.vocoder.format.select_channels(x),
            prompts=[spec.prompts[self.picture_expert] for spec in specs],
            sources=generators([spec.seed for spec in specs]),
            clock=clock,
        )
        return [replace(sample, scores=errors) for sample, errors in zip(samples, scores, strict=True)]

    def _optimise(self, number: int, specs: Sequence[SampleSpec]) -> tuple[Tensor, dict[str, dict[str, float]]]:
        """Return the image (1, 1, H, W) of one spec, and each expert's denoising error before and after.

        If the image becomes non-finite, the optimisation stops, and its checkpoint is deleted.
        """
        spec, report = specs[number], self.report(len(specs))
        process, targets = self._process_of(spec), self._targets(spec)
        path = None if self.samples is None else self.samples / spec.id / CHECKPOINT
        before = self._errors(self._state(spec), targets)
        state = self._state(spec, path)

        def on_iteration(state: Optimisation) -> None:
            if report is not None:
                guides, index = process.guides, state.done - 1
                ran = [name for name, guide in guides.items() if guide.weight != 0 and index >= guide.begin]
                index, steps = process.iterations * number + index, process.iterations * len(specs)
                report(Step(index=index, steps=steps, timestep=0, experts=list(guides), ran=ran))  # t is random
            if state.done % self.checkpoint_every == 0 or state.done == process.iterations:
                if not all(bool(x.isfinite().all()) for x in state.image.parameters()):
                    raise FloatingPointError
                if path is not None:
                    save_checkpoint(path, state)

        try:
            distil(state, targets=list(targets.values()), iterations=process.iterations, on_iteration=on_iteration)
        except FloatingPointError:
            if path is not None:
                path.unlink(missing_ok=True)
        after = self._errors(state, targets)
        with torch.no_grad():
            return state.image.eval()(), {name: {"before": before[name], "after": after[name]} for name in targets}

    def _state(self, spec: SampleSpec, checkpoint: Path | None = None) -> Optimisation:
        """Create an optimisation from the spec's seed, and load its checkpoint if it exists."""
        (generator,) = generators([spec.seed])
        image = ImplicitImage(self.canvas, self.network, generator).to(self.device)
        rate = self._process_of(spec).learning_rate
        optimizer = torch.optim.AdamW(image.parameters(), lr=rate, weight_decay=self.weight_decay)
        state = Optimisation(image=image, optimizer=optimizer, generator=generator)
        try:
            if checkpoint is not None:
                load_checkpoint(checkpoint, state)
        except ValueError as error:
            warnings.warn(f"{error}: restarting the sample", stacklevel=1)
            return self._state(spec)
        return state

    def _targets(self, spec: SampleSpec) -> dict[str, SDSTarget]:
        codecs, targets = dict(self._named_codecs()), {}
        for name, expert in self.named_experts():
            guide, alphas = self._process_of(spec).guides[name], expert.alphas()
            first, last = (int(fraction * len(alphas)) for fraction in self.timesteps)
            targets[name] = SDSTarget(
                guide=guide,
                codec=codecs[name],
                expert=self.guided(name, expert, [spec] * guide.crops),
                alphas=alphas,
                timesteps=(first, min(last, len(alphas) - 1)),
            )
        return targets

    @torch.no_grad()
    def _errors(self, state: Optimisation, targets: Mapping[str, SDSTarget]) -> dict[str, float]:
        state.image.train(state.done == 0)  # at iteration 0 the norms have no running means
        return denoising_errors(state.image(), targets, probes=self.probes, seed=0)

    def _named_codecs(self) -> list[tuple[str, LatentCodec]]:
        return [(name, cast(LatentCodec, codec)) for name, codec in self.codecs.items()]

    def _process_of(self, spec: SampleSpec) -> _Process:
        return self.process.with_settings(spec.settings) if spec.settings else self.process
