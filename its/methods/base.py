"""The outside face of every method: what the command, the writer and the progress bar know of one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from lightning.pytorch import LightningModule

from its.data import Row
from its.interfaces import Step
from its.outputs.sample import Sample


class Method(LightningModule, ABC):
    """Turns batches of rows into samples.

    Attributes:
        fallback: pack of weights to take as a whole where the named ones can't be had; None for an error.
        fallback_taken: why the fallback stands in for the weights that the config names; None if it doesn't.
        provenance: which weights each part runs on, by its key. Filled by `prepare`.
        stopped: why no more samples are to be made, since they can't be written; None as long as they can.
        on_step: called after each step with the number of samples in the batch, for progress.
    """

    def __init__(self, *, fallback: str | None) -> None:
        super().__init__()
        self.fallback = fallback
        self.fallback_taken: str | None = None
        self.provenance: dict[str, Any] = {}
        self.stopped: str | None = None
        self.on_step: Callable[[Step, int], None] | None = None

    @property
    @abstractmethod
    def expert_names(self) -> list[str]:
        """Who needs a prompt in every row."""

    @abstractmethod
    def prepare(self) -> None:
        """Find or download all weights and check that the parts fit each other, before anything is loaded.

        Raises:
            its.weights.WeightsNotFound: with the part's key in front.
            its.errors.UserError: parts that don't fit.
        """

    @abstractmethod
    def definition(self, row: Row) -> dict[str, Any]:
        """All that a row's sample depends on besides prompts, scales and seed, as JSON-serialisable values.

        The key `settings` holds what people choose; it goes into `sample.json`. Valid after `prepare`.

        Raises:
            its.errors.UserError: the row's settings make no sense.
        """

    @abstractmethod
    def predict_step(self, batch: list[Row], batch_idx: int = 0) -> list[Sample]:
        """Rows -> samples, one each. A row that can't be made gives a failed sample and never stops the others."""


def method_of(module: LightningModule) -> Method:
    """The module as what it is; Lightning's hooks only promise a LightningModule.

    Raises:
        TypeError: it is another.
    """
    if not isinstance(module, Method):
        raise TypeError(f"expected a Method, got {type(module).__name__}")
    return module
