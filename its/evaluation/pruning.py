"""Stop samples early: score the predicted results during the reverse process, and stop the worse samples.

The predicted clean latents z_0 (`Step.predict_clean`) are decoded, vocoded and scored like those of a finished sample.
"""

from __future__ import annotations

import logging
import math
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from its.errors import UserError
from its.evaluation.ranking import Keep, best_first
from its.interfaces import Scorer, ScorerInput, Step
from its.methods.base import Method
from its.methods.batch_runner import BatchRunner
from its.methods.denoising import MultimodalDenoising
from its.methods.post_process import Clock
from its.methods.sample import Sample
from its.specs.spec import SampleSpec

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class _Unfinished:
    """Sample in progress: latents (c, h, w) before step `index`, and the latest scores by scorer."""

    spec: SampleSpec
    latents: Tensor
    index: int
    scores: dict[str, float | None]


class PruningRunner(BatchRunner):
    """Makes the samples of one prompt pair, and stops the worse ones early.

    If an error occurs, all samples are made without pruning.

    Attributes:
        method: method that makes the samples.
        keep: rule by which samples are stopped.
        scorers: prepared scorers.
        batch_size: maximum batch size.
    """

    method: MultimodalDenoising

    def __init__(self, method: MultimodalDenoising, keep: Keep, scorers: Sequence[Scorer], batch_size: int) -> None:
        super().__init__(method)
        self.keep, self.scorers, self.batch_size = keep, scorers, batch_size

    def load(self) -> None:
        """Load the scorers onto the method's device.

        Raises:
            UserError: a scorer can't be loaded.
        """
        for scorer in self.scorers:
            try:
                scorer.load()
                scorer.to(self.method.device).eval().requires_grad_(False)
            except UserError:
                raise
            except Exception as error:  # plugins may raise anything
                reason = f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"
                raise UserError(f"scorers: {type(scorer).__name__} can't be loaded: {reason}") from error

    def __call__(self, batch: Sequence[SampleSpec]) -> list[Sample]:
        """Make a sample for each spec, in order. Stopped samples have their scores instead of a result."""
        try:
            return self._prune(batch)
        except Exception as error:  # noqa: BLE001 - as in BatchRunner, an error must not lose samples
            traceback.print_exc()
            logger.warning(f"pruning failed ({type(error).__name__}: {error}); making all {len(batch)}")
            make = super().__call__
            return [sample for specs in _batches(batch, self.batch_size) for sample in make(specs)]

    def _prune(self, specs: Sequence[SampleSpec]) -> list[Sample]:
        assert self.keep.prune is not None
        steps, first = self.method.process_of(specs[0]).steps, self.method.first_step(specs[0])
        checks = sorted({first + max(1, round(share * (steps - first))) for share in self.keep.prune.at} - {steps})
        rest = [
            _Unfinished(spec=spec, latents=self.method.first_latents([spec])[1][0], index=first, scores={})
            for spec in specs
        ]
        made: dict[int, Sample] = {}
        for check in checks:
            goal = max(self.keep.best, math.ceil(self.keep.prune.leave * len(rest)))
            if goal >= len(rest):
                break  # the check would stop no sample
            for batch in _batches(rest, self.batch_size):
                self._advance(batch, check)
            criteria = self.keep.criteria(self.scorers)
            scores = {name: [sample.scores[name] for sample in rest] for name in criteria}
            order = best_first(scores, [sample.spec.seed for sample in rest])
            made |= {id(rest[i].spec): self._stopped(rest[i], steps, len(rest)) for i in order[goal:]}
            rest = [rest[i] for i in sorted(order[:goal])]
        for batch in _batches(rest, self.batch_size):
            made |= {id(sample.spec): sample for sample in self._finish(batch)}
        return [made[id(spec)] for spec in specs]

    def _advance(self, unfinished: Sequence[_Unfinished], end: int) -> None:
        """Denoise samples up to a step, and score their predicted results."""
        specs, clock = [sample.spec for sample in unfinished], Clock(self.method.device)
        report, last = self.method.report(len(specs)), None

        def on_step(step: Step) -> None:
            nonlocal last
            last = step
            if report is not None:
                report(step)

        z = torch.stack([sample.latents for sample in unfinished])
        z = self.method.denoise_latents(specs, z, clock=clock, part=range(unfinished[0].index, end), on_step=on_step)
        assert last is not None
        scores = self._scores(specs, last.predict_clean())
        for sample, latents, values in zip(unfinished, z, scores, strict=True):
            sample.latents, sample.index, sample.scores = latents, end, values

    def _scores(self, specs: Sequence[SampleSpec], clean: Tensor) -> list[dict[str, float | None]]:
        post, roles = self.method.post_process, self.method.roles()
        _, spectrogram = self.method.decoder(clean)
        sound = post.play(spectrogram).cpu().float()
        gray = (post.cut(spectrogram).mean(1).cpu().float() * 255).round() / 255
        scores: list[dict[str, float | None]] = [{} for _ in specs]
        for scorer in self.scorers:
            samples = [
                ScorerInput(
                    picture=gray[i],
                    waveform=sound[i] if sound.ndim == 2 else sound[i].mean(0),
                    sample_rate=post.vocoder.format.sample_rate,
                    prompt=spec.prompts.get(roles.get(scorer.modality, ""), ""),
                )
                for i, spec in enumerate(specs)
            ]
            with torch.autocast(self.method.device.type, enabled=False):
                results = scorer.score(samples)
            for values, score in zip(scores, results, strict=True):
                values[type(scorer).__name__] = score
        return scores

    def _finish(self, unfinished: Sequence[_Unfinished]) -> list[Sample]:
        """Complete samples. Samples that are not finite are made again from the beginning."""
        method, specs, clock = self.method, [sample.spec for sample in unfinished], Clock(self.method.device)
        steps = method.process_of(specs[0]).steps
        z = torch.stack([sample.latents for sample in unfinished])
        z = method.denoise_latents(specs, z, clock=clock, part=range(unfinished[0].index, steps))
        samples = method.finish(specs, z, sources=method.starts.noise(specs)[0], clock=clock)
        count = method.evaluations(specs[0], range(method.first_step(specs[0]), steps))
        make = super().__call__
        samples = [make([sample.spec])[0] if sample.result is None else sample for sample in samples]
        return [replace(sample, evaluations={"made": count, "whole": count}) for sample in samples]

    def _stopped(self, sample: _Unfinished, steps: int, of: int) -> Sample:
        first = self.method.first_step(sample.spec)
        made, complete = (self.method.evaluations(sample.spec, range(first, end)) for end in (sample.index, steps))
        stopped = {"step": sample.index, "steps": steps, "among": of, "scores": sample.scores}
        return Sample(spec=sample.spec, stopped=stopped, evaluations={"made": made, "whole": complete})


def check_prunes(method: Method) -> MultimodalDenoising:
    """Check that a method with prepared components supports pruning, and return it.

    Raises:
        UserError: it does not.
    """
    if not isinstance(method, MultimodalDenoising):
        raise UserError(f"keep.prune: {type(method).__name__} can't stop samples early; expected MultimodalDenoising")
    scheduler = method.process.scheduler
    if not scheduler.plan(method.process.steps).stateless:
        raise UserError(
            f"keep.prune: {type(scheduler).__name__} keeps state from step to step, so the process can't be "
            "interrupted: use DDIM, or remove keep.prune"
        )
    if method.fixed_shapes:
        raise UserError("keep.prune can't be used with model.compile, since batches shrink: remove one of the two")
    return method


def _batches(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [items[first : first + size] for first in range(0, len(items), size)]
