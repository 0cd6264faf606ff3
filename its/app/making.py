"""Jobs that make, colour and score samples in run directories."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from its.app.jobs import Job
from its.app.library import FAVOURITE, Library
from its.app.material import start_from
from its.app.previews import Previewer
from its.app.weights import Weights
from its.config.compose import Layer, read_layer
from its.engine.coloring import compose_colors, make_pictures, prepare_colorizer
from its.errors import UserError
from its.evaluation.choosing import DEFAULT, build_scorers, find_weights
from its.evaluation.ranking import Keep, rank_run
from its.evaluation.scoring import check_csv, evaluate, write_csv
from its.interfaces import Colorizer, Scorer, Step
from its.methods.sample import Sample
from its.pipeline import Pipeline
from its.report.gallery import write_gallery
from its.runs.colors import plan_colors
from its.runs.directory import check_writable, save_config
from its.runs.reader import StoredSample, stored_samples
from its.runs.records import RECORD, read_record
from its.runs.resume import is_saved
from its.runs.sample_files import write_sample
from its.weights import prepare
from its.weights.hub import local_only

logger = logging.getLogger(__name__)


class Maker:
    """Functions for jobs. Scorers and the colorizer stay in memory after their first use.

    Args:
        weights: the pipeline and its weights.
        library: output directory.
    """

    def __init__(self, weights: Weights, library: Library) -> None:
        self.weights, self.library = weights, library
        self._colorizer: Colorizer | None = None
        self._scorers: Sequence[Scorer] | None = None

    def make(
        self,
        job: Job,
        arguments: Mapping[str, Any],
        *,
        material: Mapping[str, Any] | None = None,
        start: Path | None = None,
        strength: float = 0.6,
    ) -> None:
        """Make samples in the run directory of this day, with previews.

        Args:
            job: the job.
            arguments: arguments of `Pipeline.generate`, from `its.app.settings.arguments_of`.
            material: further keys of the rows, from `its.app.material.material_of`.
            start: picture to start from; None to start from noise.
            strength: fraction of the process that runs after the start.

        Raises:
            UserError: an argument is invalid, or the run directory can't be written.
        """
        pipeline, run = self.weights.require(), self.library.today()
        check_writable(run)
        save_config(pipeline.config, run, mixed=True)
        added = dict(material or {}) if start is None else start_from(start, run, strength=strength)
        arguments = {**arguments, "prompts": [{**row, **added} for row in arguments["prompts"]]}
        total = math.prod(map(len, (arguments["prompts"], arguments["seeds"], *arguments["sweep"].values())))
        watch = _Watch(job, pipeline, total)
        extras = dict.fromkeys(pipeline.config.get("save") or ())
        if pipeline.config["model"].get("colorizer") is not None:
            extras["color"] = None
        errors = []
        try:
            for sample in pipeline.generate(**arguments, progress=False, on_step=watch):
                write_kept(
                    run / "samples" / sample.id, sample.sample, sample.record, extras, metadata=pipeline.metadata
                )
                watch.done += 1
                if sample.error is None:
                    job.folders.append(run / "samples" / sample.id)
                else:
                    errors.append(sample.error)
        finally:
            logger.info(f"{len(job.folders)} of {total} samples are in {run}; previews took {watch.spent:.2f} s")
            if job.folders:
                _write_gallery(run, own=is_saved(run, pipeline.config))
        if errors:
            raise UserError(f"{len(errors)} of {total} samples failed: {errors[0]}")

    def color(self, job: Job, sample: StoredSample) -> None:
        """Make the colour picture of a sample, with the config's colorizer or else the packaged config `colorize`.

        Weights that are not on this machine are replaced by the fallback's, not downloaded.

        Raises:
            UserError: the sample can't be coloured.
        """
        pipeline = self.weights.require()
        (plan,) = plan_colors(sample.run, prompt=None, count=1, names=[sample.folder.name])
        plan.gray()
        if self._colorizer is None:
            job.note = "loading the colorizer"
            has_own = (pipeline.config["model"].get("colorizer")) is not None
            own = Layer("the page's config", dict(pipeline.config))
            config = compose_colors([own] if has_own else [own, read_layer("colorize")], [])
            with local_only():
                self._colorizer = prepare_colorizer(config, self.weights.trust)
        job.note = "colouring"
        settings = {"accelerator": pipeline.device.type, "precision": pipeline.method.precision}
        if make_pictures(self._colorizer, [plan], settings, 1):
            raise UserError(f"{sample.folder.name} could not be coloured; the reason is in the log of its app")
        job.folders.append(sample.folder)

    def rank(self, job: Job, run: Path, best: int) -> None:
        """Score the samples of a run, and mark the best ones of each prompt pair in their records.

        Raises:
            UserError: the run can't be read or written.
        """
        check_csv(run)
        if self._scorers is None:
            job.note = "loading the scorers"
            with local_only():
                scorers = find_weights(build_scorers(DEFAULT), fallback="mini")
                prepare(scorers)
            self._scorers = scorers
        rule = Keep(best=best)
        names = [path.parent.name for path in (run / "samples").glob(f"*/{RECORD}")]
        samples = [sample for sample in stored_samples(run, sorted(names)) if sample.complete]
        if not samples:
            raise UserError(f"{run} has no complete sample")
        done: list[StoredSample] = []
        for first in range(0, len(samples), 8):
            job.check()
            job.progress, job.note = first / len(samples), f"scoring sample {first + 1} of {len(samples)}"
            done += evaluate(self._scorers, samples[first : first + 8], device=str(self.weights.require().device))
        write_csv(run)
        rank_run(done, run, rule, self._scorers)


class _Watch:
    """Callback of a job's steps: progress, previews and cancellation."""

    def __init__(self, job: Job, pipeline: Pipeline, total: int) -> None:
        self.job, self.total, self.done = job, total, 0
        decoder, canvas = getattr(pipeline.method, "decoder", None), getattr(pipeline.method, "canvas", None)
        trim = getattr(getattr(pipeline.method, "post_process", None), "trim", 0)
        shown = 1.0 if canvas is None else (canvas[1] - trim) / canvas[1]
        self.previewer = None if decoder is None else Previewer(decoder.picture, shown=shown)

    @property
    def spent(self) -> float:
        """Seconds of all previews."""
        return 0.0 if self.previewer is None else self.previewer.first + self.previewer.spent

    def __call__(self, step: Step) -> None:
        self.job.check()
        pictures = None if self.previewer is None else self.previewer(step)
        batch = 1 if self.previewer is None else self.previewer.batch
        if pictures is not None:
            self.job.previews = pictures
        self.job.progress = min((self.done + batch * (step.index + 1) / step.steps) / self.total, 1.0)
        last = min(self.done + batch, self.total)
        which = f"{self.done + 1} to {last}" if last > self.done + 1 else str(self.done + 1)
        self.job.note = f"step {step.index + 1} of {step.steps}" + (
            f", sample {which} of {self.total}" if self.total > 1 else ""
        )


def _write_gallery(run: Path, *, own: bool) -> None:
    """Write the gallery of a run. An error is only logged, since the samples are complete."""
    try:
        write_gallery([run], run, own=own)
    except UserError as error:
        logger.warning(f"the gallery was not written: {error}")


def write_kept(
    folder: Path, sample: Sample, record: Mapping[str, Any], extras: Iterable[str], *, metadata: bool
) -> None:
    """Write a sample with extra files. If the folder has it already, its mark as a favourite is kept.

    Raises:
        UserError: the folder can't be written.
    """
    before = read_record(folder) or {}
    kept = {FAVOURITE: True} if before.get(FAVOURITE) is True else {}
    with torch.inference_mode():
        write_sample(folder, sample, {**record, **kept}, list(extras), metadata=metadata)
