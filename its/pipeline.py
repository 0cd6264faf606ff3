"""Python interface `its.Pipeline`, which builds components in the same way as `its predict`."""

from __future__ import annotations

import logging
import operator
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from tqdm.auto import tqdm

from its import registry
from its.config.compose import Config, Layer, option_layer, read_layer
from its.engine.assembly import Assembly
from its.engine.trainer import single_device
from its.errors import UserError
from its.instantiate import plain
from its.interfaces import Step
from its.methods.base import Method
from its.methods.sample import Sample
from its.report.image_that_sounds import ImageThatSounds, SampleFailed
from its.runs.writer import make_record
from its.specs.prompts import PromptGrid, SeedRange, with_material
from its.specs.spec import SampleSpec, assign_ids

logger = logging.getLogger(__name__)

Prompts = str | Path | Iterable[Mapping[str, Any]] | Mapping[str, Sequence[str]]
Seeds = int | Iterable[int] | Mapping[str, int]


class _CallbackError(BaseException):
    """Carries an exception of `on_step` through the method, which turns other exceptions into failed samples."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class Pipeline:
    """Makes images that sound with weights that stay loaded on one device.

    Equal prompts, seeds and settings result in the same samples as with `its predict`, which runs the same batches in
    Lightning's loop on any number of devices.

    Example:
        >>> pipe = its.Pipeline.from_config("castle_bell")
        >>> sample = pipe("a painting of castle towers, grayscale", "bell ringing", seed=1234)
        >>> sample.save("castle")
    """

    def __init__(
        self,
        method: Method,
        *,
        accelerator: str = "auto",
        precision: str | None = None,
        defaults: PromptGrid | None = None,
        config: Mapping[str, Any] | None = None,
        metadata: bool = True,
    ) -> None:
        """Find, download and load the weights of a method.

        Args:
            method: method, for example `its.MultimodalDenoising(experts=..., ...)`.
            accelerator: `cpu`, `cuda`, `mps`, or `auto` for a GPU if available.
            precision: Lightning's name of the precision; by default float16 on CUDA devices and float32 elsewhere.
            defaults: default prompts, seeds, guidance scales and negative prompts of calls.
            config: resolved config for records, from which `its rerun` can make a sample again.
            metadata: whether saved files include the metadata for `its rerun`.

        Raises:
            TypeError: `method` is not a method; configs go to `from_config`.
            its.weights.WeightsNotFound: weights are neither on this machine nor downloadable.
            its.errors.UserError: components are incompatible, or weights or device can't be used.
        """
        if not isinstance(method, Method):
            kind = type(method).__name__
            raise TypeError(f"got {kind}; expected a method of components. For configs: its.Pipeline.from_config(...)")
        registry.load_plugins()  # also registers packs of weights
        self.method = method
        self.metadata = metadata
        self.defaults = defaults or PromptGrid(prompts=[])
        self.config = config or _describe(method)
        self._fabric, method.precision = single_device(accelerator, precision, method.cuda_precision)
        self._lock = threading.Lock()
        self._load()

    @classmethod
    def from_config(
        cls,
        *configs: str | Path,
        overrides: Mapping[str, Any] | None = None,
        accelerator: str | None = None,
        precision: str | None = None,
        trust: Sequence[str] = (),
    ) -> Pipeline:
        """Build a pipeline from configs of `its predict`, and load its weights.

        Args:
            configs: names of packaged configs, paths of YAML files, or files of samples; each overlays the one before.
            overrides: YAML values or components by dotted key, for example `{"model.steps": 50}`; they overlay all
                configs.
            accelerator: replaces the configs' `trainer.accelerator`.
            precision: replaces the configs' `trainer.precision`.
            trust: plugin modules to import, whose classes the configs may name.

        Raises:
            TypeError: a config is not text or a path, or `overrides` is not a mapping from text.
            its.errors.UserError: a config is invalid, or weights can't be found and the config allows no fallback.
        """
        for config in configs:
            if not isinstance(config, str | Path):
                raise TypeError(f"got a config of the type {type(config).__name__}; expected a name or a path")
        if not configs and not overrides:
            raise UserError("no config was given; expected for example its.Pipeline.from_config('castle_bell')")
        modules = [trust] if isinstance(trust, str) else trust
        registry.load_plugins()
        registry.load_modules(modules)
        arguments = {"trainer.accelerator": accelerator, "trainer.precision": precision}
        layers = [
            Layer("its.Pipeline", {"data": {"prompts": []}}),  # prompts may come with each call
            *map(read_layer, configs),
            option_layer(overrides or {}, "overrides"),
            option_layer({key: value for key, value in arguments.items() if value is not None}, "arguments"),
        ]
        assembly = Assembly(Config([*map(_select_keys, layers)]), trusted=modules)
        warning = assembly.find_weights()
        if warning is not None:
            logger.warning(warning)
        trainer = assembly.trainer
        return cls(
            assembly.method,
            accelerator=trainer.get("accelerator") or "auto",
            precision=trainer.get("precision"),
            defaults=assembly.data,
            config=assembly.resolved,
            metadata=assembly.options.metadata,
        )

    @property
    def experts(self) -> list[str]:
        """Names of the experts that require a prompt, in the order of positional prompts: visual experts first."""
        is_audio = {name: expert.format is not None for name, expert in self.method.named_experts()}
        return sorted(self.method.expert_names, key=lambda name: is_audio.get(name, False))

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self._fabric.device

    def __call__(
        self,
        *prompts: str,
        seed: int | None = None,
        negative_prompts: str | Mapping[str, str] | None = None,
        guidance_scale: float | Mapping[str, float] | None = None,
        start: Mapping[str, Any] | None = None,
        keep: Mapping[str, Any] | None = None,
        control: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        interpolate: Mapping[str, Any] | None = None,
        progress: bool = True,
        on_step: Callable[[Step], None] | None = None,
        **named: str,
    ) -> ImageThatSounds:
        """Make one sample.

        Args:
            prompts: one for each expert, in the order of `experts`; by default the first row of the config.
            seed: seed of the noise; by default the config's first.
            negative_prompts, guidance_scale: values for all experts or by expert, which replace the config's.
            start: picture or sound to start from, for example `{"image": "castle.png", "strength": 0.6}`.
            keep: region of the start to keep, `{"mask": "mask.png"}`, white where it is.
            control: picture for a control net, `{"image": "outline.png", "scale": 1.0, "edges": False}`, or a list.
            interpolate: other end of a transition, `{"to": {"visual": ..., "seed": 2}, "fraction": 0.5}`, or
                `"canvas": True` for a change from left to right.
            progress: whether to show a progress bar.
            on_step: called after each step; `step.predict_clean()` returns the current estimate of the clean latents.
                An exception in it ends the call.
            named: prompts by the names of the experts.

        Raises:
            SampleFailed: the sample could not be made.
            its.errors.UserError: prompts or settings are invalid.
        """
        rows = [self._row(prompts, named)] if prompts or named else None
        grid = self._grid(rows, seed, negative_prompts, guidance_scale)
        given = {"start": start, "keep": keep, "control": control, "interpolate": interpolate}
        own = {key: _plain_paths(value) for key, value in given.items() if value is not None}
        specs = [with_material(spec, own, "its.Pipeline") for spec in grid.expand(self.method.expert_names)[:1]]
        (sample,) = self._make(assign_ids(specs, self.method.definition), grid, progress=progress, on_step=on_step)
        if sample.error is not None:
            failure = SampleFailed(f"{sample.id}: {sample.error}")
            failure.add_note(sample.sample.traceback or "")
            raise failure
        return sample

    def generate(
        self,
        prompts: Prompts | None = None,
        *,
        seeds: Seeds | None = None,
        negative_prompts: str | Mapping[str, str] | None = None,
        guidance_scale: float | Mapping[str, float] | None = None,
        sweep: Mapping[str, Sequence[Any]] | None = None,
        batch_size: int | Literal["auto"] | None = None,
        progress: bool = True,
        on_step: Callable[[Step], None] | None = None,
    ) -> Iterator[ImageThatSounds]:
        """Make a sample of every prompt with every seed, and yield each when its batch is finished.

        Args:
            prompts: rows of prompts by expert, which may also have the keys of `data.prompts`, such as `start`; a list
                of prompts for each expert, of which every combination is made; or a file of prompts. The default is the
                config's.
            seeds: numbers, or `{"start": 0, "count": 100}`; the default is the config's.
            negative_prompts, guidance_scale: values for all experts or by expert, which replace the config's.
            sweep: lists of values by setting, as `data.sweep`: for example `{"steps": [20, 50]}`. All combinations are
                made with the loaded weights. The default is the config's.
            batch_size: samples in a batch; the default is the config's.
            progress: whether to show a progress bar.
            on_step: called after each step of each batch; an exception in it ends the generator.

        Yields:
            Samples without duplicates. A failed sample has an `error`, and the others are still made.

        Raises:
            its.errors.UserError: prompts or settings are invalid; nothing was made.
        """
        grid = self._grid(prompts, seeds, negative_prompts, guidance_scale, batch_size)
        grid.sweep = self.defaults.sweep if sweep is None else {key: list(values) for key, values in sweep.items()}
        specs = assign_ids(grid.expand(self.method.expert_names), self.method.definition)
        return self._make(specs, grid, progress=progress, on_step=on_step)

    def _load(self) -> None:
        self.method.prepare()
        self.method.to(self.device)  # before weights are loaded, since components select implementations by device
        with self._fabric.init_module():
            self.method.configure_model()
        self._fabric.setup_module(self.method)  # moves it, and casts it to the precision
        self.method.eval().requires_grad_(False)
        self.method.run_batch.load()

    def _row(self, prompts: Sequence[str], named: Mapping[str, str]) -> dict[str, str]:
        """Return the row of positional and named prompts."""
        expected = f"expected one prompt for each of {', '.join(self.experts)}"
        positional = dict(zip(self.experts, prompts, strict=False))
        if len(prompts) > len(self.experts):
            raise UserError(f"got {len(prompts)} prompts; {expected}")
        if unknown := named.keys() - set(self.experts):
            raise UserError(f"got the argument {min(unknown)}; {expected}. Settings are overrides of from_config")
        if repeated := positional.keys() & named.keys():
            raise UserError(f"got two prompts for {', '.join(repeated)}; {expected}")
        row = positional | dict(named)
        if len(row) < len(self.experts):
            raise UserError(f"got a prompt for {', '.join(row)}; {expected}")
        return row

    def _grid(
        self,
        prompts: Prompts | None,
        seeds: Seeds | None,
        negative_prompts: str | Mapping[str, str] | None,
        guidance_scale: float | Mapping[str, float] | None,
        batch_size: int | Literal["auto"] | None = None,
    ) -> PromptGrid:
        defaults = self.defaults
        rows: Any = defaults.prompts if prompts is None else prompts
        own: dict[str, Any] = defaults.material
        if isinstance(rows, Path):
            rows = str(rows)
        elif not isinstance(rows, str | Mapping):
            rows = _plain_paths(list(rows))
        if not rows:
            raise UserError(f"no prompts were given, and the config has none: give one for {', '.join(self.experts)}")
        if not isinstance(batch_size, int | None) and batch_size != "auto":
            raise UserError(f"batch_size is {batch_size!r}; expected a whole number or auto")
        grid = PromptGrid(
            prompts=rows,
            seeds=defaults.seeds if seeds is None else _parse_seeds(seeds),
            negative_prompts={**defaults.negative_prompts, **self._by_expert(negative_prompts)},
            guidance_scale={**defaults.guidance_scale, **self._by_expert(guidance_scale)},
            batch_size=defaults.batch_size if batch_size is None else batch_size,
            **own,
        )
        grid.fix_batch_size(self.device.type, one_by_one=self.method.one_by_one)
        return grid

    def _by_expert(self, value: Any) -> dict[str, Any]:
        """Convert a value for all experts, or values by expert, to a mapping."""
        if value is None:
            return {}
        return dict(value) if isinstance(value, Mapping) else dict.fromkeys(self.method.expert_names, value)

    def _make(
        self, specs: list[SampleSpec], grid: PromptGrid, *, progress: bool, on_step: Callable[[Step], None] | None
    ) -> Iterator[ImageThatSounds]:
        grid.rows = specs
        with tqdm(total=len(specs), unit="sample", disable=not progress, file=sys.stderr, leave=False) as bar:
            for batch in grid.predict_dataloader():
                for sample in self._run(batch, bar, on_step):
                    record = make_record(sample, self.method, self.config)
                    yield ImageThatSounds(sample=sample, record=record, metadata=self.metadata)

    def _run(self, batch: list[SampleSpec], bar: tqdm[Any], on_step: Callable[[Step], None] | None) -> list[Sample]:
        begin = bar.n

        def report(step: Step, size: int) -> None:
            share = round(size * (step.index + 1) / step.steps, 2)
            bar.update(max(0, round(begin + share - bar.n, 2)))  # the method may halve the batch and repeat steps
            if on_step is not None:
                try:
                    on_step(step)
                except Exception as error:  # noqa: BLE001 - raised again outside of the method
                    raise _CallbackError(error) from None

        mode = torch.no_grad() if self.method.needs_gradients else torch.inference_mode()
        with self._lock, mode, self._fabric.autocast():
            self.method.on_step = report
            try:
                samples = self.method.run_batch(batch)
            except _CallbackError as stopped:
                raise stopped.error from None
            finally:
                self.method.on_step = None
        bar.update(round(begin + len(batch) - bar.n, 2))
        return samples


def _select_keys(layer: Layer) -> Layer:
    """Remove the keys that only affect the run directory and the Trainer of `its predict`."""
    values = {key: value for key, value in layer.values.items() if key != "output"}
    if isinstance(trainer := values.get("trainer"), Mapping):
        values["trainer"] = {key: value for key, value in trainer.items() if key in ("accelerator", "precision")}
    return replace(layer, values=values)


def _describe(method: Method) -> dict[str, Any]:
    """Derive a config from the arguments of a method's constructor."""
    return {"method": type(method).__name__, "model": plain(method.arguments), "save": []}


def _plain_paths(value: Any) -> Any:
    """Convert paths in a nested value to text."""
    if isinstance(value, Mapping):
        return {key: _plain_paths(inner) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain_paths(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value


def _parse_seeds(seeds: Seeds) -> list[int] | SeedRange:
    """Convert seeds to values of `data.seeds`. NumPy integers are accepted, but not fractions, texts or booleans."""
    try:
        if isinstance(seeds, range) and seeds.step == 1:
            return SeedRange(start=seeds.start, count=len(seeds))
        if isinstance(seeds, Mapping):
            return SeedRange(start=operator.index(seeds["start"]), count=operator.index(seeds["count"]))
        numbers = list(seeds) if isinstance(seeds, Iterable) else [seeds]
        if any(isinstance(seed, bool) for seed in numbers):
            raise TypeError
        return [operator.index(seed) for seed in numbers]
    except (TypeError, KeyError):
        raise UserError(f"seeds are {seeds!r:.80}; expected whole numbers, or a mapping of start and count") from None
