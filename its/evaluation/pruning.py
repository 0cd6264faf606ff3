"""Stops samples early: what they seem to become is scored in the midst of the process, and the worse ones end there.

Of the latents z_t and the noise estimate at a step follow the clean latents that they point to (see
`its.diffusion.sampling.Watched`). These are decoded, played and scored as a finished sample is.
"""

from __future__ import annotations

import math
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from its.diffusion.sampling import Watched
from its.errors import UserError
from its.evaluation.ranking import Keep, best_first
from its.interfaces import Combiner, Judged, Scorer
from its.methods.base import Method
from its.methods.denoising import MultimodalDenoising
from its.methods.finishing import Clock
from its.methods.sample import Sample
from its.specs.spec import SampleSpec


@dataclass(kw_only=True)
class _Runner:
    """A row on its way: latents (c, h, w) before step `index`, and the scores of each look."""

    row: SampleSpec
    latents: Tensor
    index: int
    scores: dict[str, float | None]


class Pruned:
    """Makes the rows of one pair of prompts, of which the worse ones are stopped early.

    What raises on the way goes back to how rows are made without pruning, so that none is lost.

    Attributes:
        method: makes them.
        keep: the rule.
        scorers: prepared.
        batch_size: samples that are made at once.
    """

    def __init__(self, method: MultimodalDenoising, keep: Keep, scorers: Sequence[Scorer], batch_size: int) -> None:
        self.method, self.keep, self.scorers, self.batch_size = method, keep, scorers, batch_size
        self._whole = method.make_carefully

    def load(self) -> None:
        """Load the scorers onto the method's device.

        Raises:
            UserError: one can't be loaded.
        """
        for scorer in self.scorers:
            try:
                scorer.load()
                scorer.to(self.method.device).eval().requires_grad_(False)
            except UserError:
                raise
            except Exception as error:  # a plugin may raise anything
                reason = f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"
                raise UserError(f"scorers: {type(scorer).__name__} can't be loaded: {reason}") from error

    def __call__(self, rows: list[SampleSpec]) -> list[Sample]:
        """Rows -> samples, one each, in their order; of those that were stopped, what was known of them."""
        try:
            return self._prune(rows)
        except Exception as error:  # noqa: BLE001 - as in its.methods.careful: no row may be lost
            traceback.print_exc()
            print(f"its: pruning failed ({type(error).__name__}: {error}); making all {len(rows)}", file=sys.stderr)
            return [sample for some in _parts(rows, self.batch_size) for sample in self._whole(list(some))]

    def _prune(self, rows: list[SampleSpec]) -> list[Sample]:
        assert self.keep.prune is not None
        steps = self.method.process_of(rows[0]).steps
        looks = sorted({max(1, round(share * steps)) for share in self.keep.prune.at} - {steps})
        runners = [_Runner(row=row, latents=self.method.noise([row])[1][0], index=0, scores={}) for row in rows]
        made: dict[int, Sample] = {}
        for look in looks:
            goal = max(self.keep.best, math.ceil(self.keep.prune.leave * len(runners)))
            if goal >= len(runners):
                break  # looking costs, and nobody would have to go
            for some in _parts(runners, self.batch_size):
                self._look(some, look)
            criteria = self.keep.criteria(self.scorers)
            scores = {name: [runner.scores[name] for runner in runners] for name in criteria}
            order = best_first(scores, [runner.row.seed for runner in runners])
            made |= {id(runners[i].row): self._stopped(runners[i], steps, len(runners)) for i in order[goal:]}
            runners = [runners[i] for i in sorted(order[:goal])]
        for some in _parts(runners, self.batch_size):
            made |= {id(sample.row): sample for sample in self._finish(some)}
        return [made[id(row)] for row in rows]

    def _look(self, runners: Sequence[_Runner], goal: int) -> None:
        """Walk on to a step, and score what the samples seem to become."""
        rows, clock = [runner.row for runner in runners], Clock(self.method.device)
        seen: list[Watched] = []

        def watch(combiner: Combiner) -> Combiner:
            seen.append(Watched(combiner))
            return seen[-1]

        z = torch.stack([runner.latents for runner in runners])
        z = self.method.walk(rows, z, clock=clock, part=range(runners[0].index, goal), watch=watch)
        clean = seen[-1].clean(self.method.process_of(rows[0]).scheduler)
        for runner, latents, scores in zip(runners, z, self._scores(rows, clean), strict=True):
            runner.latents, runner.index, runner.scores = latents, goal, scores

    def _scores(self, rows: Sequence[SampleSpec], clean: Tensor) -> list[dict[str, float | None]]:
        finishing, roles = self.method.finishing, self.method.roles()
        _, spectrogram = self.method.decoding(clean)
        sound = finishing.play(spectrogram).cpu().float()
        gray = (finishing.cut(spectrogram).mean(1).cpu().float() * 255).round() / 255
        found: list[dict[str, float | None]] = [{} for _ in rows]
        for scorer in self.scorers:
            samples = [
                Judged(
                    picture=gray[i],
                    waveform=sound[i] if sound.ndim == 2 else sound[i].mean(0),
                    sample_rate=finishing.vocoder.format.sample_rate,
                    prompt=row.prompts.get(roles.get(scorer.judges, ""), ""),
                )
                for i, row in enumerate(rows)
            ]
            with torch.autocast(self.method.device.type, enabled=False):
                said = scorer.score(samples)
            for scores, score in zip(found, said, strict=True):
                scores[type(scorer).__name__] = score
        return found

    def _finish(self, runners: Sequence[_Runner]) -> list[Sample]:
        """The rest of the way; a row whose result is not finite is made again as a whole, carefully."""
        method, rows, clock = self.method, [runner.row for runner in runners], Clock(self.method.device)
        steps = method.process_of(rows[0]).steps
        z = torch.stack([runner.latents for runner in runners])
        z = method.walk(rows, z, clock=clock, part=range(runners[0].index, steps))
        samples = method.finish(rows, z, sources=method.noise(rows)[0], clock=clock)
        whole = {"made": method.evaluations(rows[0], range(steps)), "whole": method.evaluations(rows[0], range(steps))}
        again = [self._whole([s.row])[0] if s.result is None else s for s in samples]
        return [replace(sample, evaluations=whole) for sample in again]

    def _stopped(self, runner: _Runner, steps: int, of: int) -> Sample:
        done, whole = (self.method.evaluations(runner.row, range(end)) for end in (runner.index, steps))
        known: dict[str, Any] = {"step": runner.index, "steps": steps, "among": of, "scores": runner.scores}
        return Sample(row=runner.row, stopped=known, evaluations={"made": done, "whole": whole})


def check_prunes(method: Method) -> MultimodalDenoising:
    """The method as one that can be pruned; prepared.

    Raises:
        UserError: it can't.
    """
    if not isinstance(method, MultimodalDenoising):
        raise UserError(f"keep.prune: {type(method).__name__} can't stop samples early; MultimodalDenoising can")
    scheduler = method.process.scheduler
    if not scheduler.stateless:
        raise UserError(
            f"keep.prune: {type(scheduler).__name__} keeps state from step to step, so samples can't be looked at on "
            "their way: take DDIM, or leave prune out"
        )
    if method.fixed_shapes:
        raise UserError("keep.prune: batches shrink, so it doesn't go with model.compile and model.cuda_graph")
    return method


def _parts(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [items[first : first + size] for first in range(0, len(items), size)]
