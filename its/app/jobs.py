"""Queue of jobs for one device: one thread of the server runs them in turn, whatever pages are open."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from its.errors import UserError
from its.output import visible

logger = logging.getLogger(__name__)

MOST_WAITING = 50
"""Maximum number of waiting jobs."""
REMEMBERED = 20
"""Number of finished jobs whose outcome is kept."""

Status = Literal["waiting", "running", "done", "failed", "cancelled"]


class Cancelled(Exception):
    """Raised in a job that the user cancelled."""


@dataclass(eq=False, repr=False)
class Job:
    """Unit of work, and its state for the page.

    Attributes:
        title: what the job does, as plain text.
        work: the function, called with the job. It calls `check` often, and updates the attributes below.
        kind: what the job makes: `samples`, or something else that the list of results does not show.
        status: state of the job.
        progress: completed fraction in [0, 1]; None if unknown.
        note: current stage, as plain text.
        previews: PNG files of the pictures that are being made.
        folders: folders of finished samples.
        error: reason of a failure.
        began: time of the start by `time.monotonic`.
    """

    title: str
    work: Callable[[Job], None]
    kind: Literal["samples", "other"] = "other"
    status: Status = "waiting"
    progress: float | None = None
    note: str = ""
    previews: Sequence[bytes] = ()
    folders: list[Path] = field(default_factory=list)
    error: str = ""
    began: float = 0.0
    _cancel: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        """Raise `Cancelled` if the user cancelled the job."""
        if self._cancel.is_set():
            raise Cancelled

    @property
    def seconds_left(self) -> float | None:
        """Estimated remaining time; None while it is unknown."""
        if self.status != "running" or not self.progress or self.progress < 0.02:
            return None
        return (time.monotonic() - self.began) * (1 / self.progress - 1)


class JobQueue:
    """Runs jobs in one thread, in the order of their submission.

    Attributes:
        current: the running job, or None.
    """

    def __init__(self) -> None:
        self.current: Job | None = None
        self._waiting: deque[Job] = deque()
        self._finished: deque[Job] = deque(maxlen=REMEMBERED)
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, job: Job) -> Job:
        """Append a job.

        Raises:
            UserError: too many jobs wait.
        """
        with self._changed:
            if len(self._waiting) >= MOST_WAITING:
                raise UserError(f"{MOST_WAITING} jobs wait already; wait, or cancel some")
            self._waiting.append(job)
            self._changed.notify_all()
        return job

    def cancel(self) -> None:
        """Cancel the running job at its next check, or else the job that waits first."""
        with self._changed:
            if self.current is not None:
                self.current._cancel.set()
            elif self._waiting:
                self._finish(self._waiting.popleft(), "cancelled")
            self._changed.notify_all()

    def cancel_all(self) -> None:
        """Cancel the running job at its next check, and all waiting jobs."""
        with self._changed:
            while self._waiting:
                self._finish(self._waiting.popleft(), "cancelled")
        self.cancel()

    @property
    def waiting(self) -> list[Job]:
        """Jobs that wait, the next one first."""
        with self._changed:
            return list(self._waiting)

    @property
    def finished(self) -> list[Job]:
        """The last finished jobs, the newest first."""
        with self._changed:
            return list(reversed(self._finished))

    def stop(self, *, patience: float) -> None:
        """Cancel all jobs, and wait at most `patience` seconds for the running one to end."""
        self._stopping = True
        self.cancel_all()
        if self._thread.ident is not None:
            self._thread.join(patience)

    def _finish(self, job: Job, status: Status, error: str = "") -> None:
        job.status, job.error, job.previews = status, error, ()
        self._finished.append(job)

    def _run(self) -> None:
        while not self._stopping:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._stopping)
                if self._stopping:
                    return
                job = self.current = self._waiting.popleft()
                job.status, job.began = "running", time.monotonic()
                self._changed.notify_all()
            outcome: tuple[Status, str] = ("done", "")
            try:
                job.check()
                job.work(job)
            except Cancelled:
                outcome = "cancelled", ""
            except UserError as error:
                outcome = "failed", str(error)
            except Exception as error:
                logger.exception(f"{visible(job.title)} failed")
                outcome = "failed", f"{type(error).__name__}: {str(error).partition(chr(10))[0]:.300}"
            if outcome[1]:
                logger.error(f"{job.title}: {outcome[1]}")
            with self._changed:
                self.current = None
                self._finish(job, *outcome)
                self._changed.notify_all()
