"""Multimodal score distillation (SDS), the paper's slow baseline: an image optimised under several experts."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

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
from its.methods.score_distillation.optimisation import Optimisation, SDSGuidance, SDSTarget, distil, errors
from its.registry import register
from its.specs.spec import SampleSpec
from its.specs.sweep import changed


@dataclass(frozen=True, kw_only=True)
class _Process:
    """What a sweep can change."""

    guides: Mapping[str, SDSGuidance]
    iterations: int
    learning_rate: float

    def changed(self, settings: Mapping[str, Any]) -> _Process:
        """With a spec's settings. Raises UserError: they are invalid."""
        weights = {f"{name}.weight": guide.weight for name, guide in self.guides.items()}
        numbers = {"guides": weights, "iterations": self.iterations, "learning_rate": self.learning_rate}
        parts = changed(numbers, settings)
        if not isinstance(parts["guides"], Mapping):
            raise UserError(f"data.sweep: there is no setting guides to sweep over, but {', '.join(weights)} of it")
        guides = {n: replace(guide, weight=parts["guides"][f"{n}.weight"]) for n, guide in self.guides.items()}
        return _Process(**parts | {"guides": guides})


@register
class ScoreDistillation(Method):
    """Optimises an image by score distillation.

    The image is implicit; its gradient is the sum over all experts (Eq. 7 of the paper), which need not share a latent
    space or a noise schedule. Each has its own codec, which has to encode with gradients. An unfinished sample has a
    checkpoint in its folder, from which the same command continues.
    """

    one_by_one = True
    needs_gradients = True
    cuda_precision = "32-true"  # gradients through an encoder leave the range of float16
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
        experts: whose opinions count, by names that prompts, guidance scales and guides refer to.
        vocoder: plays the image.
        colorizer: makes a colour picture of the gray one.
        guides: for each expert how it looks at the image, its weight and when it begins; by default at the whole of
            it, with weight 1, from the beginning.
        iterations: of the optimiser.
        learning_rate: of AdamW.
        weight_decay: of AdamW.
        timesteps: shares of the experts' training timesteps between which t is drawn.
        network: sizes of the implicit image.
        probes: (t, eps) that each expert's error is measured with, before and after, for `sample.json`.
        checkpoint_every: iterations after which work is kept on disk.
        canvas: rows and columns of the picture. Rows are mel bands.
        trim: columns cut from the end, with their sound: padding of Auffusion's training data.
        fallback: pack of weights to take as a whole where the named ones can't be had; null for an error.
        """
        if not experts:
            raise UserError("model.experts is empty; name at least one")
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
        self.codecs = nn.ModuleDict({name: expert.codec() for name, expert in experts.items()})
        self.post_process = PostProcess(vocoder=vocoder, colorizer=colorizer, canvas=canvas, trim=trim)
        self._check_numbers()

    def components(self) -> list[tuple[str, Component]]:
        """Experts, their codecs, vocoder and colorizer."""
        codecs: dict[int, tuple[str, Component]] = {}
        for name, codec in self._named_codecs():
            codecs.setdefault(id(codec), (f"codecs.{name}", codec))
        return [*super().components(), *codecs.values(), *self.post_process.components()]

    def check(self) -> None:
        """Every expert's view suits its codec, and the vocoder plays what is drawn."""
        experts, iterations = dict(self.named_experts()), self.process.iterations
        for name, codec in self._named_codecs():
            view = self.process.guides[name].view(self.canvas)
            try:
                codec.latent_shape(view)
            except ValueError as error:
                raise UserError(f"model.guides.{name}: {error}") from None
            validation.check_parts([(f"experts.{name}", experts[name])], canvas=view, steps=iterations)
        validation.check_parts(self.post_process.components(), canvas=self.canvas, steps=iterations)
        validation.check_formats(experts=experts, vocoder=self.post_process.vocoder)
        validation.check_bands(self.canvas, self.post_process.vocoder)
        validation.check_color(colorizer=self.post_process.colorizer, experts=experts)
        known: list[tuple[dict[str, Any], LatentCodec]] = []
        for name, codec in self._named_codecs():  # one is loaded where several are of the same weights
            record = codec.provenance()
            same = next((other for seen, other in known if seen == record), None)
            if same is not None:
                self.codecs[name] = same
            elif record is not None:
                known.append((record, codec))

    def on_predict_start(self) -> None:
        """Try the encoders, now that they are loaded.

        Raises:
            UserError: one can't encode, or not with gradients.
        """
        for name, codec in self._named_codecs():
            view = self.process.guides[name].view(self.canvas)
            validation.check_encoder(name, codec, view, self.device)

    def settings(self, spec: SampleSpec) -> dict[str, Any]:
        """Everything under `model` that a sample depends on."""
        process, post = self._process_of(spec), self.post_process
        seen = first_expert(dict(self.named_experts()), of_sound=False)
        return {
            "method": "score distillation",
            "guides": {name: asdict(guide) for name, guide in process.guides.items()},
            "iterations": process.iterations,
            "learning_rate": process.learning_rate,
            "weight_decay": self.weight_decay,
            "timesteps": list(self.timesteps),
            "network": asdict(self.network),
            "vocoder": post.vocoder.describe(defining=True),
            "colorizer": post.coloring(spec, spec.prompts[seen]),
            "canvas": list(self.canvas),
            "trim": post.trim,
        }

    def length(self, spec: SampleSpec) -> str:
        """Iterations."""
        return f"{self._process_of(spec).iterations} iterations"

    def batch_key(self, spec: SampleSpec) -> str:
        """Samples are made one after the other; those of a batch take equally long."""
        return str(self._process_of(spec).iterations)

    def make(self, specs: Sequence[SampleSpec]) -> list[Sample]:
        """One optimisation after the other, then what is done with all pictures."""
        clock, scores, images = Clock(self.device), [], []
        with clock("optimise"), torch.inference_mode(False), torch.enable_grad():
            for number, spec in enumerate(specs):
                image, measured = self._optimise(spec, self._reporter(number, specs))
                images.append(image)
                scores.append(measured)
        x = torch.cat(images).expand(-1, 3, -1, -1)
        seen = first_expert(dict(self.named_experts()), of_sound=False)
        samples = self.post_process(
            specs,
            latents=None,
            picture=x,
            spectrogram=self.post_process.vocoder.format.sounding(x),
            prompts=[spec.prompts[seen] for spec in specs],
            sources=generators([spec.seed for spec in specs]),
            clock=clock,
        )
        return [replace(sample, scores=measured) for sample, measured in zip(samples, scores, strict=True)]

    def _optimise(self, spec: SampleSpec, report: Callable[[Optimisation], None]) -> tuple[Tensor, dict[str, Any]]:
        """One spec -> its image (1, 1, H, W), and each expert's error before and after.

        An image that is no longer finite comes back as it is, and leaves no checkpoint.
        """
        process, targets = self._process_of(spec), self._targets(spec)
        before = self._errors(self._begun(spec), targets)
        state, path = self._resumed(spec)

        def after_each(state: Optimisation) -> None:
            report(state)
            if state.done % self.checkpoint_every == 0 or state.done == process.iterations:
                if not all(bool(x.isfinite().all()) for x in state.image.parameters()):
                    raise FloatingPointError
                if path is not None:
                    save_checkpoint(path, state)

        try:
            distil(state, targets=list(targets.values()), iterations=process.iterations, after_each=after_each)
        except FloatingPointError:
            if path is not None:
                path.unlink(missing_ok=True)
        after = self._errors(state, targets)
        with torch.no_grad():
            return state.image.eval()(), {
                "denoising_error": {name: {"before": before[name], "after": after[name]} for name in targets}
            }

    def _begun(self, spec: SampleSpec) -> Optimisation:
        """The beginning, which depends on the spec's seed alone."""
        (generator,) = generators([spec.seed])
        image = ImplicitImage(self.canvas, self.network, generator).to(self.device)
        rate = self._process_of(spec).learning_rate
        optimizer = torch.optim.AdamW(image.parameters(), lr=rate, weight_decay=self.weight_decay)
        return Optimisation(image=image, optimizer=optimizer, generator=generator)

    def _resumed(self, spec: SampleSpec) -> tuple[Optimisation, Path | None]:
        """Where an earlier run was stopped, or else the beginning; and where checkpoints go."""
        state = self._begun(spec)
        if self.samples is None:
            return state, None
        path = self.samples / spec.id / CHECKPOINT
        try:
            load_checkpoint(path, state)
        except ValueError as error:
            warnings.warn(f"{error}: the sample begins anew", stacklevel=1)
            state = self._begun(spec)
        return state, path

    def _targets(self, spec: SampleSpec) -> dict[str, SDSTarget]:
        codecs, targets = dict(self._named_codecs()), {}
        for name, expert in self.named_experts():
            guide, alphas = self._process_of(spec).guides[name], expert.alphas()
            first, last = (int(share * len(alphas)) for share in self.timesteps)
            targets[name] = SDSTarget(
                guide=guide,
                codec=codecs[name],
                expert=self.guided(name, expert, [spec] * guide.crops),
                alphas=alphas,
                timesteps=(first, min(last, len(alphas) - 1)),
            )
        return targets

    def _errors(self, state: Optimisation, targets: Mapping[str, SDSTarget]) -> dict[str, float]:
        state.image.train(state.done == 0)  # at the beginning the norms have no running means yet
        with torch.no_grad():
            image = state.image()
        return errors(image, targets, probes=self.probes, seed=0)

    def _reporter(self, number: int, specs: Sequence[SampleSpec]) -> Callable[[Optimisation], None]:
        """A callback that reports the iterations of one of a batch's specs."""
        process, report = self._process_of(specs[number]), self.report(len(specs))
        iterations = process.iterations

        def after_each(state: Optimisation) -> None:
            if report is not None:
                index = state.done - 1
                ran = [name for name, guide in process.guides.items() if guide.weight != 0 and index >= guide.begin]
                steps, done = iterations * len(specs), iterations * number + index
                report(Step(index=done, steps=steps, timestep=0, experts=list(process.guides), ran=ran))  # t is random

        return after_each

    def _named_codecs(self) -> list[tuple[str, LatentCodec]]:
        named = []
        for name, codec in self.codecs.items():
            assert isinstance(codec, LatentCodec)
            named.append((name, codec))
        return named

    def _process_of(self, spec: SampleSpec) -> _Process:
        return self.process.changed(spec.settings) if spec.settings else self.process

    def _check_numbers(self) -> None:
        for name in ("probes", "checkpoint_every"):
            if (count := getattr(self, name)) < 1:
                raise UserError(f"model.{name} is {count}; expected 1 or more")
        if self.process.iterations < 1:
            raise UserError(f"model.iterations is {self.process.iterations}; expected 1 or more")
        if not 0 <= self.timesteps[0] < self.timesteps[1] <= 1:
            raise UserError(f"model.timesteps is {list(self.timesteps)}; expected two shares, such as [0.02, 0.98]")
        for name, guide in self.process.guides.items():
            if wrong := guide.misfit(self.canvas):
                raise UserError(f"model.guides.{name}: {wrong}")
        if all(guide.begin > 0 for guide in self.process.guides.values()):
            raise UserError("model.guides: nobody begins at iteration 0, so there is nothing to follow until then")
