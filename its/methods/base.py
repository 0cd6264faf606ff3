"""Base class of all methods: loads components, and turns sample specs into samples."""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import nn

from its.diffusion.guidance import GuidedExpert, TextCache
from its.errors import UserError
from its.interfaces import Component, KeepsArguments, NoiseExpert, Step, Vocoder
from its.methods.batch_runner import BatchRunner
from its.methods.sample import Sample
from its.methods.sharing import deduplicate_experts
from its.registry import extension_point
from its.specs.spec import SampleSpec
from its.weights import Download, WeightsNotFound, download
from its.weights.source import content_of


@extension_point
class Method(KeepsArguments, LightningModule, ABC):
    """Makes samples of sample specs. The constructor's arguments are the keys under `model` in a config.

    Subclasses write the constructor, `settings`, `length` and `make`, and extend `parts` and `check`.

    Attributes:
        experts: by the names that prompts, guidance scales and weights refer to.
        fallback: pack of weights to use if the named ones can't be found; None for an error.
        fallback_taken: why the fallback is used; None if it is not.
        provenance: the weights of each component, by its key. Filled by `find`.
        stopped: why no more samples are to be made; None to go on.
        on_step: called after each step with the number of samples in the batch, for progress.
        run_batch: makes the samples of a batch, whatever fails.
        fixed_shapes: whether all batches must have one size; smaller ones are filled up.
        one_by_one: whether the samples of a batch are made one after the other, so that batches gain nothing.
        needs_gradients: whether samples are made by optimisation, so that torch's inference mode has to be off.
        cuda_precision: precision on a CUDA device where the config names none.
        has_latents: whether samples have latents that can be saved.
        takes_files: whether specs may have pictures and sounds in the place of prompts.
        startup: seconds of what precedes the first batch, by stage, for the records of its samples.
        samples: folder of the samples' folders, for checkpoints; None for none.
        precision: of the run, as Lightning names it.
    """

    fixed_shapes = False
    one_by_one = False
    needs_gradients = False
    cuda_precision = "16-true"  # as the authors ran it
    has_latents = True
    takes_files = False

    def __init__(self, *, experts: dict[str, NoiseExpert], fallback: str | None) -> None:
        super().__init__()
        for name in experts:
            if not re.fullmatch(r"\w+", name):
                raise UserError(f"model.experts.{name} is no name; expected letters, digits and underscores")
        experts = deduplicate_experts(experts)
        self.experts = nn.ModuleDict(experts)
        self.fallback = fallback
        self.fallback_taken: str | None = None
        self.provenance: dict[str, Any] = {}
        self.stopped: str | None = None
        self.samples: Path | None = None
        self.precision = "32-true"
        self.on_step: Callable[[Step, int], None] | None = None
        self._texts = {name: TextCache(expert) for name, expert in experts.items()}
        self.startup: dict[str, float] = {}
        self.run_batch = BatchRunner(self)

    @property
    def expert_names(self) -> list[str]:
        """Experts that need a prompt in every spec."""
        return list(self.experts)

    def components(self) -> list[tuple[str, Component]]:
        """All components that may have weights, each once, by their keys in the config. The default: the experts."""
        return [(f"experts.{name}", expert) for name, expert in self.named_experts()]

    def check(self) -> None:
        """Check that the components fit each other. Called after they are found and before large downloads.

        Raises:
            its.errors.UserError: they do not; the message names the key.
        """

    @abstractmethod
    def settings(self, spec: SampleSpec) -> dict[str, Any]:
        """Settings that a sample depends on besides experts, prompts, scales and seed; JSON-serialisable.

        They are recorded in `sample.json` and are part of the sample's id.

        Raises:
            its.errors.UserError: the spec's own settings are invalid.
        """

    @abstractmethod
    def length(self, spec: SampleSpec) -> str:
        """How much work a sample takes, for messages, such as `100 steps`."""

    @abstractmethod
    def make(self, specs: Sequence[SampleSpec]) -> list[Sample]:
        """Make a sample for each spec of a batch, in their order.

        A sample must not depend on the others of its batch. Exceptions are handled by `run_batch`.

        Args:
            specs: with equal `batch_key`s.
        """

    def roles(self) -> dict[str, str]:
        """Names of the first expert of each kind: "audio" for those with a spectrogram format, else "visual".

        Its prompt says what a sample shows, or sounds like. A kind that has no expert is left out.
        """
        kinds = [("visual" if expert.format is None else "audio", name) for name, expert in self.named_experts()]
        return dict(reversed(kinds))

    def batch_key(self, spec: SampleSpec) -> str:
        """Equal for specs that can share a batch."""
        return ""

    def unused_components(self) -> set[str]:
        """Keys of components that no sample needs. They are found, but not loaded."""
        return set()

    def release(self) -> None:
        """Free device memory that is only used for speed."""

    def find(self) -> list[Download]:
        """Find all weights and check that the components fit each other; only small files are downloaded.

        Returns:
            What has to be downloaded.

        Raises:
            its.weights.WeightsNotFound: with the component's key in front.
            its.errors.UserError: components do not fit, or weights are of the wrong kind.
        """
        drawn = next((expert.format for _, expert in self.named_experts() if expert.format is not None), None)
        downloads = []
        for key, part in self.components():
            if isinstance(part, Vocoder) and drawn is not None:
                part.set_format(drawn)
            with _keyed(key):
                downloads += part.find()
        self.check()
        records = {key: part.provenance() for key, part in self.components()}
        self.provenance = {key: record for key, record in records.items() if record is not None}
        return downloads

    def prepare(self) -> None:
        """Find all weights, then download together what is missing. Nothing is loaded.

        Raises:
            its.weights.WeightsNotFound, its.errors.UserError: as `find`; or the disk has too little room.
        """
        download(self.find())
        for key, part in self.components():
            with _keyed(key):
                part.prepare()

    def configure_model(self) -> None:
        """Load all weights. Lightning may call this more than once."""
        begin, idle = time.perf_counter(), self.unused_components()
        for key, part in self.components():
            if key in idle:
                continue
            try:
                part.load()
            except (UserError, torch.OutOfMemoryError):
                raise
            except (OSError, ValueError, KeyError, RuntimeError) as error:  # raised by libraries for damaged files
                reason = " ".join(str(error).split())[:400]
                raise UserError(f"model.{key}: its weights can't be read: {type(error).__name__}: {reason}") from error
        self.eval().requires_grad_(False)
        self.startup.setdefault("load", time.perf_counter() - begin)

    def definition(self, spec: SampleSpec) -> dict[str, Any]:
        """Everything that a sample depends on besides prompts, scales and seed, as JSON-serialisable values.

        `settings` are recorded in `sample.json`. `weights` are identified by content. Valid after `find`.

        Raises:
            its.errors.UserError: the spec's own settings are invalid, or it has files that the method can't use.
        """
        weights = {key: content_of(record) for key, record in self.provenance.items()}
        settings: dict[str, Any] = {n: expert.describe(defining=True) for n, expert in self.named_experts()}
        settings = {"experts": settings, **self.settings(spec)}
        if spec.files:
            settings["files"] = {name: {file.kind: f"sha256:{file.sha256}"} for name, file in spec.files.items()}
        if spec.files and not self.takes_files:
            raise UserError(
                f"{spec.source}: {', '.join(spec.files)} is a file, but {type(self).__name__} makes everything from "
                "prompts: give a prompt, or take method: Imprint"
            )
        return {"settings": settings, "weights": weights}

    def setup(self, stage: str) -> None:
        """Take the precision from the Trainer."""
        self.precision = str(self.trainer.precision)

    def on_predict_start(self) -> None:
        """Load the batch runner's own weights, so that an error comes before the first sample."""
        self.run_batch.load()

    def predict_step(self, batch: list[SampleSpec], batch_idx: int = 0) -> list[Sample]:
        """Make a sample for each spec; none after the run was stopped."""
        return [] if self.stopped is not None else self.run_batch(batch)

    def make_in_float32(self, spec: SampleSpec) -> Sample:
        """Make one sample in float32, with the loaded weights. May raise any exception."""
        dtypes = [(part, next((p.dtype for p in part.parameters()), torch.float32)) for _, part in self.components()]
        self.release()
        try:
            for part, _ in dtypes:
                part.float()
            self.forget_texts()
            with torch.autocast(self.device.type, enabled=False):
                (sample,) = self.make([spec])
            return sample
        finally:
            for part, dtype in dtypes:
                part.to(dtype)
            self.forget_texts()
            self.release()

    @property
    def half_precision(self) -> bool:
        """Whether the run's precision is less than float32."""
        return self.precision not in ("32-true", "64-true")

    @property
    def memory_key(self) -> str:
        """Equal for methods whose batches need the same memory: by weights, canvas and precision."""
        return repr((type(self).__name__, getattr(self, "canvas", None), self.precision, self.provenance))

    @property
    def target(self) -> torch.device:
        """Device of the run; the module itself may be moved there only when the predict loop begins."""
        return self.device if self._trainer is None else self.trainer.strategy.root_device

    def named_experts(self) -> Iterator[tuple[str, NoiseExpert]]:
        """Names and experts. A ModuleDict's values have the type of any module."""
        for name, expert in self.experts.items():
            assert isinstance(expert, NoiseExpert)
            yield name, expert

    def guided(self, name: str, expert: NoiseExpert, specs: Sequence[SampleSpec]) -> GuidedExpert:
        """An expert with the specs' prompts and guidance scales, which are on the method's device."""
        text = self._texts[name]
        return GuidedExpert(
            expert,
            text=text([spec.prompts[name] for spec in specs], self.device),
            null_text=text([spec.negative_prompts[name] for spec in specs], self.device),
            scales=[spec.guidance_scale[name] for spec in specs],
        )

    def forget_texts(self) -> None:
        """Clear the text caches, since the weights' precision changed."""
        for cache in self._texts.values():
            cache.clear()

    def report(self, samples: int) -> Callable[[Step], None] | None:
        """A callback that reports each step of a batch of so many samples to `on_step`; None without one."""
        on_step = self.on_step
        return None if on_step is None else lambda step: on_step(step, samples)


@contextmanager
def _keyed(key: str) -> Iterator[None]:
    """Prefix errors with a component's key."""
    try:
        yield
    except WeightsNotFound as missing:
        raise missing.prefixed(f"model.{key}") from None
    except UserError as error:
        raise UserError(f"model.{key}: {error}") from None


def method_of(module: LightningModule) -> Method:
    """Narrow a LightningModule, which Lightning's hooks get, to a Method.

    Raises:
        TypeError: it is another module.
    """
    if not isinstance(module, Method):
        raise TypeError(f"expected a Method, got {type(module).__name__}")
    return module
