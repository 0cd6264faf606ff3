"""Base class of all methods: loads components and turns sample specs into samples."""

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
from its.weights.source import weights_identity


@extension_point
class Method(KeepsArguments, LightningModule, ABC):
    """Base class of all methods. The constructor's arguments are the keys under `model` in a config.

    Subclasses implement the constructor, `settings`, `length` and `make`, and extend `components` and `check`.

    Attributes:
        experts: experts by name. Prompts, guidance scales and weights refer to these names.
        fallback: pack of weights to use if weights in the config can't be found; None to raise an error.
        fallback_taken: reason for using the fallback; None if it is not used.
        provenance: provenance of the weights, by component key. Filled by `find`.
        stopped: reason for stopping the run before the next batch; None to continue.
        on_step: progress callback, called after each step with the step and the batch size.
        run_batch: runs `make` on a batch and handles errors.
        fixed_shapes: whether smaller batches are padded to the size of the largest.
        one_by_one: whether `make` processes samples sequentially, so that larger batches are not faster.
        needs_gradients: whether `make` computes gradients, so that inference mode must be off.
        cuda_precision: default precision on CUDA devices.
        has_latents: whether samples have latents that can be saved.
        supports_files: whether specs may have pictures and sounds instead of prompts.
        supports_material: whether specs may have own material and transitions, see `its.specs.material`.
        startup: seconds before the first batch, by stage, for the records of its samples.
        samples: parent folder of the sample folders, for checkpoints; None to write none.
        precision: precision of the run, in Lightning's terms.
    """

    fixed_shapes = False
    one_by_one = False
    needs_gradients = False
    cuda_precision = "16-true"  # the authors' setting
    has_latents = True
    supports_files = False
    supports_material = False

    def __init__(self, *, experts: dict[str, NoiseExpert], fallback: str | None) -> None:
        super().__init__()
        for name in experts:
            if not re.fullmatch(r"\w+", name):
                raise UserError(f"model.experts.{name} is not a valid name; expected letters, digits and underscores")
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
        """Names of the experts that require a prompt."""
        return list(self.experts)

    def components(self) -> list[tuple[str, Component]]:
        """Return all components that may have weights, each once, with its config key. The default is the experts."""
        return [(f"experts.{name}", expert) for name, expert in self.named_experts()]

    def check(self) -> None:
        """Check that the components are compatible. Called by `find`, before large downloads.

        Raises:
            its.errors.UserError: they are not; the message contains the key.
        """

    @abstractmethod
    def settings(self, spec: SampleSpec) -> dict[str, Any]:
        """Return all settings that affect a sample, other than experts, prompts, guidance scales and seed.

        They must be JSON-serialisable. They are recorded in `sample.json` and are part of the sample's id.

        Raises:
            its.errors.UserError: a setting of the spec is invalid.
        """

    @abstractmethod
    def length(self, spec: SampleSpec) -> str:
        """Return the amount of work for a sample, for messages. Example: `100 steps`."""

    @abstractmethod
    def make(self, specs: Sequence[SampleSpec]) -> list[Sample]:
        """Make one sample for each spec, in the same order. The specs have equal `batch_key`s.

        A sample must not depend on the other samples of the batch. `run_batch` handles exceptions.
        """

    def roles(self) -> dict[str, str]:
        """Return the name of the first visual and of the first audio expert, by "visual" and "audio".

        Audio experts are those with a spectrogram format. A kind without an expert is omitted.
        """
        kinds = [("visual" if expert.format is None else "audio", name) for name, expert in self.named_experts()]
        return dict(reversed(kinds))

    def batch_key(self, spec: SampleSpec) -> str:
        """Return a key that is equal for specs that can share a batch."""
        return ""

    def unused_components(self) -> set[str]:
        """Return the keys of components that no sample needs. They are located, but not loaded."""
        return set()

    def release(self) -> None:
        """Free device memory that only serves speed, such as CUDA graphs."""

    def find(self) -> list[Download]:
        """Locate all weights, check the components, and return the downloads that `prepare` will make.

        Raises:
            its.weights.WeightsNotFound: weights can't be found; the message begins with the component's key.
            its.errors.UserError: components are incompatible, or weights are of the wrong kind.
        """
        format = next((expert.format for _, expert in self.named_experts() if expert.format is not None), None)
        downloads = []
        for key, component in self.components():
            if isinstance(component, Vocoder) and format is not None:
                component.set_format(format)
            with _prefix_errors(key):
                downloads += component.find()
        self.check()
        records = {key: component.provenance() for key, component in self.components()}
        self.provenance = {key: record for key, record in records.items() if record is not None}
        return downloads

    def prepare(self) -> None:
        """Locate all weights and download missing files. Nothing is loaded.

        Raises:
            its.weights.WeightsNotFound, its.errors.UserError: as `find`, or the disk is too full.
        """
        download(self.find())
        for key, component in self.components():
            with _prefix_errors(key):
                component.prepare()

    def configure_model(self) -> None:
        """Load all weights. Lightning may call this repeatedly."""
        begin, unused = time.perf_counter(), self.unused_components()
        for key, component in self.components():
            if key in unused:
                continue
            try:
                component.load()
            except (UserError, torch.OutOfMemoryError):
                raise
            except (OSError, ValueError, KeyError, RuntimeError) as error:  # libraries raise these for damaged files
                reason = " ".join(str(error).split())[:400]
                raise UserError(f"model.{key}: its weights can't be read: {type(error).__name__}: {reason}") from error
        self.eval().requires_grad_(False)
        self.startup.setdefault("load", time.perf_counter() - begin)

    def definition(self, spec: SampleSpec) -> dict[str, Any]:
        """Return everything that affects a sample, other than prompts, guidance scales and seed. Valid after `find`.

        `settings` are recorded in `sample.json`. `weights` are identified by content. Both are JSON-serialisable.

        Raises:
            its.errors.UserError: a setting of the spec is invalid, or the method does not support its files.
        """
        weights = {key: weights_identity(record) for key, record in self.provenance.items()}
        settings: dict[str, Any] = {n: expert.describe(identity_only=True) for n, expert in self.named_experts()}
        settings = {"experts": settings, **self.settings(spec)}
        if spec.files:
            settings["files"] = {name: {file.kind: f"sha256:{file.sha256}"} for name, file in spec.files.items()}
        settings |= spec.material.describe()
        if spec.transition is not None:
            settings["interpolate"] = spec.transition.row()
        if (spec.material or spec.transition) and not self.supports_material:
            keys = ", ".join([*spec.material.row(), *(["interpolate"] if spec.transition else [])])
            raise UserError(
                f"{spec.source}: {type(self).__name__} does not support {keys}: remove it, or set method: "
                "MultimodalDenoising"
            )
        if spec.files and not self.supports_files:
            raise UserError(
                f"{spec.source}: {', '.join(spec.files)} is a file, but {type(self).__name__} supports only prompts: "
                "give a prompt, or set method: Imprint"
            )
        return {"settings": settings, "weights": weights}

    def setup(self, stage: str) -> None:
        """Take the precision from the Trainer."""
        self.precision = str(self.trainer.precision)

    def on_predict_start(self) -> None:
        """Load the batch runner, so that errors are raised before the first sample."""
        self.run_batch.load()

    def predict_step(self, batch: list[SampleSpec], batch_idx: int = 0) -> list[Sample]:
        """Make a sample for each spec. Returns no samples once `stopped` is set."""
        return [] if self.stopped is not None else self.run_batch(batch)

    def make_in_float32(self, spec: SampleSpec) -> Sample:
        """Make one sample in float32 with the loaded weights. May raise any exception."""
        components = [component for _, component in self.components()]
        dtypes = [next((x.dtype for x in component.parameters()), torch.float32) for component in components]
        self.release()
        try:
            for component in components:
                component.float()
            self.clear_text_caches()
            with torch.autocast(self.device.type, enabled=False):
                (sample,) = self.make([spec])
            return sample
        finally:
            for component, dtype in zip(components, dtypes, strict=True):
                component.to(dtype)
            self.clear_text_caches()
            self.release()

    @property
    def half_precision(self) -> bool:
        """Whether the run's precision is below float32."""
        return self.precision not in ("32-true", "64-true")

    @property
    def memory_key(self) -> str:
        """Key that is equal for runs with equal memory use per sample: same method, canvas, precision and weights."""
        return repr((type(self).__name__, getattr(self, "canvas", None), self.precision, self.provenance))

    @property
    def target(self) -> torch.device:
        """Device of the run, to which Lightning may move the module only when the predict loop begins."""
        return self.device if self._trainer is None else self.trainer.strategy.root_device

    def named_experts(self) -> Iterator[tuple[str, NoiseExpert]]:
        """Yield names and experts, typed as `NoiseExpert`."""
        for name, expert in self.experts.items():
            assert isinstance(expert, NoiseExpert)
            yield name, expert

    def guided(self, name: str, expert: NoiseExpert, specs: Sequence[SampleSpec]) -> GuidedExpert:
        """Bind an expert to the specs' prompts and guidance scales, on the method's device."""
        encode = self._texts[name]
        return GuidedExpert(
            expert,
            text=encode([spec.prompts[name] for spec in specs], self.device),
            null_text=encode([spec.negative_prompts[name] for spec in specs], self.device),
            scales=[spec.guidance_scale[name] for spec in specs],
        )

    def clear_text_caches(self) -> None:
        """Clear the text caches, after a change of the weights' precision."""
        for cache in self._texts.values():
            cache.clear()

    def report(self, samples: int) -> Callable[[Step], None] | None:
        """Return a callback that passes each step to `on_step` with this batch size; None if `on_step` is None."""
        on_step = self.on_step
        return None if on_step is None else lambda step: on_step(step, samples)


@contextmanager
def _prefix_errors(key: str) -> Iterator[None]:
    try:
        yield
    except WeightsNotFound as missing:
        raise missing.prefixed(f"model.{key}") from None
    except UserError as error:
        raise UserError(f"model.{key}: {error}") from None


def method_of(module: LightningModule) -> Method:
    """Narrow the LightningModule passed to Lightning's hooks to a Method. Raises TypeError for other modules."""
    if not isinstance(module, Method):
        raise TypeError(f"expected a Method, got {type(module).__name__}")
    return module
