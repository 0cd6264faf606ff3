"""State of the server that all open pages share."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from its.app.jobs import Job, JobQueue
from its.app.library import Library
from its.app.material import material_of
from its.app.scratch import Scratch
from its.app.settings import BALANCE, VARIATIONS, Settings, arguments_of, defaults_of, settings_from
from its.app.weights import Weights
from its.errors import UserError

if TYPE_CHECKING:
    from its.app.making import Maker
    from its.runs.reader import StoredSample

SHOWN = 24
"""Maximum number of samples of this session on the page."""


class Studio:
    """Weights, runs and jobs of the server, and the actions of the page.

    Args:
        weights: the pipeline and its weights.
        library: output directory.
    """

    def __init__(self, weights: Weights, library: Library) -> None:
        self.weights, self.library = weights, library
        self.jobs = JobQueue()
        self.scratch = Scratch()

    @cached_property
    def maker(self) -> Maker:
        """Functions for jobs, imported in the first job that needs them."""
        from its.app.making import Maker

        return Maker(self.weights, self.library)

    def start(self) -> None:
        """Start the thread of jobs, with loading the weights as the first one."""
        self.jobs.submit(Job("Load the weights", self.weights.load))
        self.jobs.start()

    def make(
        self, settings: Settings, seeds: Sequence[int], *, start: Path | None = None, strength: float = 0.6
    ) -> Job:
        """Queue the making of a sample for each seed.

        Raises:
            UserError: a prompt is empty, or too many jobs wait.
        """
        for name, text in (("picture", settings.visual), ("sound", settings.audio)):
            if not text.strip():
                raise UserError(f"the prompt of the {name} is empty: say what to make")

        def work(job: Job) -> None:
            arguments = arguments_of(settings, self.weights.require(), seeds=seeds)
            self.maker.make(job, arguments, start=start, strength=strength)

        count = f"{len(seeds)} x " if len(seeds) > 1 else ""
        return self.jobs.submit(Job(f"{count}{_title(settings)}", work, kind="samples"))

    def again(self, run: str, name: str) -> tuple[Settings, list[str]]:
        """Queue a sample once more, and return its settings as `its.app.settings.read_settings` does.

        Raises:
            UserError: there is no such sample, or no weights are loaded yet.
        """
        settings, notes, material = self._stored(run, name)

        def work(job: Job) -> None:
            arguments = arguments_of(settings, self.weights.require(), seeds=[settings.seed])
            self.maker.make(job, arguments, material=material)

        self.jobs.submit(Job(_title(settings), work, kind="samples"))
        return settings, notes

    def more_like(self, run: str, name: str) -> Job:
        """Queue samples with the prompts and the seed of a sample and other balances of picture and sound.

        Raises:
            UserError: there is no such sample, or the method has no balance.
        """
        settings, _, material = self._stored(run, name)
        if settings.balance is None:
            raise UserError("this page's method has no balance of picture and sound to vary")
        balance = settings.balance
        balances = sorted({min(max(balance + change, BALANCE[0]), BALANCE[1]) for change in VARIATIONS} - {balance})

        def work(job: Job) -> None:
            arguments = arguments_of(settings, self.weights.require(), seeds=[settings.seed], balances=balances)
            self.maker.make(job, arguments, material=material)

        return self.jobs.submit(Job(f"Like {_title(settings)}", work, kind="samples"))

    def color(self, run: str, name: str) -> Job:
        """Queue the colour picture of a sample."""
        sample = self.library.sample(run, name)
        return self.jobs.submit(Job(f"Colour {name}", lambda job: self.maker.color(job, sample)))

    def rank(self, run: str, best: int) -> Job:
        """Queue the scores and the ranking of a run."""
        folder = self.library.run(run)
        return self.jobs.submit(Job(f"Best {best} of {run}", lambda job: self.maker.rank(job, folder, best)))

    def download(self) -> Job:
        """Queue the download of the config's weights."""
        return self.jobs.submit(Job("Download the weights", self.weights.download))

    def results(self) -> list[StoredSample]:
        """Read the samples that this server has made, those of the newest job first."""
        current = self.jobs.current
        jobs = [*([] if current is None else [current]), *self.jobs.finished]
        folders = [folder for job in jobs if job.kind == "samples" for folder in job.folders]
        if not folders:
            return []
        from its.runs.reader import stored_samples

        unique = list(dict.fromkeys(folders))[:SHOWN]
        return [sample for each in unique for sample in stored_samples(each.parents[1], [each.name])]

    def defaults(self) -> Settings:
        """Return the settings of the config; without values until the weights are loaded."""
        pipeline = self.weights.pipeline
        return Settings() if pipeline is None else defaults_of(pipeline)

    def _stored(self, run: str, name: str) -> tuple[Settings, list[str], dict[str, Any]]:
        """Return the settings of a sample, what the form can't express of it, and its own material."""
        record = self.library.sample(run, name).record
        config = record.get("config")
        data = config.get("data") if isinstance(config, dict) else None
        rows = data.get("prompts") if isinstance(data, dict) else None
        if not isinstance(config, dict) or not isinstance(rows, list) or not rows or "model" not in config:
            raise UserError(f"{name}: the record has no config to make it from")
        settings, notes = settings_from(config, record.get("weights"), self.weights.require())
        return settings, notes, material_of(rows[0])


def _title(settings: Settings) -> str:
    text = f"{settings.visual.strip()} + {settings.audio.strip()}"
    return text if len(text) <= 90 else f"{text[:89]}…"
