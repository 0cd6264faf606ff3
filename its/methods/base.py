"""The outside face of every method, and what all of them do alike: find and load the parts, make no row wait."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning.pytorch import LightningModule
from torch import nn

from its.diffusion.guidance import GuidedExpert, TextCache
from its.errors import UserError
from its.interfaces import NoiseExpert, Part, Step, Vocoder
from its.methods.careful import Careful
from its.methods.sample import Sample
from its.methods.sharing import shared
from its.specs.spec import SampleSpec
from its.weights import Download, WeightsNotFound, download
from its.weights.source import content_of


class BatchRunner(Protocol):
    """Makes samples of batches of specs, whatever happens on the way."""

    def load(self) -> None:
        """Load what is needed besides the method's weights. Called once, before the first batch.

        Raises:
            UserError: it can't be loaded.
        """

    def __call__(self, batch: list[SampleSpec], /) -> list[Sample]:
        """Specs -> samples, one each."""


class Method(LightningModule, ABC):
    """Turns batches of rows into samples. The constructor's arguments are the keys under `model` in a config.

    Attributes:
        experts: by the names that prompts, guidance scales and weights refer to.
        fallback: pack of weights to take as a whole where the named ones can't be had; None for an error.
        fallback_taken: why the fallback stands in for the weights that the config names; None if it doesn't.
        provenance: which weights each component runs on, by its key. Filled by `find`.
        stopped: why no more samples are to be made: they can't be written, or somebody said so; None to go on.
        on_step: called after each step with the number of samples in the batch, for progress.
        make_carefully: rows -> a sample each, whatever happens; what prunes samples early takes its place.
        fixed_shapes: whether a batch has to be of the size of those before it, filled up where it is smaller.
        needs_gradients: whether samples are made by optimisation, so that torch's inference mode has to be off.
        has_latents: whether samples have latents that can be saved.
        takes_files: whether a row may have a picture or sound of the user's own in the place of a prompt.
        samples: folder of the samples' folders, for what has to outlive the process; None if nothing has to.
    """

    fixed_shapes = False
    needs_gradients = False
    has_latents = True
    takes_files = False

    def __init__(self, *, experts: dict[str, NoiseExpert], fallback: str | None) -> None:
        super().__init__()
        experts = shared(experts)
        self.experts = nn.ModuleDict(experts)
        self.fallback = fallback
        self.fallback_taken: str | None = None
        self.provenance: dict[str, Any] = {}
        self.stopped: str | None = None
        self.samples: Path | None = None
        self.on_step: Callable[[Step, int], None] | None = None
        self._texts = {name: TextCache(expert) for name, expert in experts.items()}
        self.make_carefully: BatchRunner = Careful(self)

    @property
    def expert_names(self) -> list[str]:
        """Who needs a prompt in every row."""
        return list(self.experts)

    @abstractmethod
    def parts(self) -> list[tuple[str, Part]]:
        """Everything that may have weights, by its key in the config, each once."""

    @abstractmethod
    def check(self) -> None:
        """Check that the components fit each other; they are found, and not yet downloaded.

        Raises:
            its.errors.UserError: they don't; the message names the key.
        """

    @abstractmethod
    def settings(self, row: SampleSpec) -> dict[str, Any]:
        """What people choose and a row's sample depends on, besides prompts, scales and seed; JSON-serialisable.

        Raises:
            its.errors.UserError: the row's settings make no sense.
        """

    @abstractmethod
    def length(self, row: SampleSpec) -> str:
        """How long making a row's sample takes, for messages, such as `100 steps`."""

    @abstractmethod
    def make(self, rows: Sequence[SampleSpec]) -> list[Sample]:
        """Rows that can share a batch -> a sample each. May raise anything: `predict_step` looks after the rows."""

    def roles(self) -> dict[str, str]:
        """Whose prompt says how a sample looks, "visual", and whose how it sounds, "audio"; the first of each kind.

        Experts with a format are sound's. A kind that has no expert has no role.
        """
        kinds = [("visual" if expert.format is None else "audio", name) for name, expert in self.named_experts()]
        return dict(reversed(kinds))

    def batch_key(self, row: SampleSpec) -> str:
        """Equal for rows that can share a batch."""
        return ""

    def idle(self) -> set[str]:
        """Keys of parts that no sample needs. They are found, but not loaded."""
        return set()

    def release(self) -> None:
        """Let go of device memory that is only kept for speed."""

    def find(self) -> list[Download]:
        """Find all weights and check that the components fit each other, before anything large is downloaded.

        Returns:
            What has to be downloaded.

        Raises:
            its.weights.WeightsNotFound: with the component's key in front.
            its.errors.UserError: components that don't fit, or weights of the wrong kind.
        """
        drawn = next((expert.format for _, expert in self.named_experts() if expert.format is not None), None)
        downloads = []
        for key, part in self.parts():
            if isinstance(part, Vocoder) and drawn is not None:
                part.adopt(drawn)
            with _keyed(key):
                downloads += part.find()
        self.check()
        records = {key: part.provenance() for key, part in self.parts()}
        self.provenance = {key: record for key, record in records.items() if record is not None}
        return downloads

    def prepare(self) -> None:
        """Find all weights, then download together what is missing. Nothing is loaded.

        Raises:
            its.weights.WeightsNotFound, its.errors.UserError: as `find`; or the disk has too little room.
        """
        download(self.find())
        for key, part in self.parts():
            with _keyed(key):
                part.prepare()

    def configure_model(self) -> None:
        """Load all weights. Lightning may call this more than once."""
        idle = self.idle()
        for key, part in self.parts():
            if key in idle:
                continue
            try:
                part.load()
            except (UserError, torch.OutOfMemoryError):
                raise
            except (OSError, ValueError, KeyError, RuntimeError) as error:  # what libraries raise of damaged files
                reason = " ".join(str(error).split())[:400]
                raise UserError(f"model.{key}: its weights can't be read: {type(error).__name__}: {reason}") from error
        self.eval().requires_grad_(False)

    def definition(self, row: SampleSpec) -> dict[str, Any]:
        """All that a row's sample depends on besides prompts, scales and seed, as JSON-serialisable values.

        `settings` is what people choose; it goes into `sample.json`. `weights` are named by what they are instead of
        where. Valid after `find`.

        Raises:
            its.errors.UserError: the row's settings make no sense.
        """
        weights = {key: content_of(record) for key, record in self.provenance.items()}
        settings: dict[str, Any] = {n: expert.describe(defining=True) for n, expert in self.named_experts()}
        settings = {"experts": settings, **self.settings(row)}
        if row.files:
            settings["files"] = {name: {file.kind: f"sha256:{file.sha256}"} for name, file in row.files.items()}
        if row.files and not self.takes_files:
            raise UserError(
                f"{row.source}: {', '.join(row.files)} is a file, but {type(self).__name__} makes everything from "
                "prompts: give a prompt, or take method: Imprint"
            )
        return {"settings": settings, "weights": weights}

    def on_predict_start(self) -> None:
        """Load what runs the batches: scorers that can't be loaded are known before anything is made."""
        self.make_carefully.load()

    def predict_step(self, batch: list[SampleSpec], batch_idx: int = 0) -> list[Sample]:
        """Rows -> samples, one each. A row that can't be made gives a failed sample and never stops the others."""
        return [] if self.stopped is not None else self.make_carefully(batch)

    @property
    def target(self) -> torch.device:
        """The device of the run; before the predict loop begins, the module itself may not be there yet."""
        return self.device if self._trainer is None else self.trainer.strategy.root_device

    def named_experts(self) -> Iterator[tuple[str, NoiseExpert]]:
        """The experts, as what they are; a ModuleDict only promises modules."""
        for name, expert in self.experts.items():
            assert isinstance(expert, NoiseExpert)
            yield name, expert

    def guided(self, name: str, expert: NoiseExpert, rows: Sequence[SampleSpec]) -> GuidedExpert:
        """An expert with the rows' prompts and guidance scales."""
        text = self._texts[name]
        return GuidedExpert(
            expert,
            text=text([row.prompts[name] for row in rows]),
            null_text=text([row.negative_prompts[name] for row in rows]),
            scales=[row.guidance_scale[name] for row in rows],
        )

    def forget_texts(self) -> None:
        """Encode texts anew, since the weights changed their precision."""
        for cache in self._texts.values():
            cache.clear()

    def report(self, samples: int) -> Callable[[Step], None] | None:
        """What tells the progress bar of each step of a batch of so many samples."""
        on_step = self.on_step
        return None if on_step is None else lambda step: on_step(step, samples)


@contextmanager
def _keyed(key: str) -> Iterator[None]:
    """Put a component's key in front of what is wrong with it."""
    try:
        yield
    except WeightsNotFound as missing:
        raise missing.prefixed(f"model.{key}") from None
    except UserError as error:
        raise UserError(f"model.{key}: {error}") from None


def method_of(module: LightningModule) -> Method:
    """The module as what it is; Lightning's hooks only promise a LightningModule.

    Raises:
        TypeError: it is another.
    """
    if not isinstance(module, Method):
        raise TypeError(f"expected a Method, got {type(module).__name__}")
    return module
