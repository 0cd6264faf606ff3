"""Load the pipeline of the page, and describe its weights.

The pipeline is imported when it is loaded, behind the page, since Lightning takes seconds.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from its.app.jobs import Job
from its.app.settings import check_roles
from its.errors import UserError

if TYPE_CHECKING:
    from its.pipeline import Pipeline

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class WeightsStatus:
    """Which weights are loaded, as plain text.

    Attributes:
        text: names of the weights, or the reason why there are none.
        embedded: whether an embedded pack is in use.
        missing: whether weights of the config are not on this machine, so that they may be downloaded.
        failed: whether no weights could be loaded; the text is the reason.
    """

    text: str
    embedded: bool = False
    missing: bool = False
    failed: bool = False


LOADING = WeightsStatus(text="Loading the weights…")


class Weights:
    """The pipeline, which stays loaded, and its weights.

    Args:
        configs: configs of the pipeline, each over the one before.
        overrides: values by dotted key over all configs, as `Pipeline.from_config`.
        trust: plugin modules to import.

    Attributes:
        pipeline: the pipeline; None until it is loaded.
        status: description for the page.
    """

    def __init__(self, configs: Sequence[str], *, overrides: Mapping[str, Any], trust: Sequence[str]) -> None:
        self.configs, self.overrides, self.trust = configs, overrides, trust
        self.pipeline: Pipeline | None = None
        self.status = LOADING

    def require(self) -> Pipeline:
        """Return the pipeline.

        Raises:
            UserError: it could not be loaded.
        """
        if self.pipeline is None:
            raise UserError(f"no weights are loaded: {self.status.text}")
        return self.pipeline

    def load(self, job: Job) -> None:
        """Load the weights on this machine, or those of the config's fallback. Nothing is downloaded.

        Raises:
            UserError: the config is invalid, or weights are missing without a fallback.
        """
        from its.weights.hub import local_only

        job.note = "loading"
        with local_only() as refused:
            self._load(refused)

    def download(self, job: Job) -> None:
        """Download the config's weights, and load them.

        Raises:
            UserError: they can't be downloaded.
            its.app.jobs.Cancelled: the user cancelled the job; what was received is kept.
        """
        from its.weights.downloads import report_downloads, size
        from its.weights.hub import retry_unreachable

        def report(received: int, total: int) -> None:
            job.check()
            job.progress, job.note = min(received / max(total, 1), 1.0), f"{size(received)} of {size(total)}"

        job.note = "connecting"
        retry_unreachable()
        with report_downloads(report):
            self._load([])
        if self.pipeline is not None and (reason := self.pipeline.method.fallback_taken):
            raise UserError(f"the weights can't be downloaded: {reason}")

    def _load(self, refused: Sequence[str]) -> None:
        from its.pipeline import Pipeline

        try:
            pipeline = Pipeline.from_config(*self.configs, overrides=self.overrides, trust=self.trust)
            check_roles(pipeline)
        except UserError as error:
            if self.pipeline is None:
                self.status = WeightsStatus(text=str(error), missing=bool(refused), failed=True)
            raise
        self.pipeline, self.status = pipeline, describe(pipeline)


def describe(pipeline: Pipeline) -> WeightsStatus:
    """Describe the weights of a loaded pipeline."""
    method = pipeline.method
    names = names_of(method.provenance)
    embedded = any(record.get("embedded") for record in method.provenance.values())
    reason = method.fallback_taken
    text = f"{', '.join(names)} on {pipeline.device.type.upper()}"
    return WeightsStatus(text=text, embedded=embedded, missing=reason is not None)


def names_of(provenance: Mapping[str, Any]) -> list[str]:
    """Return the names of weights in a record or of a method, each once."""
    names = (str(record["name"]) for record in provenance.values() if isinstance(record, Mapping) and "name" in record)
    return list(dict.fromkeys(names))
